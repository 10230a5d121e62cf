"""A run that is recorded, cut at each of its records, and taken over, gives what it gives in one go."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from graflow import RetryPolicy, task, workflow
from graflow.core.context import TaskExecutionContext
from graflow.core.durable.runs import durable_run, value_of
from graflow.core.engine import WorkflowEngine
from graflow.core.graph import TaskGraph
from graflow.core.run.recorded.recorder import StepVisit
from graflow.exceptions import GraflowRuntimeError


class Crash(BaseException):
    """The process is gone."""


@dataclass
class Line:
    kind: str
    step: str
    visit: int
    attempt: int
    data: dict[str, Any] = field(default_factory=dict)


class Journal:
    """Records into a list, as text; the write after `left` others does not happen."""

    takes_blocks = True

    def __init__(self, lines: Sequence[Line] = (), left: int | None = None) -> None:
        self.lines = [*lines]
        self.writes = 0
        self.left = left
        self.kept_back: list[Line] = []

    def _write(self, *lines: Line) -> None:
        found = [*self.kept_back, *lines]
        self.kept_back = []
        if not found:
            return
        if self.left is not None:
            if self.left == 0:
                raise Crash
            self.left -= 1
        self.writes += 1
        for line in found:
            line.data = json.loads(json.dumps(line.data))
        self.lines += found

    def step_started(self, step: StepVisit) -> None:
        self._write(Line("step.started", step.step, step.visit, step.attempt))

    def step_completed(self, step: StepVisit, outcome: Mapping[str, Any], value: object) -> None:
        data = {"node": step.node, "outcome": dict(outcome)}
        self.kept_back.append(Line("step.completed", step.step, step.visit, step.attempt, data))

    def step_failed(
        self, step: StepVisit, error: BaseException, outcome: Mapping[str, Any], retry_in: float | None
    ) -> None:
        data = {"node": step.node, "outcome": dict(outcome), "retry_at": None if retry_in is None else 0.0}
        self._write(Line("step.failed", step.step, step.visit, step.attempt, data))

    def members_ended(self, step: StepVisit, outcomes: Sequence[Mapping[str, Any]]) -> None:
        self._write(Line("group.members", step.step, step.visit, step.attempt, {"outcomes": [*map(dict, outcomes)]}))

    def block_ended(self, step: StepVisit, block: Mapping[str, Any]) -> None:
        self._write(Line("group.members", step.step, step.visit, step.attempt, {"outcomes": [], "blocks": [block]}))

    def flush(self) -> None:
        self._write()


ran: list[str] = []


@task
def first() -> int:
    ran.append("first")
    return 1


@task(inject_context=True)
def second(context: TaskExecutionContext) -> dict[str, Any]:
    ran.append("second")
    context.get_channel().append("log", "second")
    context.get_channel().set("seen", {"first": context.get_result("first")})
    return {"x": [1, 2]}


@task(inject_context=True)
def loop(context: TaskExecutionContext, data: int | None = None) -> int:
    count = data or 0
    ran.append(f"loop{count}")
    context.get_channel().append("log", f"loop{count}")
    context.get_channel().atomic_add("total", count)
    if count < 3:
        context.next_iteration(count + 1)
    return count


@task(inject_context=True)
def last(context: TaskExecutionContext) -> list[str]:
    ran.append("last")
    return list(context.get_channel().get("log", []))


@task(inject_context=True)
def member(context: TaskExecutionContext, number: int) -> int:
    ran.append(f"member{number}")
    context.get_channel().append("log", f"member{number}")
    context.get_channel().set(f"of{number}", number)
    return number * 10


@task(inject_context=True)
def adds(context: TaskExecutionContext) -> str:
    ran.append("adds")

    @task(id="born")
    def born() -> str:
        ran.append("born")
        return "born"

    context.next_task(born)
    return "adds"


@task(inject_context=True)
def jumps(context: TaskExecutionContext) -> str:
    ran.append("jumps")
    context.next_task("last", goto=True)
    return "jumps"


@task(inject_context=True)
def ends(context: TaskExecutionContext) -> str:
    ran.append("ends")
    context.terminate_workflow("enough")
    return "ended"


failures: dict[str, int] = {}


@task(retry_policy=RetryPolicy(max_retries=2, initial_interval=0.0), inject_context=True)
def flaky(context: TaskExecutionContext) -> str:
    ran.append("flaky")
    context.get_channel().append("log", "flaky")
    failures["flaky"] = failures.get("flaky", 0) + 1
    if failures["flaky"] < 3:
        raise ValueError("not yet")
    return "at last"


def chained() -> None:
    first >> second >> loop >> last


def joined() -> None:
    left, right = (
        task(lambda: ran.append("left") or "l", id="left"),
        task(lambda: ran.append("right") or "r", id="right"),
    )
    first >> left
    first >> right
    left >> last
    right >> second >> last


def grouped() -> None:
    group = member.map([1, 2, 3], name="pages").with_execution("direct")
    first >> group >> last


def threaded() -> None:
    group = member.map([1, 2, 3, 4], name="pages").with_execution("threading", {"thread_count": 2})
    first >> group >> second


def dynamic() -> None:
    first >> adds >> second


def jumping() -> None:
    first >> jumps >> second >> last


def ending() -> None:
    first >> ends >> second


def retrying() -> None:
    first >> flaky >> last


FLOWS = [chained, joined, grouped, threaded, dynamic, jumping, ending, retrying]


def graph_of(flow: Callable[[], None]) -> TaskGraph:
    with workflow(flow.__name__) as made:
        flow()
    return made.graph.copy()


def run(flow: Callable[[], None], journal: Journal) -> tuple[Any, dict[str, Any]]:
    engine = WorkflowEngine()
    context = durable_run(
        graph_of(flow), session_id="f.0", recorder=journal, engine=engine, recorded=list(journal.lines)
    )
    value = value_of(context, engine.execute(context))
    channel = {key: context.channel.get(key) for key in sorted(context.channel.keys())}
    return value, channel | {"completed": sorted(context.completed_tasks), "steps": context.steps}


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.__name__)
def test_a_run_cut_at_any_record_gives_what_it_gives_in_one_go(flow: Callable[[], None]) -> None:
    failures.clear()
    ran.clear()
    whole = Journal()
    expected = run(flow, whole)
    in_one_go = sorted(ran)
    cuts = 0
    for left in range(100):
        failures.clear()
        ran.clear()
        journal = Journal(left=left)
        try:
            result = run(flow, journal)
        except Crash:
            cuts += 1
            journal = Journal(journal.lines)
            result = run(flow, journal)
            assert unordered(result) == unordered(expected), f"cut before write {left}"
            again = sorted(ran)
            for name in in_one_go:
                again.remove(name)
            assert len(again) <= 2, f"cut before write {left}: {again} ran once more"
        else:
            assert unordered(result) == unordered(expected)
            break
    assert cuts >= 2


def unordered(result: tuple[Any, dict[str, Any]]) -> Any:
    """Members run at the same time write into a list in any order; passes have names by chance."""

    def sort(found: dict[str, Any]) -> dict[str, Any]:
        return {key: sorted(value, key=str) if isinstance(value, list) else value for key, value in found.items()}

    text = re.sub(r"_cycle_(\d+)_[0-9a-f]{8}", r"_cycle_\1", json.dumps(result))
    return json.loads(text, object_hook=sort)


def test_a_completed_step_never_runs_again() -> None:
    ran.clear()
    journal = Journal()
    run(chained, journal)
    ran.clear()
    journal.flush()
    value, _ = run(chained, Journal(journal.lines))
    assert ran == []
    assert value == ["second", "loop0", "loop1", "loop2", "loop3"]


def test_a_value_that_cannot_be_kept_fails_its_step_before_anything_follows() -> None:
    ran.clear()

    @task(id="opens", max_retries=3)
    def opens() -> object:
        ran.append("opens")
        return object()

    def flow() -> None:
        opens >> last

    journal = Journal()
    with pytest.raises(GraflowRuntimeError, match=r"opens.*object"):
        run(flow, journal)
    assert ran == ["opens"]
    assert [line.kind for line in journal.lines] == ["step.started", "step.failed"]


def test_a_failed_run_goes_on_with_what_had_not_succeeded() -> None:
    ran.clear()
    broken = [True]

    @task(id="fails", inject_context=True)
    def fails(context: TaskExecutionContext) -> str:
        ran.append("fails")
        context.get_channel().append("log", "fails")
        if broken:
            raise KeyError("country")
        return "well"

    def flow() -> None:
        first >> fails >> last

    journal = Journal()
    with pytest.raises(KeyError):
        run(flow, journal)
    broken.clear()
    ran.clear()
    value, _ = run(flow, Journal(journal.lines))
    assert ran == ["fails", "last"]
    assert value == ["fails"], "what the failed attempt wrote is gone"


def test_a_failed_group_runs_only_what_had_not_succeeded() -> None:
    ran.clear()
    broken = [True]

    @task(id="part")
    def part(number: int) -> int:
        ran.append(f"part{number}")
        if number == 2 and broken:
            raise ValueError("two")
        return number

    def flow() -> None:
        part.map([1, 2, 3], name="parts").with_execution("direct") >> last

    journal = Journal()
    with pytest.raises(GraflowRuntimeError):
        run(flow, journal)
    broken.clear()
    ran.clear()
    _, channel = run(flow, Journal(journal.lines))
    assert ran == ["part2", "last"]
    assert channel["completed"].count("last") == 1
