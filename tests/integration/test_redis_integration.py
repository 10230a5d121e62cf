"""Workflows whose groups run on Celery workers."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from graflow import task, workflow
from graflow.coordination.coordinator import CoordinationBackend
from graflow.core.checkpoint import CheckpointManager
from graflow.core.context import ExecutionContext
from graflow.core.engine import WorkflowEngine
from graflow.exceptions import ConfigError, GraflowRuntimeError, GroupTimeoutError, ParallelGroupError
from graflow_celery import LocalCluster
from graflow_celery.deployment import deployment_of
from tests.integration import members
from tests.support import at_once

pytestmark = pytest.mark.redis


def test_a_fan_out_between_two_tasks(config: dict[str, Any]) -> None:
    with workflow("report") as wf:
        shards = members.double.map([1, 2, 3], name="shards")
        shards.with_execution(CoordinationBackend.REDIS, backend_config=config)
        members.listing >> shards >> members.total
        value, context = wf.execute(ret_context=True)
    assert value == 12
    assert context.get_result("shards") == [2, 4, 6]
    assert context.completed_tasks == ["listing", "shards[0]", "shards[1]", "shards[2]", "shards", "total"]
    assert context.steps == 6


def test_arguments_come_from_earlier_tasks_and_plain_keys(config: dict[str, Any]) -> None:
    with workflow("w") as wf:
        group = members.scaled(task_id="a", x=2) | members.scaled(task_id="b", x=3)
        group.with_execution("redis", backend_config=config)
        _, context = wf.execute(group.task_id, ret_context=True, initial_channel={"factor": 10})
    assert [context.get_result(name) for name in "ab"] == [20, 30]


def test_a_diamond_runs_its_join_once(config: dict[str, Any]) -> None:
    runs: list[int] = []

    @task
    def join() -> int:
        runs.append(1)
        return len(runs)

    with workflow("w") as wf:
        group = (members.double(task_id="l", x=1) | members.double(task_id="r", x=2)).with_execution(
            "redis", backend_config=config
        )
        members.listing >> group >> join
        assert wf.execute() == 1


def test_the_same_workflow_runs_twice_at_once(config: dict[str, Any]) -> None:
    with workflow("w") as wf:
        shards = members.double.map(range(20), name="shards").with_execution("redis", backend_config=config)
        shards >> members.total
    assert at_once(lambda _: wf.execute(), range(2)) == [380, 380]


def test_members_that_use_the_channel_share_it_whatever_the_parents_is(config: dict[str, Any]) -> None:
    with workflow("w") as wf:
        group = members.use_channel(task_id="m1", x=1) | members.use_channel(task_id="m2", x=2)
        group.with_execution("redis", backend_config=config)
        members.listing >> group
        _, context = wf.execute(ret_context=True, initial_channel={"given": (1, "two"), "sum": 10, "seen": [0]})
    assert context.get_result("m1") == ((1, "two"), [1, 2, 3])
    assert context.channel.get("sum") == 13
    assert sorted(context.channel.get("seen")) == [0, 1, 2]
    assert context.channel.get("last") == 2


def test_a_value_that_could_not_be_sent_is_an_error_that_names_its_key(config: dict[str, Any]) -> None:
    with workflow("w") as wf:
        group = members.read_key(task_id="r", x=1) | members.who(task_id="w", x=1)
        group.with_execution("redis", backend_config=config, policy="best_effort")
        _, context = wf.execute(group.task_id, ret_context=True, initial_channel={"lock": threading.Lock()})
    assert "'lock'" in str(context.get_result("r"))
    assert context.has_completed("w")


def test_a_context_over_a_redis_channel_is_seen_by_members_directly(cluster: LocalCluster) -> None:
    config = cluster.backend_config
    with workflow("w") as wf:
        group = members.use_channel(task_id="m1", x=1) | members.use_channel(task_id="m2", x=2)
        group.with_execution("redis", backend_config=config)
    context = ExecutionContext.create(wf.graph, group.task_id, channel_backend="redis", config=config)
    context.channel.set("given", 5)
    WorkflowEngine().execute(context)
    assert context.channel.get("sum") == 3
    assert context.get_result("m2") == (5, None)
    context.channel.clear()


def test_a_group_with_a_key_does_not_meet_a_channel_that_signs_nothing(
    no_workers: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GRAFLOW_SIGNING_KEY", raising=False)
    config = no_workers.backend_config
    without = {name: value for name, value in config.items() if name != "signing_key"}
    with workflow("w") as wf:
        group = members.use_channel(task_id="m1", x=1) | members.use_channel(task_id="m2", x=2)
        group.with_execution("redis", backend_config=config)
    context = ExecutionContext.create(wf.graph, group.task_id, channel_backend="redis", config=without)
    before = deployment_of(config).record.open_groups()

    with pytest.raises(ConfigError, match=r"The group has a signing key and the channel has none.*give both"):
        WorkflowEngine().execute(context)
    assert deployment_of(config).record.open_groups() == before


def test_failures_of_members_are_results_and_refused_by_a_strict_group(config: dict[str, Any]) -> None:
    with workflow("w") as wf:
        group = members.fail(task_id="bad", x=1) | members.noop(task_id="good", x=2)
        group.with_execution("redis", backend_config=config)
        with pytest.raises(ParallelGroupError) as caught:
            wf.execute(group.task_id)
    assert caught.value.failed_tasks == [("bad", "no 1")]
    assert isinstance(caught.value.errors["bad"], ValueError)


def test_a_group_that_takes_too_long_ends_with_its_name(config: dict[str, Any]) -> None:
    with workflow("w") as wf:
        group = members.patient.map(range(2), name="patients")
        group.with_execution("redis", backend_config={**config, "timeout": 0.3})
        group >> members.listing
        with pytest.raises(GroupTimeoutError, match="'patients'"):
            wf.execute()


def test_settings_may_come_from_the_context(config: dict[str, Any]) -> None:
    with workflow("w") as wf:
        group = (members.noop(task_id="a", x=1) | members.noop(task_id="b", x=2)).with_execution("redis")
    context = ExecutionContext.create(wf.graph, group.task_id, config={**config, "something_else": 1})
    WorkflowEngine().execute(context)
    assert context.get_result("b") == 2


def test_a_run_that_is_resumed_does_not_run_finished_members_again(
    cluster: LocalCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = cluster.backend_config
    # A checkpoint keeps no secrets: the process that resumes knows them from its environment.
    monkeypatch.setenv("GRAFLOW_REDIS_URL", config["url"].reveal())
    monkeypatch.setenv("GRAFLOW_SIGNING_KEY", config["signing_key"].reveal())
    blocked = tmp_path / "blocked"
    marks = tmp_path / "marks"

    with workflow("w") as wf:
        shards = members.count_run.map([(str(marks), str(blocked), index) for index in range(4)], name="shards")
        shards.with_execution("redis", backend_config=config)
        members.listing >> shards
        blocked.touch()
    context = ExecutionContext.create(wf.graph, "listing")
    path, _ = CheckpointManager.create_checkpoint(context, path=str(tmp_path / "point"))
    with pytest.raises(GraflowRuntimeError, match="blocked"):
        context.execute()
    blocked.unlink()
    restored, _ = CheckpointManager.resume_from_checkpoint(path)
    restored.execute()
    assert sorted(marks.read_text(encoding="utf-8").split()) == ["0", "1", "2", "3", "3"]
