"""Groups in groups, branches and dynamic tasks on workers: the same results as with threads."""

from __future__ import annotations

import pickle
import time
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
import redis

from graflow import chain, task, workflow
from graflow.core.task import ParallelGroup
from graflow.debug.find_locks import find_thread_locks
from graflow.exceptions import GraflowWorkflowCanceledError, ParallelGroupError
from graflow_celery import LocalCluster, submit
from graflow_celery.deployment import deployment_of
from tests.integration import members
from tests.integration.behaviours import acting
from tests.support import wait_until

pytestmark = pytest.mark.redis


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_any_depth_completes_on_one_worker_of_concurrency_one(depth: int, one_slot: LocalCluster) -> None:
    begun = time.monotonic()
    with workflow("deep") as wf:
        group = members.nested(depth, 16, one_slot.backend_config)
        _, context = wf.execute(group.task_id, ret_context=True)
    assert [context.get_result(f"leaf{index}") for index in range(16)] == list(range(16))
    assert {f"leaf{index}" for index in range(16)} <= set(context.completed_tasks)
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize("backend", ["threading", "redis"])
def test_two_groups_in_a_group(backend: str, config: dict[str, Any]) -> None:
    with workflow("w") as wf:
        left = ParallelGroup([members.double(task_id="a", x=1), members.double(task_id="b", x=2)], name="left")
        right = ParallelGroup([members.double(task_id="c", x=3), members.double(task_id="d", x=4)], name="right")
        for group in (left, right):
            group.with_execution(backend, backend_config=config if backend == "redis" else {})
        both = ParallelGroup([left, right], name="both").with_execution(
            backend, backend_config=config if backend == "redis" else {}
        )
        _, context = wf.execute(both.task_id, ret_context=True)
    assert [context.get_result(name) for name in "abcd"] == [2, 4, 6, 8]
    assert context.steps == 7


def test_a_group_and_a_task_of_code_by_value_are_members_of_one_group(config: dict[str, Any]) -> None:
    with workflow("w") as wf:
        first, second, third = (task(name)(lambda name=name: name) for name in "abc")
        inner = ParallelGroup([second, third], name="inner")
        ParallelGroup([first, inner], name="outer").with_execution("redis", backend_config=config)
        assert wf.execute() == ["a", ["b", "c"]]


def test_a_fan_out_inside_its_own_member_has_results_of_its_own(config: dict[str, Any]) -> None:
    with workflow("w") as wf:
        members.fibonacci.map(range(7)).with_execution("redis", backend_config=config)
        assert wf.execute() == [0, 1, 1, 2, 3, 5, 8]


def test_so_has_one_whose_inner_fan_outs_run_on_workers_too(config: dict[str, Any]) -> None:
    with workflow("w") as wf:
        members.fibonacci_on_workers.map([4, 2, 3]).with_execution("redis", backend_config=config)
        assert wf.execute() == [3, 1, 2]


@pytest.mark.parametrize("name", ["before", "beside", "behind"])
def test_a_member_of_an_inner_group_changes_nothing_of_the_tasks_around(config: dict[str, Any], name: str) -> None:
    """Those that the branch around it, which is on a worker, knows by name only."""

    def run(*, in_channel: bool) -> Any:
        with workflow("w") as wf:
            lying = members.lies_about(task_id="lying", name=name, in_channel=in_channel)
            inner = ParallelGroup([lying, acting("other", [])], name="inner").with_execution("redis", config)
            first, beside = acting("first", []), acting("beside", [])
            chain(first, inner, acting("last", [("result", name)]))
            outer = ParallelGroup([first, beside], name="outer").with_execution("redis", config)
            chain(acting("before", []), outer, acting("behind", []))
            return wf.execute("before", ret_context=True)[1]

    context = run(in_channel=False)
    seen = [context.get_result(name), context.get_result("last")[-1]]
    assert "forged" not in seen, "what it said in its outcome is left out"
    with pytest.raises(
        ParallelGroupError, match=f"'lying' reports what became of task '{name}', which does not belong"
    ):
        run(in_channel=True)


def test_a_mapped_group_inside_a_group_gives_its_list(config: dict[str, Any]) -> None:
    with workflow("w") as wf:
        shards = members.double.map([1, 2, 3], name="shards").with_execution("redis", backend_config=config)
        group = ParallelGroup([shards, members.noop(task_id="other", x=0)], name="outer")
        group.with_execution("redis", backend_config=config)
        group >> members.total
        assert wf.execute("outer") == 12


