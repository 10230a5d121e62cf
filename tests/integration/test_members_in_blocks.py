"""Groups whose members stand in blocks, on real workers: what users see is what they see of members by themselves."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from graflow import task, workflow
from graflow.exceptions import ParallelGroupError
from graflow_celery import GroupHandle, attach, submit
from tests.integration.members import dies_once_at_five, double, fail_odd, held, needs_file, noop, scaled, total
from tests.support import wait_until

pytestmark = pytest.mark.redis

MANY = 300


def in_blocks(handle: GroupHandle) -> GroupHandle:
    assert handle._spec.stride > 1
    return handle


def alone(handle: GroupHandle) -> GroupHandle:
    assert handle._spec.stride == 0
    return handle


def test_outcomes_are_told_one_by_one(config: dict[str, Any]) -> None:
    handle = in_blocks(submit(double.map(range(MANY)), config))
    told = {outcome.index: outcome for outcome in handle.as_completed(60)}
    assert {index: outcome.value for index, outcome in told.items()} == {i: 2 * i for i in range(MANY)}
    assert [told[i] for i in range(MANY)] == handle.outcomes()
    assert told[7].task_id == "double[7]"
    assert told[7].queued_at <= told[7].started_at <= told[7].finished_at
    assert told[7].worker
    assert (handle.status().succeeded, handle.status().pending) == (MANY, 0)
    assert attach(handle.run_id, config).results(60) == handle.results(60) == [2 * i for i in range(MANY)]


def test_coroutines_wait_for_them(config: dict[str, Any]) -> None:
    handle = in_blocks(submit(double.map(range(MANY)), config))

    async def wait() -> tuple[list[int], list[int]]:
        values = await handle
        return values, [outcome.index async for outcome in attach(handle.run_id, config)]

    values, indices = asyncio.run(wait())
    assert values == [2 * i for i in range(MANY)]
    assert sorted(indices) == list(range(MANY))


@pytest.mark.parametrize("then", [None, total], ids=["alone", "continued"])
def test_a_group_is_the_same_however_many_workers_there_are(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch, then: Any
) -> None:
    """Who submits it again, from wherever, attaches: in blocks or not is nobody's business."""
    monkeypatch.setattr("graflow_celery.broker.paces.Paces.is_brief", lambda *_: False)
    runs = {}
    for first, *others in ((1, 3, 64), (64, 1)):
        monkeypatch.setattr("graflow_celery.deployment.Deployment.slots", lambda _, n=first: n)
        group = double.map(range(12), name=f"on {first}")
        handle = submit(group, config, run_id=f"on-{first}-{then is None}", then=then)
        runs[first] = handle._spec.stride
        for slots in others:
            monkeypatch.setattr("graflow_celery.deployment.Deployment.slots", lambda _, n=slots: n)
            assert submit(group, config, run_id=handle.run_id, then=then).results(60) == [2 * i for i in range(12)]
    assert runs[1] > 1
    assert runs[64] == 0


def test_values_of_any_kind_are_nobody_elses(config: dict[str, Any]) -> None:
    items = [[i, {"of": (i,)}] for i in range(20)]
    handle = in_blocks(submit(noop.map(items), config))
    first, second = handle.results(60), handle.results(60)
    assert first == second == items
    first[0].append("mine")
    assert handle.results(60) == second == items


def test_some_fail_and_the_policy_is_asked(config: dict[str, Any]) -> None:
    with pytest.raises(ParallelGroupError, match="150 of 300 tasks failed") as raised:
        in_blocks(submit(fail_odd.map(range(MANY)), config)).results(60)
    assert len(raised.value.failed_tasks) == MANY / 2
    expected = [None if i % 2 else i for i in range(MANY)]
    for policy in ("best_effort", {"type": "at_least_n", "min_success": 150}):
        assert in_blocks(submit(fail_odd.map(range(MANY)), config, policy=policy)).results(60) == expected
    critical = {"type": "critical", "critical_task_ids": ["fail_odd[2]", "fail_odd[298]"]}
    assert in_blocks(submit(fail_odd.map(range(MANY)), config, policy=critical)).results(60) == expected
    critical = {"type": "critical", "critical_task_ids": ["fail_odd[2]", "fail_odd[299]"]}
    with pytest.raises(ParallelGroupError, match=r"fail_odd\[299\]"):
        in_blocks(submit(fail_odd.map(range(MANY)), config, policy=critical)).results(60)


