"""Any workflow of nested groups, chains and everything that members may do ends the same on workers and on threads."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graflow import RetryPolicy, chain, workflow
from graflow.codec import describe_error
from graflow.core.context import ExecutionContext
from graflow.core.nodes.executable import Executable
from graflow.core.task import ParallelGroup
from graflow.encoding.errors_as_data import message_of
from graflow.exceptions import GraflowError, ParallelGroupError
from tests.integration.behaviours import FAILURES, VALUES, FirstMemberPolicy, acting, apart, aside, mapped, taking

keys = st.sampled_from(["k0", "k1"])
names = st.sampled_from(["t1", "t2", "t3", "t4"])
lists = st.sampled_from(["l0", "l1"])
quiet = st.one_of(
    st.tuples(st.sampled_from(["set", "delete", "get", "exists"]), keys),
    st.tuples(st.just("set"), keys, st.sampled_from([0, 100])),
    st.tuples(st.sampled_from(["append", "prepend"]), lists),
    st.tuples(st.just("atomic_add"), st.just("n0"), st.sampled_from([1, -2, 0.5])),
    st.tuples(st.just("count_under_lock"), st.just("c0")),
    st.tuples(st.just("result"), names),
    st.just(("place",)),
)
loud = st.one_of(
    st.tuples(st.just("jump"), st.sampled_from(["aside", "apart"])),
    st.tuples(st.just("goto"), names),
    st.tuples(st.just("iterate"), st.sampled_from([None, 1, "more"])),
    st.tuples(st.just("fail"), st.sampled_from([*FAILURES])),
    st.tuples(st.just("flaky"), st.sampled_from([*FAILURES]), st.integers(1, 3)),
    st.tuples(st.just("value"), st.sampled_from([*VALUES])),
    st.just(("terminate",)),
)
few = st.lists(st.one_of(quiet, quiet, loud), max_size=2)
growing = st.one_of(
    st.tuples(st.just("spawn"), few, st.booleans()),
    st.tuples(st.just("spawn_chain"), st.lists(few, min_size=1, max_size=2)),
    st.tuples(
        st.just("spawn_group"),
        st.lists(few, min_size=1, max_size=2),
        st.none(),
        st.sampled_from(["strict", "best_effort"]),
    ),
)
limits = st.fixed_dictionaries({
    "max_cycles": st.sampled_from([None, 1, 3]),
    "retries": st.sampled_from([None, 0, 2, RetryPolicy(2, initial_interval=0)]),
})  # fmt: skip
leaves = st.one_of(
    st.tuples(st.just("act"), st.lists(st.one_of(quiet, quiet, loud, growing), max_size=3), limits),
    st.just(("take",)),
)
policies = st.sampled_from(["strict", "best_effort", "best_effort", "critical", "at_least_n", "custom"])
here = st.sampled_from([False, False, True])  # whether a group stays in the process that it is reached in
expressions = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.tuples(st.just("chain"), st.lists(inner, min_size=1, max_size=3)),
        st.tuples(st.just("group"), st.lists(inner, min_size=1, max_size=3), policies, here),
        st.tuples(st.just("map"), st.lists(st.sampled_from([1, "bad", (2,)]), max_size=2), policies, here),
    ),
    max_leaves=8,
)


class Build:
    """Makes the tasks that an expression stands for, with its groups on one backend."""

    def __init__(self, backend: str, config: dict[str, Any]) -> None:
        self.backend, self.config, self.tasks, self.groups = backend, config, 0, 0

    def build(self, expression: Any) -> Executable:
        kind, *parts = expression
        if kind == "act":
            return self._acting(*parts)
        if kind == "take":
            return taking.instance(self._name(), {})
        if kind == "chain":
            return chain(*(self.build(part) for part in parts[0]))
        self.groups += 1
        name = f"g{self.groups}"
        if kind == "map":
            group: ParallelGroup = mapped.map(parts[0], name=name)
        else:
            group = ParallelGroup([self.build(part) for part in parts[0]], name=name)
        backend, config = ("threading", {}) if parts[2] else (self.backend, self.config)
        return group.with_execution(backend, config, policy=self._policy(parts[1], group))

    def _name(self) -> str:
        self.tasks += 1
        return f"t{self.tasks}"

    def _acting(self, do: Any, limited: dict[str, Any]) -> Executable:
        on_this_backend = [(*a[:2], self.backend, *a[3:]) if a[0] == "spawn_group" else a for a in do]
        made = acting(self._name(), on_this_backend)
        made.max_cycles = limited["max_cycles"] or 3
        retries = limited["retries"]
        if isinstance(retries, RetryPolicy):
            made.retry_policy, made.max_retries = retries, retries.max_retries
        else:
            made.max_retries = retries
        return made

    @staticmethod
    def _policy(kind: str, group: ParallelGroup) -> Any:
        members = [member.task_id for member in group.tasks]
        if kind == "critical":
            return {"type": kind, "critical_task_ids": members[:1]} if members else "strict"
        if kind == "at_least_n":
            return {"type": kind, "min_success": len(members) // 2}
        return FirstMemberPolicy() if kind == "custom" and members else "strict" if kind == "custom" else kind


def told(error: Any) -> Any:
    """What an error says, also one that came from another process; without the random part of ids."""
    if not isinstance(error, BaseException):
        text = re.sub(r" \(group run '[^']*'\)", "", repr(error))  # only workers have one
        text = text.replace('"', "'")  # in which `repr` puts a text that has the other ones, such as those of a run
        return re.sub(r"_cycle_\d+_[0-9a-f]{8}", "_pass", text)
    remote = getattr(error, "remote", None) or describe_error(error)
    # What an error of another process was caused by is told with its type.
    known: list[Any] = [remote.type, told(message_of(error)).partition(" (caused by")[0]]
    if isinstance(error, ParallelGroupError):
        known += [error.group_id, [name for name, _ in error.failed_tasks], error.successful_tasks]
        known += [{name: told(inner) for name, inner in error.errors.items()}]
    return known


def story(expression: Any, backend: str, settings: dict[str, Any], **given: Any) -> dict[str, Any]:
    """Everything that can be seen of a run from outside."""
    build = Build(backend, settings)
    with workflow("random") as wf:
        for task in (aside, apart):
            wf.graph.add_node(task.instance(task.task_id, {}))
        begin, end = acting("begin", [("get", "k0")]), acting("end", [("get", "k0"), ("get", "k1")])
        (
            begin
            >> build.build(
                ("group", [expression, ("act", [], {"max_cycles": None, "retries": None})], "best_effort", False)
            )
            >> end
        )
    context = ExecutionContext.create(wf.graph.copy(), "begin", 60, **given)
    context.channel.set_many({"k0": 1, "l0": ["begun"], "n0": 1})
    value = error = None
    try:
        value = context.execute()
    except GraflowError as raised:
        error = raised
    channel = context.channel
    held = {key: channel.get(key) for key in channel.keys()}  # noqa: SIM118 - no mapping
    held.update({key: sorted(held[key]) for key in ("l0", "l1") if key in held})
    return {
        "value": told(value),
        "error": told(error),
        "channel": sorted((told(key), told(kept)) for key, kept in held.items()),
        "completed": [told(name) for name in context.completed_tasks],
        "steps": context.steps,
        "cycles": dict(sorted(context.cycle_controller.cycle_counts.items())),
        "retries": sorted((told(name), count) for name, count in context.retry_controller.retry_counts.items()),
        "stop": (context.stop_reason, context.ctrl_message),
        # Of a loop that another task ended, the pass that was to come is a node where the graph is shared.
        "nodes": sorted(name for name in map(told, context.graph.nodes) if "_pass" not in name),
        "pending": [told(spec.task_id) for spec in context.agenda.pending()],
    }


@pytest.mark.slow
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(expression=expressions, in_redis=st.booleans())
def test_workers_and_threads_tell_the_same_story(config: dict[str, Any], expression: Any, in_redis: bool) -> None:
    on_workers = {**config, "timeout": 30}
    channel = "redis" if in_redis else "memory"
    on_threads = story(expression, "threading", {"thread_count": 4})
    assert story(expression, "redis", on_workers, config=config, channel_backend=channel) == on_threads


@settings(max_examples=80, deadline=None)
@given(expression=expressions)
def test_threads_and_the_calling_thread_tell_the_same_story(expression: Any) -> None:
    assert story(expression, "direct", {}) == story(expression, "threading", {"thread_count": 4})
