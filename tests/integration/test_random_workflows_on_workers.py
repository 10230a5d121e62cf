"""Any workflow of nested groups, chains and everything that members may do ends the same on workers and on threads."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graflow import chain, exceptions, parallel, workflow
from graflow.core.executable import Executable
from graflow.core.task_context import base_id_of
from tests.integration.behaviours import act, aside

BEHAVIOURS = ("plain", "write", "delete", "spawn", "iterate", "fail", "jump", "terminate")

leaves = st.sampled_from(BEHAVIOURS)
expressions = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.tuples(st.just("chain"), st.lists(inner, min_size=1, max_size=3)),
        st.tuples(st.just("group"), st.lists(inner, min_size=2, max_size=3)),
    ),
    max_leaves=8,
)


class Build:
    def __init__(self, backend: str, config: dict[str, Any]) -> None:
        self.backend, self.config, self.made = backend, config, 0

    def build(self, expression: Any) -> Executable:
        if isinstance(expression, str):
            self.made += 1
            name = f"t{self.made}"
            made = act.instance(name, {"behaviour": expression, "name": name})
            made.max_cycles = 3
            return made
        kind, parts = expression
        built = [self.build(part) for part in parts]
        if kind == "chain":
            return chain(*built)
        return parallel(*built).with_execution(self.backend, self.config, policy="best_effort")


def story(expression: Any, backend: str, config: dict[str, Any]) -> dict[str, Any]:
    """Everything that can be seen of a run from outside, without the random part of ids."""
    build = Build(backend, config)
    with workflow("random") as wf:
        wf.graph.add_node(aside.instance("aside", {}))
        start = act.instance("start", {"behaviour": "plain", "name": "start"})
        (
            start
            >> build.build(("group", [expression, "plain"]))
            >> act.instance("end", {"behaviour": "plain", "name": "end"})
        )
        try:
            _, context = wf.execute("start", ret_context=True, initial_channel={"given": 1, "last": "start"})
        except exceptions.GraflowError as error:
            return {"error": type(error).__name__}
    channel = context.channel
    results = {name: context.get_result(name) for name in sorted(context.cycle_controller.cycle_counts)}
    return {
        "completed": [base_id_of(name) for name in context.completed_tasks],
        "results": {name: repr(value) for name, value in results.items()},
        "steps": context.steps,
        "cycles": dict(sorted(context.cycle_controller.cycle_counts.items())),
        "trail": sorted(channel.get("trail")),
        "count": channel.get("count"),
        "last": channel.get("last"),
        "given": channel.exists("given"),
        "own": sorted(key for key in channel.keys() if key.startswith("own_")),  # noqa: SIM118 - no mapping
        "stop": (context.stop_reason, context.ctrl_message),
        "nodes": sorted({base_id_of(name) for name in context.graph.nodes}),
    }


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(expression=expressions)
def test_workers_and_threads_tell_the_same_story(config: dict[str, Any], expression: Any) -> None:
    on_workers = {**config, "timeout": 30}
    assert story(expression, "redis", on_workers) == story(expression, "threading", {"thread_count": 4})


@settings(max_examples=80, deadline=None)
@given(expression=expressions)
def test_threads_and_the_calling_thread_tell_the_same_story(expression: Any) -> None:
    assert story(expression, "direct", {}) == story(expression, "threading", {"thread_count": 4})