def test_a_continuation_takes_all_values(config: dict[str, Any]) -> None:
    handle = in_blocks(submit(double.map(range(MANY)), config, then=total))
    assert handle.continuation().results(60) == [sum(2 * i for i in range(MANY))]


def test_keys_tuples_and_mappings(config: dict[str, Any]) -> None:
    handle = in_blocks(submit(double.map(range(40), key=lambda item: f"k{item}", name="keyed"), config))
    assert [outcome.task_id for outcome in handle.outcomes(60)] == [f"keyed[k{i}]" for i in range(40)]
    assert [outcome.task_id for outcome in attach(handle.run_id, config).outcomes(60)][39] == "keyed[k39]"
    items = [(i, 2) if i % 2 else {"factor": 3, "x": i} for i in range(40)]
    handle = in_blocks(submit(scaled.starmap(items), config))
    assert handle.results(60) == [2 * i if i % 2 else 3 * i for i in range(40)]
    assert in_blocks(submit(scaled(task_id="s", factor=5).map(range(40)), config)).results(60)[39] == 195


def test_code_travels_once(config: dict[str, Any]) -> None:
    offset = 7
    handle = in_blocks(submit(task(lambda n: n + offset).map(range(40), name="shifted"), config))
    assert handle.results(60) == [n + 7 for n in range(40)]


@pytest.mark.parametrize(
    ("settings", "policy"),
    [
        ({"max_in_flight": 2}, None),
        ({"max_attempts": 1}, None),
        ({"batch_size": 1}, None),
        ({}, {"type": "strict", "fail_fast": True}),
    ],
)
def test_what_is_about_single_members_has_them_travel_by_themselves(
    settings: dict[str, Any], policy: Any, config: dict[str, Any]
) -> None:
    handle = alone(submit(double.map(range(20)), {**config, **settings}, policy=policy))
    assert handle.results(60) == [2 * i for i in range(20)]


def test_what_cannot_stand_in_columns_travels_by_itself(config: dict[str, Any]) -> None:
    touched = double.map(range(20))
    touched.tasks[3] = double(task_id="double[3]", x=100)
    assert alone(submit(touched, config)).results(60)[3] == 200
    long = ["x" * 300_000, "y" * 300_000, "z"]
    assert [len(value) for value in alone(submit(noop.map(long), config)).results(60)] == [300_000, 300_000, 1]


def test_a_slow_member_holds_nobody_up(config: dict[str, Any], tmp_path: Path) -> None:
    marks = [str(tmp_path / str(i)) for i in range(20)]
    for mark in marks[1:]:
        Path(mark).touch()
    handle = in_blocks(submit(held.map(marks), config))
    wait_until(lambda: handle.status().succeeded == 19)
    assert handle.status().running == 1
    Path(marks[0]).touch()
    assert handle.results(60) == marks


def test_a_lost_worker_loses_no_member(config: dict[str, Any], tmp_path: Path) -> None:
    handle = in_blocks(submit(dies_once_at_five(task_id="d", mark=str(tmp_path / "died")).map(range(40)), config))
    assert handle.results(60) == list(range(40))
    assert {outcome.losses for outcome in handle.outcomes()} >= {1}


def test_cancelling_ends_what_waits(config: dict[str, Any], tmp_path: Path) -> None:
    marks = [str(tmp_path / str(i)) for i in range(200)]
    handle = in_blocks(submit(held.map(marks), config))
    wait_until(lambda: handle.status().running > 0)
    assert handle.cancel("enough")
    assert handle.status().cancelled == 200
    assert {str(outcome.state) for outcome in handle.outcomes(60)} == {"CANCELLED"}
    for mark in marks:
        Path(mark).touch()


def test_a_retry_runs_only_what_failed(config: dict[str, Any], tmp_path: Path) -> None:
    handle = in_blocks(submit(needs_file(task_id="n", folder=str(tmp_path)).map(range(60)), config))
    with pytest.raises(ParallelGroupError):
        handle.results(60)
    (tmp_path / "file").touch()
    assert handle.retry() == list(range(1, 60, 2))
    assert handle.results(60) == list(range(60))
    assert [outcome.attempts for outcome in handle.outcomes()] == [1, 2] * 30
    lines = (tmp_path / "executions").read_text(encoding="utf-8").split()
    assert len(lines) == 90


def test_a_workflow_takes_the_list(config: dict[str, Any]) -> None:
    with workflow("sum") as wf:
        shards = double.map(range(MANY), name="shards").with_execution("redis", backend_config=config)
        shards >> total
        assert wf.execute() == sum(2 * i for i in range(MANY))
