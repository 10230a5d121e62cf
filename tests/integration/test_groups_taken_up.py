"""A group whose process has died, or whose record was wiped out, ends as if nothing had happened."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from graflow import workflow
from graflow.core.checkpoint import CheckpointManager
from graflow.core.context import ExecutionContext
from graflow.core.task import ParallelGroup
from graflow.exceptions import GraflowRuntimeError
from graflow.trace.base import Tracer
from graflow_celery import LocalCluster
from graflow_celery.deployment import deployment_of
from tests.cluster_support import BEHAVIOURS
from tests.integration.behaviours import acting
from tests.support import wait_until

pytestmark = pytest.mark.redis

GIVEN = {"items": ["given"], "count": 10, "gone": 1, "kept": {"a": [1]}}


class Crash(BaseException):
    """Ends the process, as far as the run can tell."""


class Crashing(Tracer):
    """Crashes while the run waits for a group, or after it."""

    def __init__(self, place: str) -> None:
        self.place = place

    def on_member_end(self, *_: Any, **__: Any) -> None:
        if self.place == "in the group":
            raise Crash

    def on_task_start(self, task: Any, context: Any) -> None:
        if self.place == task.task_id:
            raise Crash


@pytest.mark.parametrize("channel", ["memory", "redis"])
@pytest.mark.parametrize("place", ["in the group", "after", "nowhere"])
def test_a_run_that_is_taken_up_has_the_channel_that_it_would_have_had(
    config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, channel: str
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("GRAFLOW_REDIS_URL", config["url"].reveal())
    monkeypatch.setenv("GRAFLOW_SIGNING_KEY", config["signing_key"].reveal())
    path, notes = str(tmp_path / "saved"), tmp_path / "notes"
    with workflow("w") as wf:
        do = [("note", str(notes)), ("append", "items"), ("atomic_add", "count", 1), ("get", "kept")]
        both = [acting("a", do), acting("b", [*do, ("delete_under_lock", "gone")])]
        group = ParallelGroup(both, name="g").with_execution("redis", config)
        acting("first", [("checkpoint", path)]) >> group >> acting("after", [])
    kept = {"channel_backend": channel, "config": config if channel == "redis" else None}
    context = ExecutionContext.create(wf.graph.copy(), "first", tracer=Crashing(place), **kept)
    context.channel.set_many(GIVEN)
    if place == "nowhere":
        context.execute()
    else:
        with pytest.raises(Crash):
            context.execute()
        context, _ = CheckpointManager.resume_from_checkpoint(path)
        context.execute()

    found = {key: context.channel.get(key) for key in GIVEN}
    found["items"].sort()
    assert found == {"items": ["a", "b", "given"], "count": 12, "gone": None, "kept": {"a": [1]}}
    assert context.get_result("first") == ["first", 1, 0, None]
    assert sorted(notes.read_text(encoding="utf-8").split()) == ["a", "b"]


@pytest.mark.slow
def test_members_find_the_channel_again_when_their_server_was_emptied() -> None:
    with LocalCluster(workers=0, imports=[BEHAVIOURS]) as emptied, ThreadPoolExecutor(1) as pool:
        config = emptied.backend_config
        with workflow("w") as wf:
            both = [acting("a", [("get", "kept")]), acting("b", [("append", "items")])]
            ParallelGroup(both, name="g").with_execution("redis", config)
        context = ExecutionContext.create(wf.graph.copy(), "g")
        context.channel.set_many(GIVEN)
        execution = pool.submit(context.execute)
        deployment = deployment_of(config)
        wait_until(lambda: any(deployment.record.header(run).published for run in deployment.record.open_groups()))
        deployment.client.flushdb()
        emptied.scale(1)
        execution.result(30)
    assert context.get_result("a")[-1] == {"a": [1]}
    assert context.channel.get("items") == ["given", "b"]
    assert context.channel.get("gone") == 1


@pytest.mark.parametrize("ending", ["fail", "terminate", "note"])
def test_the_channel_of_a_group_is_kept_while_its_run_may_be_taken_up(
    config: dict[str, Any], tmp_path: Path, ending: str
) -> None:
    with workflow("w") as wf:
        both = [acting("a", [("append", "items")]), acting("b", [])]
        group = ParallelGroup(both, name="g").with_execution("redis", {**config, "result_ttl": 50})
        group >> acting("last", [(ending, "plain" if ending == "fail" else str(tmp_path / "notes"))])
    context = ExecutionContext.create(wf.graph.copy(), "g")
    context.channel.set_many(GIVEN)
    with contextlib.suppress(GraflowRuntimeError):
        context.execute()

    client = deployment_of(config).client
    left = [client.ttl(key) for key in client.scan_iter(f"graflow:channel:{context.session_id}:g:0:*")]
    assert len(left) == (len(GIVEN) if ending == "fail" else 0)
    assert all(0 < seconds <= 50 for seconds in left)
