"""What members on workers do to their run is what they would do to it on threads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from graflow import chain, workflow
from graflow.channels.redis_channel import RedisChannel
from graflow.core.context import ExecutionContext
from graflow.core.retry import RetryPolicy
from graflow.core.task import ParallelGroup
from graflow.exceptions import GraflowRuntimeError, ParallelGroupError
from graflow.trace.base import Tracer
from graflow.trace.noop import NoopTracer
from tests.integration.behaviours import acting, aside, taking
from tests.integration.members import held, writes_and_fails

pytestmark = pytest.mark.redis

Group = Callable[..., ParallelGroup]


@pytest.fixture(params=["threading", "redis"])
def group(request: pytest.FixtureRequest, config: dict[str, Any]) -> Group:
    """Makes a group on either backend."""

    def make(name: str, *members: Any) -> ParallelGroup:
        backend_config = config if request.param == "redis" else {"thread_count": 2}
        return ParallelGroup(members, name=name).with_execution(request.param, backend_config)

    return make


@pytest.fixture(params=["memory", "redis"])
def channel(request: pytest.FixtureRequest, config: dict[str, Any]) -> dict[str, Any]:
    """Where the run keeps its values."""
    return {"channel_backend": request.param, "config": config if request.param == "redis" else None}


def run(wf: Any, start: str, given: dict[str, Any] | None = None, **kept: Any) -> ExecutionContext:
    context = ExecutionContext.create(wf.graph.copy(), start, **kept)
    context.channel.set_many(given or {})
    context.execute()
    return context


def test_an_inner_group_goes_on_with_what_its_member_wrote(group: Group, channel: dict[str, Any]) -> None:
    with workflow("w") as wf:
        inner = group("inner", *(acting(f"i{n}", [("append", "items"), ("atomic_add", "count", 1)]) for n in range(3)))
        first = acting("first", [("start", "items", ["first"]), ("start", "count", 10), ("start", "gone", 1)])
        chain(first, inner, acting("last", [("get", "count"), ("exists", "gone")]))
        group("outer", first, acting("beside", [("exists", "count")]))
        context = run(wf, "outer", **channel)
    assert sorted(context.channel.get("items")) == ["first", "i0", "i1", "i2"]
    assert context.channel.get("count") == 13
    assert context.get_result("last")[4:] == [13, True]


def test_groups_two_levels_down_go_on_with_what_was_written_above_them(group: Group, channel: dict[str, Any]) -> None:
    with workflow("w") as wf:
        kept = group("kept", *(acting(f"k{n}", [("atomic_add", "kept", 1)]) for n in range(2)))
        renewed = group("renewed", *(acting(f"r{n}", [("atomic_add", "renewed", 1)]) for n in range(2)))
        middle = acting("middle", [("start", "renewed", 20)])
        chain(middle, renewed)
        first = acting("first", [("start", "kept", 10), ("start", "renewed", 10)])
        chain(first, group("inner", kept, middle), acting("last", [("get", "kept"), ("get", "renewed")]))
        group("outer", first, acting("beside", []))
        context = run(wf, "outer", **channel)
    assert context.get_result("last")[4:] == [12, 22]
    assert (context.channel.get("kept"), context.channel.get("renewed")) == (12, 22)


def test_a_key_that_a_member_deleted_under_its_lock_is_gone(group: Group, channel: dict[str, Any]) -> None:
    with workflow("w") as wf:
        group("g", acting("a", [("delete_under_lock", "k")]), acting("b", [("count_under_lock", "c")]))
        context = run(wf, "g", {"k": 1}, **channel)
    assert not context.channel.exists("k")
    assert context.channel.get("c") == 1


@pytest.mark.parametrize("failures", [1, 3])
def test_plain_writes_of_an_attempt_that_failed_are_gone(group: Group, channel: dict[str, Any], failures: int) -> None:
    def falters(name: str) -> Any:
        return writes_and_fails(task_id=name, name=name, failures=failures)

    with workflow("w") as wf:
        first = acting("first", [])
        chain(first, falters("behind"))
        inner = group("inner", falters("inside"), acting("aside", []))
        outer = group("g", falters("member"), first, inner).with_execution(policy="best_effort")
        inner.with_execution(policy="best_effort")
        context = run(wf, outer.task_id, {"old": "kept"}, **channel)
    names = ["behind", "inside", "member"]
    if failures == 1:
        assert [context.get_result(name) for name in names] == [[None, "kept", False]] * 3
    else:
        assert all(isinstance(context.get_result(name), ValueError) for name in names)
    kept = context.channel
    assert (kept.get("half"), kept.get("old"), kept.exists("brief")) == (None, "kept", False)
    assert sorted(kept.get("log")) == sorted(names * failures), "what is appended stays"
    assert kept.get("under lock") in names


def test_lists_and_values_that_members_share_keep_their_time_to_live(group: Group, channel: dict[str, Any]) -> None:
    with workflow("w") as wf:
        do = [("append", "new", 100), ("append", "old", 100), ("start", "plain", [1]), ("append", "plain")]
        group("g", acting("a", do), acting("b", []))
        context = run(wf, "g", {"old": [1]}, **channel)
    if isinstance(context.channel, RedisChannel):
        left = {key: context.channel.time_to_live(key) for key in ("new", "old")}
        assert all(seconds is not None and seconds <= 100 for seconds in left.values())
    else:
        assert sorted(context.channel._deadlines) == ["new", "old"]


def test_a_list_that_grew_at_both_ends_is_grown_at_both_ends_in_an_outer_run(config: dict[str, Any]) -> None:
    with workflow("w") as wf:
        inner = [
            ParallelGroup([acting(f"a{n}", [("append", "l")]), acting(f"p{n}", [("prepend", "l")])], name=f"inner{n}")
            for n in range(2)
        ]
        for made in inner:
            made.with_execution("redis", config)
        ParallelGroup(inner, name="outer").with_execution("direct")
        context = run(wf, "outer", {"l": ["given"]})
    assert context.channel.get("l") == ["p1", "p0", "given", "a0", "a1"]


def test_a_task_that_one_group_added_runs_when_it_is_asked_for_later(group: Group) -> None:
    with workflow("w") as wf:
        first = group("first", acting("a", [("jump", "aside")]), acting("b", []))
        second = group("second", acting("c", [("jump", "aside")]), acting("d", []))
        first >> second >> acting("last", [("jump", "aside")])
        context = run(wf, "first")
    assert context.get_result("aside") == "aside"
    assert context.cycle_controller.get_cycle_count("aside") == 3
    assert context.graph.get_node("aside").func is aside.func


def test_a_node_that_is_known_by_name_alone_says_so_when_it_runs(config: dict[str, Any]) -> None:
    with workflow("w") as wf:
        members = [acting("a", [("jump", "aside")]), acting("b", [])]
        ParallelGroup(members, name="g").with_execution("redis", config)
        context = run(wf, "g")
    context.agenda.queue_node("aside")
    with pytest.raises(GraflowRuntimeError, match="hand the task itself to next_task"):
        context.execute()


def test_nodes_that_members_added_are_in_the_graph_and_told_of(group: Group) -> None:
    told: list[tuple[str, str | None, bool]] = []

    class Listener(Tracer):
        def on_dynamic_task_added(
            self, task_id: str, parent_task_id: str | None = None, is_iteration: bool = False, metadata: Any = None
        ) -> None:
            told.append((task_id.partition("_cycle_")[0], parent_task_id, is_iteration))

    with workflow("w") as wf:
        do = [("spawn_chain", [[], []]), ("spawn_group", [[], []], None, "strict")]
        group("g", acting("a", do), acting("b", [("iterate", 1)]))
        context = run(wf, "g", tracer=Listener(), default_max_cycles=2)
    assert {"a_link0", "a_link1", "a_parts", "a_part0", "a_part1"} <= set(context.graph.nodes)
    assert sorted(told) == [("a_link0", "a", False), ("a_parts", "a", False), ("b", "b", True)]


def test_groups_without_a_name_that_members_make_do_not_meet(group: Group) -> None:
    with workflow("w") as wf:
        outer = group("outer", *(acting(name, [("spawn_unnamed_group", None)]) for name in "abc"))
        outer >> group("after", acting("d", [("spawn_unnamed_group", None)]), acting("e", []))
        context = run(wf, "outer")
    made = [name for name in context.completed_tasks if "ParallelGroup" in name]
    assert len(made) == len(set(made)) == 4
    assert {name: context.cycle_controller.get_cycle_count(name) for name in made} == dict.fromkeys(made, 1)


def test_limits_that_were_set_on_the_context_hold_in_members(group: Group) -> None:
    with workflow("w") as wf:
        inner = group("inner", acting("deep", [("flaky", "plain", 1), ("place",)]))
        group("g", acting("a", [("flaky", "plain", 2), ("place",)]), acting("b", [("iterate", None)]), inner)
        context = ExecutionContext.create(wf.graph.copy(), "g")
        context.retry_controller.set_node_policy("a", RetryPolicy(2, initial_interval=0.001))
        context.retry_controller.set_node_max_retries("deep", 1)
        context.cycle_controller.set_node_max_cycles("b", 3)
        context.execute()
    assert context.retry_controller.retry_counts == {"a": 2, "deep": 1}
    assert context.get_result("a")[-1][3] == 2
    assert context.cycle_controller.get_cycle_count("b") == 3


def test_an_exception_that_a_task_returned_is_a_value_for_members(group: Group, channel: dict[str, Any]) -> None:
    with workflow("w") as wf:
        inner = group("inner", taking.instance("deep", {}))
        made = group("g", taking.instance("takes", {}), acting("reads", [("result", "t1")]), inner)
        acting("t1", [("value", "error")]) >> made
        context = run(wf, "t1", **channel)
    assert [str(context.get_result(name)[0]) for name in ("takes", "deep")] == ["a value, not a failure"] * 2


def test_an_exception_under_a_plain_key_is_an_argument_of_members(group: Group) -> None:
    with workflow("w") as wf:
        group("g", taking.instance("takes", {}), taking.instance("beside", {"k0": 0}))
        context = run(wf, "g", {"k0": ValueError("kept")})
    assert str(context.get_result("takes")[3]) == "kept"


def test_what_ran_inside_members_is_in_the_runtime_graph(group: Group) -> None:
    tracer = NoopTracer()
    with workflow("w") as wf:
        first = acting("first", [("spawn", [], False)])
        chain(first, acting("then", [("fail", "plain")]))
        group("g", first, acting("b", [("iterate", 1)])).with_execution(policy="best_effort")
        run(wf, "g", tracer=tracer, default_max_cycles=2)
    graph = tracer.get_runtime_graph()
    assert graph is not None
    status = {name.partition("_cycle_")[0]: data["status"] for name, data in graph.nodes(data=True)}
    workflow_name, *order = tracer.get_execution_order()
    assert status.pop(workflow_name) == "completed"
    assert status == {**dict.fromkeys(["g", "first", "first_child", "b"], "completed"), "then": "failed"}
    assert {("g", "first"), ("first", "first_child"), ("g", "then")} <= set(graph.edges)
    assert order[0] == "g"
    assert sorted(order)[:2] == ["b", next(name for name in graph if name.startswith("b_"))]


@pytest.mark.slow
def test_groups_inside_members_go_by_the_settings_of_the_run(
    group: Group, config: dict[str, Any], tmp_path: Path
) -> None:
    mark = tmp_path / "end"
    with workflow("w") as wf:
        inner = group("inner", *(held(task_id=f"n{x}", mark=str(mark)) for x in range(2)))
        inner._execution_config["backend_config"] = {}
        group("outer", inner, acting("b", [])).with_execution(backend_config={"timeout": 90})
        with pytest.raises(ParallelGroupError, match=r"'inner' was not finished within its timeout of 0\.5 s"):
            run(wf, "outer", config={**config, "timeout": 0.5})
    mark.touch()


def test_a_member_knows_its_workflow_by_name(group: Group) -> None:
    with workflow("w") as wf:
        inner = group("inner", acting("deep", [("workflow",)]))
        made = group("outer", inner, acting("b", [("workflow",)]))
        made >> acting("c", [])
        _, context = wf.execute("outer", ret_context=True)
    names = [context.get_result(name)[-1] for name in ("deep", "b")]
    assert names == [("w", "deep"), ("w", "b")]