def test_chains_run_inside_their_member(config: dict[str, Any]) -> None:
    with workflow("w") as wf:
        after_a = members.add_one(task_id="after_a")
        first = members.double(task_id="x", x=5)
        branch = chain(first, after_a)
        group = (branch | members.noop(task_id="z", x=1)).with_execution("redis", backend_config=config)
        _, context = wf.execute(group.task_id, ret_context=True)
    assert context.get_result("x") == 10
    assert context.get_result("after_a") == 11
    assert context.completed_tasks[:2] == ["x", "after_a"]


def test_dynamic_tasks_and_iterations_of_members_come_back(config: dict[str, Any]) -> None:
    with workflow("w") as wf:
        group = members.grows(task_id="g", x=4) | members.iterate(task_id="loop")
        group.with_execution("redis", backend_config=config)
        _, context = wf.execute(group.task_id, ret_context=True)
    assert context.get_result("grown_4") == 8
    assert context.get_result("loop") == 3
    assert context.cycle_controller.get_cycle_count("loop") == 3
    assert context.graph.has_node("grown_4")


def test_cancelling_the_workflow_in_a_member_ends_the_run_while_others_go_on(
    config: dict[str, Any], tmp_path: Path
) -> None:
    mark = tmp_path / "end"
    with workflow("w") as wf:
        group = members.cancel_all(task_id="c", x=0) | members.held(task_id="slow", mark=str(mark))
        group.with_execution("redis", backend_config=config)
        with pytest.raises(GraflowWorkflowCanceledError, match="enough") as caught:
            wf.execute(group.task_id)
    assert caught.value.task_id == "c"
    mark.touch()


def test_terminating_the_workflow_in_a_member_ends_it_normally_after_the_group(config: dict[str, Any]) -> None:
    with workflow("w") as wf:
        group = members.stop_all(task_id="s", x=0) | members.noop(task_id="n", x=3)
        group.with_execution("redis", backend_config=config)
        group >> members.fail(task_id="never", x=0)
        _, context = wf.execute(group.task_id, ret_context=True)
    assert context.stop_reason == "terminated"
    assert context.get_result("n") == 3


def test_a_failing_member_of_an_inner_group_fails_the_outer_one(config: dict[str, Any]) -> None:
    with workflow("w") as wf:
        inside = ParallelGroup([members.fail(task_id="bad", x=1)], name="inside")
        inside.with_execution("redis", backend_config=config)
        group = ParallelGroup([inside, members.noop(task_id="good", x=1)], name="outside")
        group.with_execution("redis", backend_config=config)
        with pytest.raises(ParallelGroupError, match="no 1") as caught:
            wf.execute("outside")
    assert caught.value.successful_tasks == ["good"]


def test_a_graph_of_nested_groups_made_with_a_live_client_pickles_and_holds_no_lock() -> None:
    client = redis.Redis(password="hush-hush")
    with workflow("w") as wf:
        inside = members.double.map([1], name="inside")
        outer = ParallelGroup([inside, members.noop(task_id="n", x=1)], name="outer")
        for group in (inside, outer):
            with pytest.warns(DeprecationWarning, match="redis_client"):
                group.with_execution("redis", backend_config={"redis_client": client})
    client.close()
    for text in (pickle.dumps(wf.graph), cloudpickle.dumps(wf.graph)):
        assert b"hush-hush" not in text
        assert pickle.loads(text).has_node("outer")
    assert find_thread_locks(wf.graph) == []


def test_cancelling_a_group_reaches_the_groups_inside_its_members(config: dict[str, Any]) -> None:
    inside = ParallelGroup([members.patient(task_id=f"n{index}", x=index) for index in range(6)], name="inside")
    inside.with_execution("redis", backend_config=config)
    record = deployment_of(config).record
    before = set(record.open_groups())
    handle = submit([inside, members.noop(task_id="n", x=1)], backend_config=config)
    wait_until(lambda: len(set(record.open_groups()) - before) == 2)
    handle.cancel()
    assert set(record.open_groups()) <= before


def test_operators_inside_a_member_record_into_its_branch(config: dict[str, Any]) -> None:
    @task(inject_context=True)
    def build(context: Any) -> int:
        context.next_task(members.double(task_id="built", x=21))
        return 1

    with workflow("w") as wf:
        group = (build | members.noop(task_id="n", x=1)).with_execution("redis", backend_config=config)
        _, context = wf.execute(group.task_id, ret_context=True)
    assert context.get_result("built") == 42
