"""Any workflow of steps that write, loop, fail, add tasks: cut anywhere, it ends as if nothing had happened."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from graflow import chain, parallel, task, workflow
from graflow.core.context import TaskExecutionContext
from graflow.core.durable.runs import durable_run, value_of
from graflow.core.engine import WorkflowEngine
from graflow.core.graph import TaskGraph
from tests.core.test_durable_runs import Crash, Journal, unordered

KINDS = ["plain", "writes", "loops", "adds", "fails", "fans out"]

leaf = st.sampled_from(KINDS)
expressions = st.recursive(
    leaf,
    lambda inner: st.one_of(
        st.tuples(st.just("chain"), st.lists(inner, min_size=1, max_size=3)),
        st.tuples(st.just("group"), st.lists(inner, min_size=2, max_size=3)),
    ),
    max_leaves=8,
)


class Flow:
    """Builds the same workflow each time, and counts what its tasks do."""

    def __init__(self, expression: Any, again: bool) -> None:
        self.expression = expression
        self.again = again
        self.ran: Counter[str] = Counter()
        self.failed: set[str] = set()

    def graph(self) -> TaskGraph:
        self.names = 0
        with workflow("random") as made:
            steps = chain(self._leaf("plain"), self._build(self.expression), self._leaf("writes"))
            if self.again:
                steps >> self._turn_back()
        return made.graph.copy()

    def _build(self, expression: Any) -> Any:
        if isinstance(expression, str):
            return self._leaf(expression)
        kind, parts = expression
        built = [self._build(part) for part in parts]
        return chain(*built) if kind == "chain" else parallel(*built).with_execution("direct")

    def _turn_back(self) -> Any:
        @task(id="again", inject_context=True)
        def again(context: TaskExecutionContext) -> str:
            self.ran["again"] += 1
            if context.get_channel().atomic_add("rounds") < 2:
                context.next_task("t0", goto=True)
            return "again"

        return again

    def _leaf(self, kind: str) -> Any:
        name = f"t{self.names}"
        self.names += 1

        def body(context: TaskExecutionContext, data: int = 0) -> Any:
            self.ran[name] += 1
            channel = context.get_channel()
            if kind == "writes":
                channel.append("log", name)
                channel.set(name, {"log": len(channel.get("log")), "rounds": channel.get("rounds", 0)})
            elif kind == "loops" and data < 2:
                channel.atomic_add("loops", data)
                context.next_iteration(data + 1)
            elif kind == "adds":
                context.next_task(
                    task(id=f"{name}_born_{channel.get('rounds', 0)}")(lambda: self._note(f"{name}_born"))
                )
            elif kind == "fails" and name not in self.failed:
                self.failed.add(name)
                raise ValueError(name)
            elif kind == "fans out":
                return {"sum": sum(range(3)), "of": ("a", 1)}
            return [name, data]

        return task(name, inject_context=True, max_retries=1)(body)

    def _note(self, name: str) -> str:
        self.ran[name] += 1
        return name

    def run(self, journal: Journal) -> Any:
        engine = WorkflowEngine()
        context = durable_run(
            self.graph(),
            session_id="f.0",
            recorder=journal,
            engine=engine,
            recorded=list(journal.lines),
            start_node="t0",
        )
        value = value_of(context, engine.execute(context))
        channel = {key: context.channel.get(key) for key in sorted(context.channel.keys())}
        return value, channel | {"completed": sorted(context.completed_tasks), "steps": context.steps}


@settings(max_examples=60, deadline=None)
@given(expressions, st.booleans(), st.data())
def test_a_random_workflow_cut_anywhere_ends_as_in_one_go(expression: Any, again: bool, data: Any) -> None:
    whole, journal = Flow(expression, again), Journal()
    expected = whole.run(journal)
    writes = journal.writes
    cuts = sorted(data.draw(st.lists(st.integers(0, writes - 1), min_size=1, max_size=3, unique=True)))
    flow, journal = Flow(expression, again), Journal()
    done = 0
    for cut in cuts:
        journal = Journal(journal.lines, left=cut - done)
        try:
            flow.run(journal)
        except Crash:
            done = cut
    result = flow.run(Journal(journal.lines))
    assert unordered(result) == unordered(expected)
    more = flow.ran - whole.ran
    assert not whole.ran - flow.ran
    assert sum(more.values()) <= len(cuts) * 12, "a cut costs the step, or member, that was running"
