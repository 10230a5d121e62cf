"""Flows with a Redis: their store, their groups on workers, and flows that workers run themselves."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from graflow.cli.main import graflow
from graflow.exceptions import StoreConfigError
from graflow.flows import FlowRunner
from graflow.state import FlowStatus
from graflow_celery import LocalCluster, attach
from tests.flows import on_workers
from tests.support import wait_until

pytestmark = [pytest.mark.redis, pytest.mark.slow]

WHOLE = ["load", "page 0", "page 1", "page 2", "page 3", "report"]


@pytest.fixture(scope="module")
def cluster():
    """One worker of concurrency 1."""
    with LocalCluster(workers=1, imports=[on_workers.__name__]) as running:
        yield running


@pytest.fixture
def runner(cluster):
    with FlowRunner(backend="redis", backend_config=cluster.backend_config, config=cluster.backend_config) as made:
        yield made


def environment(cluster):
    config = cluster.backend_config
    return {
        **os.environ,
        "GRAFLOW_REDIS_URL": config["url"].reveal(),
        "GRAFLOW_KEY_PREFIX": config["key_prefix"],
        "GRAFLOW_SIGNING_KEY": config["signing_key"].reveal(),
    }


def started(cluster, *arguments):
    command = [sys.executable, "-m", "tests.flows.on_workers", *map(str, arguments)]
    return subprocess.Popen(command, env=environment(cluster))


def ran(folder: Path):
    path = folder / "ran"
    return path.read_text("utf-8").split("\n")[:-1] if path.exists() else []


@pytest.mark.parametrize("nested", [False, True], ids=["flat", "nested"])
def test_a_flow_with_groups_completes_on_one_worker_of_one_slot(runner, tmp_path, nested):
    flow_id = runner.submit("pages_on_workers", {"folder": str(tmp_path), "nested": nested})
    state = runner.wait(flow_id, 60)
    assert state.status is FlowStatus.COMPLETED, state.error
    assert state.outputs == [flow_id, [0, 10, 20, 30]]
    assert sorted(ran(tmp_path)) == sorted([*WHOLE, *(["in0", "in1"] if nested else [])])
    pages = next(row for row in state.steps if row.step_name == "pages")
    assert pages.counts == {"completed": 4}
    assert [member.worker is not None for member in runner.list_members(flow_id, "pages")] == [True] * 4


def test_members_on_workers_know_their_flow_as_members_here_do(runner):
    here = runner.execute("keys_on_workers", {"backend": "direct"})
    away = runner.execute("keys_on_workers", {"backend": "redis"})
    assert here.status is FlowStatus.COMPLETED, here.error
    assert away.status is FlowStatus.COMPLETED, away.error
    assert [each[3] for each in here.outputs] == ["/outer/1/0/k0", "/outer/1/1/0/k2", "/outer/1/1/1/k3"]
    assert [each[3] for each in away.outputs] == [each[3] for each in here.outputs]
    assert [each[:3] for each in away.outputs] == [["keys_on_workers", {"backend": "redis"}, 1]] * 3


def test_a_flow_that_is_executed_here_has_its_members_on_workers(runner, tmp_path):
    state = runner.execute("pages_on_workers", {"folder": str(tmp_path)})
    assert state.status is FlowStatus.COMPLETED, state.error
    assert sorted(ran(tmp_path)) == sorted(WHOLE)


def test_members_on_workers_are_given_what_is_kept_and_keep_what_they_give(runner, tmp_path):
    def execute(numbers):
        return runner.execute("kept_on_workers", {"folder": str(tmp_path), "numbers": numbers})

    first, second, third = execute([1, 2]), execute([2, 3, 1]), execute([3, 2])
    assert [state.outputs for state in (first, second, third)] == [[1, 4], [4, 9, 1], [9, 4]]
    assert sorted(ran(tmp_path)) == ["squared 1", "squared 2", "squared 3"]
    members = runner.list_members(second.flow_id, "squares")
    assert [each.status for each in members] == ["cached", "completed", "cached"]
    assert members[0].source["flow_id"] == first.flow_id
    assert members[0].source["index"] == 1
    assert members[1].cache["differs"] == ["input 'number'"]
    assert [each.worker is not None for each in members] == [False, True, False]
    assert first.flow_id in runner.explain_step(second.flow_id, "squares", index=2).text
    assert [row.counts for row in third.steps] == [{"cached": 2}]


@pytest.mark.parametrize("is_withdrawn", [False, True])
def test_a_flow_waits_for_the_answer_that_a_member_on_a_worker_has_not_got(runner, tmp_path, is_withdrawn):
    flow_id = runner.submit("asks_on_workers", {"folder": str(tmp_path)})

    def is_put_away():
        state = runner.get_flow_state(flow_id)
        assert state.status is not FlowStatus.FAILED, state.error
        return runner.questions(flow_id=flow_id) and state.owner is None

    wait_until(is_put_away, timeout=60)
    assert sorted(ran(tmp_path)) == ["approve", "page 1"]
    (question,) = runner.questions(flow_id=flow_id)
    assert (question.prompt, question.feedback.task_id) == ("Deploy?", "approve")
    if is_withdrawn:
        runner.withdraw(question.id, "no need")
        state = runner.wait(flow_id, 60)
        assert state.status is FlowStatus.FAILED
        assert "was cancelled" in state.error
        return
    runner.answer(question.id, True, by="ann")
    state = runner.wait(flow_id, 60)
    assert state.status is FlowStatus.COMPLETED, state.error
    assert state.outputs == [10, True]
    assert sorted(ran(tmp_path)) == ["approve", "approve", "deploy", "page 1"], "what had finished does not run again"


def test_a_group_that_runs_on_workers_is_adopted_by_the_program_that_is_started_again(cluster, runner, tmp_path):
    program = started(cluster, "gated_on_workers", tmp_path, tmp_path.name)
    wait_until(lambda: "begun 1" in ran(tmp_path), 60)
    program.kill()
    program.wait(60)
    (tmp_path / "go").touch()
    assert started(cluster, "gated_on_workers", tmp_path, tmp_path.name).wait(60) == 0
    assert sorted(ran(tmp_path)) == ["begun 0", "begun 1", "ended 0", "ended 1", "load"]
    state = runner.get_flow_state(tmp_path.name)
    gates = state.steps[1]
    assert state.status is FlowStatus.COMPLETED
    assert (gates.counts, gates.attempts) == ({"completed": 2}, 2)


def test_a_flow_whose_worker_process_dies_goes_on_in_another(runner, tmp_path):
    flow_id = runner.submit("killed_on_workers", {"folder": str(tmp_path)})
    state = runner.wait(flow_id, 60)
    assert (state.status, state.outputs) == (FlowStatus.COMPLETED, 2)
    assert ran(tmp_path) == ["load", "attempt 1", "attempt 2"]


def test_a_worker_that_is_stopped_hands_its_flow_over(tmp_path):
    with LocalCluster(workers=2, imports=[on_workers.__name__]) as cluster:
        runner = FlowRunner(backend="redis", backend_config=cluster.backend_config, recovery=False)
        flow_id = runner.submit("waiting_on_workers", {"folder": str(tmp_path)})
        wait_until(lambda: "begun 1" in ran(tmp_path), 60)
        child = int(runner.get_flow_state(flow_id).owner.split(":")[1])
        parent = int(Path(f"/proc/{child}/stat").read_text("utf-8").rpartition(")")[2].split()[1])
        os.kill(parent, signal.SIGTERM)
        wait_until(lambda: ran(tmp_path).count("begun 1") == 2, 60)
        assert runner.get_flow_state(flow_id).takeovers == 0
        (tmp_path / "go").touch()
        assert runner.wait(flow_id, 30).status is FlowStatus.COMPLETED
        assert [line.kind for line in runner.events(flow_id)].count("flow.handed_over") == 1


def test_members_that_the_worker_of_their_flow_runs_itself_are_shown_as_running(cluster, runner, tmp_path, monkeypatch):
    for name, value in environment(cluster).items():
        monkeypatch.setenv(name, value)
    flow_id = runner.submit("gated_on_workers", {"folder": str(tmp_path)})
    wait_until(lambda: "begun 1" in ran(tmp_path), 60)
    command = ["flow", "show", flow_id, "--store", cluster.backend_config["url"].reveal()]
    told = CliRunner().invoke(graflow, command).stdout
    assert re.search(r"running: (1 completed, )?[12] running", told), told  # the other may not have begun
    (tmp_path / "go").touch()
    runner.wait(flow_id, 30)


def test_a_cancel_reaches_the_open_group(cluster, runner, tmp_path):
    flow_id = runner.submit("gated_on_workers", {"folder": str(tmp_path)})
    wait_until(lambda: "begun 1" in ran(tmp_path) or "begun 0" in ran(tmp_path), 60)
    runner.cancel_flow(flow_id, "enough")
    key = f"{flow_id}.0:gates:0"
    wait_until(lambda: attach(key, backend_config=cluster.backend_config).status().state.is_final)
    (tmp_path / "go").touch()
    state = runner.wait(flow_id, 30)
    assert state.status is FlowStatus.CANCELLED
    cancelled = [line for line in runner.events(flow_id) if line.kind == "flow.cancelled"]
    assert cancelled[0].data["reached"] == [state.steps[1].run_key] == [key]


def test_a_cancel_reaches_the_open_group_of_a_flow_that_was_handed_over(tmp_path):
    # Given a flow whose program has ended while its group waits for workers
    with LocalCluster(workers=0, imports=[on_workers.__name__]) as cluster:
        config, store = cluster.backend_config, f"sqlite:///{tmp_path}/flows.db"
        with FlowRunner(store, config=config, recovery=False) as runner:
            flow_id = runner.submit("gated_on_workers", {"folder": str(tmp_path)})
            wait_until(lambda: len(runner.get_flow_state(flow_id).steps) == 2, 60)
        with FlowRunner(store, config=config, recovery=False) as other:
            assert other.get_flow_state(flow_id).status is FlowStatus.QUEUED

            # When somebody cancels it, its group ends with it
            other.cancel_flow(flow_id, "enough")
            assert other.get_flow_state(flow_id).status is FlowStatus.CANCELLED
        assert attach(f"{flow_id}.0:gates:0", backend_config=config).status().state == "CANCELLED"


def test_a_store_that_workers_cannot_reach_is_refused(cluster, tmp_path):
    config = cluster.backend_config
    for store in (f"sqlite:///{tmp_path}/flows.db", "memory://"):
        with FlowRunner(store, backend="redis", backend_config=config, recovery=False) as runner:
            with pytest.raises(StoreConfigError, match="cannot reach"):
                runner.submit("pages_on_workers", {"folder": str(tmp_path)})
            assert not runner.list_flows()
