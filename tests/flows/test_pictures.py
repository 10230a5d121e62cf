"""How flows are drawn: tables, trees, bars and strips."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console, RenderableType

from graflow.cli.flows.pictures import counted, flow_picture, flows_table, members_table, seconds
from graflow.cli.flows.tree import FlowTree, strip_picture
from graflow.cli.flows.watching import Changes
from graflow.state import FlowState, FlowStatus, FlowStepState, StepStatus

BEGAN = datetime(2024, 5, 1, 12, 0, tzinfo=UTC)


def drawn(what: RenderableType, width: int = 100) -> list[str]:
    stream = io.StringIO()
    Console(file=stream, width=width).print(what)
    return [line.rstrip() for line in stream.getvalue().splitlines()]


def step(name: str, status: StepStatus = StepStatus.COMPLETED, **fields: object) -> FlowStepState:
    return FlowStepState.model_validate(
        {"step_name": name, "status": status, "attempts": 1, "execution_time": 0.5, **fields}
    )


def group(**fields: object) -> FlowStepState:
    given = {
        "size": 6,
        "counts": {"completed": 3, "failed": 1, "running": 1, "pending": 1},
        "strip": [],
        **fields,
    }
    return step("pages", StepStatus.RUNNING, **given)


def flow_of(*steps: FlowStepState, **fields: object) -> FlowState:
    given = {"flow_id": "f1", "flow_name": "report", "status": FlowStatus.RUNNING, "steps": list(steps), **fields}
    return FlowState.model_validate(given)


def test_a_tree_has_a_line_a_step_and_for_a_group_a_bar_and_a_strip() -> None:
    text = drawn(FlowTree(flow_of(step("load"), group())))
    assert text[0] == "report f1 running"
    assert text[1] == "├─ ✓ load completed 0.50 s"
    assert text[2] == "└─ ● pages  0.50 s"
    assert text[3].endswith(" 4/6  3 completed, 1 failed, 1 running, 1 pending")


def test_where_it_is_narrow_the_bar_is_left_out_and_nothing_is_wider() -> None:
    text = drawn(FlowTree(flow_of(step("load"), group(strip=[{StepStatus.COMPLETED.letter: 1}] * 60))), 40)
    assert "   4/6  3 completed, 1 failed, 1" in text
    assert max(map(len, text)) <= 40


def test_steps_that_have_no_place_are_counted_and_the_last_ones_stay() -> None:
    steps = [step(f"s{number}") for number in range(98)] + [step("s98", StepStatus.FAILED), step("s99")]
    text = drawn(FlowTree(flow_of(*steps), 3))
    assert text[1] == "├─ … 97 earlier steps: 97 completed"
    assert [line.split()[2] for line in text[2:]] == ["s97", "s98", "s99"]


@pytest.mark.parametrize(("rows", "left_out"), [(None, 0), (6, 0), (5, 1), (4, 2), (1, 2)])
def test_the_last_steps_are_shown_that_fit_as_a_whole(rows: int | None, left_out: int) -> None:
    failed = step("s3", StepStatus.FAILED, error="ValueError: no")
    text = drawn(FlowTree(flow_of(step("s1"), group(strip=[{"x": 1}]), failed), rows))
    found = [line for line in text if "earlier steps" in line]
    assert found == ([f"├─ … {left_out} earlier steps: {told(left_out)}"] if left_out else [])
    assert text[-1] == "   ValueError: no"


def told(left_out: int) -> str:
    return "1 completed" if left_out == 1 else "1 completed, 1 running"


def test_a_strip_shows_the_worst_of_each_bucket_and_fits() -> None:
    done, failed, running, pending = (
        status.letter for status in (StepStatus.COMPLETED, StepStatus.FAILED, StepStatus.RUNNING, StepStatus.PENDING)
    )
    strip = [{done: 2}, {done: 1, failed: 1}, {running: 1, pending: 1}, {done: 1, pending: 1}, {pending: 2}, {done: 2}]
    assert strip_picture(strip, 60).plain == "█✗▒▄·█"
    assert strip_picture(strip, 3).plain == "✗▒▄"
    assert strip_picture([], 60).plain == ""


def test_a_flow_tells_where_it_runs_what_it_comes_from_and_why_it_ended() -> None:
    running = flow_of(owner="host:12:99.ab", started_at=BEGAN, total_execution_time=75.0, degraded=True)
    text = "\n".join(drawn(flow_picture(running)))
    assert "report f1 running (degraded)" in text
    assert "took 1 min 15 s  runs in host:12" in text
    ended = flow_of(
        status="failed", error="ValueError: \x1b[2J", parent_flow_id="f0", parent_step="load", owner="h:1:2"
    )
    text = "\n".join(drawn(flow_picture(ended)))
    assert "from f0 load" in text
    assert "ValueError: \\x1b[2J" in text, "what would steer the terminal is written out"
    assert "runs in" not in text


def test_tables_have_visits_attempts_and_first_lines_of_errors() -> None:
    steps = [step("loop"), step("loop", StepStatus.FAILED, visit=2, attempts=3, error="ValueError: a\nb")]
    text = drawn(flow_picture(flow_of(*steps, status="failed")))
    assert text[-1].split() == ["loop", "#2", "failed", "3", "0.50", "s", "ValueError:", "a"]
    member = step("pages", index=4, worker="w@host")
    assert drawn(members_table([member]))[1].split() == ["pages[4]", "completed", "1", "0.50", "s", "w@host", "-"]
    listed = flow_of(status="completed", counts={"completed": 2})
    assert drawn(flows_table([listed]))[1].split()[:5] == ["f1", "report", "completed", "2", "completed"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, None), (0.004, "0.00 s"), (9.994, "9.99 s"), (59.9, "59.9 s"), (61, "1 min 01 s"), (3725, "1 h 02 min")],
)
def test_durations_are_short(value: float | None, text: str | None) -> None:
    assert seconds(value) == text


def test_states_are_counted_in_one_order_whichever_came_first() -> None:
    assert counted({"pending": 1, "running": 2, "failed": 3, "completed": 4}) == (
        "4 completed, 3 failed, 2 running, 1 pending"
    )
    assert counted({"kept": 1, "run again": 0, "adopted": 2}) == "1 kept, 2 adopted"
    assert counted(None) == ""


def test_only_what_changed_is_told_and_what_was_known_is_not() -> None:
    before = flow_of(step("load"), group())
    changes = Changes(before)
    assert list(changes.of(before)) == ["flow f1 is running"]
    assert list(changes.of(before)) == []
    done = step("pages", size=6, counts={"completed": 6}, completed_at=BEGAN + timedelta(seconds=1), attempts=2)
    after = flow_of(step("load"), done, status="completed")
    assert list(changes.of(after)) == [
        "step pages is completed (attempt 2; 6 completed, of 6; after 0.50 s)",
        "flow f1 is completed",
    ]
    assert list(changes.of(after)) == []
