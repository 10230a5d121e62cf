"""Groups that have ended badly are repaired on real workers: what failed runs again, nothing else does."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import redis

from graflow import workflow
from graflow.coordination.coordinator import CoordinationBackend
from graflow.exceptions import (
    GroupNotFoundError,
    GroupTimeoutError,
    MemberCancelledError,
    ParallelGroupError,
    TaskTimeoutError,
)
from graflow_celery import RetryRefusedError, attach, submit
from graflow_celery.client.handle import GroupHandle
from graflow_celery.deployment import deployment_of
from tests.integration import members

pytestmark = pytest.mark.redis


def executions(folder: Path) -> list[int]:
    return sorted(int(line) for line in (folder / "executions").read_text(encoding="utf-8").split())


def submitted(folder: Path, config: dict[str, Any], **options: Any) -> GroupHandle:
    group = members.needs_file.starmap([(x, str(folder)) for x in range(4)], name="files")
    return submit(group, backend_config=config, **options)


def test_a_retry_runs_what_failed_and_the_handle_waits_for_it(config: dict[str, Any], tmp_path: Path) -> None:
    handle = submitted(tmp_path, config)
    with pytest.raises(ParallelGroupError, match=f"group run '{handle.run_id}'") as raised:
        handle.results(20)
    assert raised.value.run_id == handle.run_id
    before = handle.outcomes()
    (tmp_path / "file").touch()

    assert handle.retry() == [1, 3]

    assert handle.results(20) == [0, 1, 2, 3]
    after = handle.outcomes()
    assert [outcome.attempts for outcome in after] == [1, 2, 1, 2]
    assert [after[0], after[2]] == [before[0], before[2]]
    assert executions(tmp_path) == [0, 1, 1, 2, 3, 3]
    assert handle.status().succeeded == 4


def test_what_failed_before_a_retry_is_no_answer_while_the_server_does_not_tell(
    config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = submitted(tmp_path, config)
    with pytest.raises(ParallelGroupError):
        handle.results(30)
    (tmp_path / "file").touch()
    handle.retry()
    record, silent = deployment_of(config).record, [redis.exceptions.ConnectionError("away")] * 2
    read = record.read

    def read_later(*arguments: Any, **options: Any) -> Any:
        if silent:
            raise silent.pop()
        return read(*arguments, **options)

    monkeypatch.setattr(record, "read", read_later)
    assert handle.results(30) == [0, 1, 2, 3]
    assert not silent


def test_any_process_may_retry_and_others_see_it(config: dict[str, Any], tmp_path: Path) -> None:
    handle = submitted(tmp_path, config)
    handle.outcomes(20)
    (tmp_path / "file").touch()

    attach(handle.run_id, config).retry(3)

    # The first handle had read the end already; it looks again, and finds the same members but one.
    assert [str(outcome.state) for outcome in handle.outcomes(20)] == ["SUCCEEDED", "FAILED", "SUCCEEDED", "SUCCEEDED"]
    attach(handle.run_id, config).retry()
    assert asyncio.run(awaited(handle)) == [0, 1, 2, 3]


async def awaited(handle: GroupHandle) -> list[Any]:
    return await handle


def test_outcomes_of_a_retry_arrive_one_by_one(config: dict[str, Any], tmp_path: Path) -> None:
    handle = submitted(tmp_path, config)
    handle.outcomes(20)
    (tmp_path / "file").touch()
    handle.retry()
    fresh = attach(handle.run_id, config)
    assert sorted(outcome.index for outcome in fresh.as_completed(20)) == [0, 1, 2, 3]


def test_the_continuation_follows_once_when_all_is_well(config: dict[str, Any], tmp_path: Path) -> None:
    then = members.sum_in_folder(folder=str(tmp_path), task_id="sum")
    handle = submitted(tmp_path, config, then=then)
    with pytest.raises(ParallelGroupError, match=f"run '{handle.run_id}'"):
        handle.continuation().results(20)
    assert not (tmp_path / "sums").exists()
    last = handle.continuation()
    last.outcomes(20)
    (tmp_path / "file").touch()

    handle.retry()

    assert last.results(20) == [6]
    assert handle.continuation().results(20) == [6]
    assert (tmp_path / "sums").read_text(encoding="utf-8") == "[0, 1, 2, 3]\n"


def test_a_continuation_that_failed_runs_again_alone(config: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "broken").touch()
    handle = submitted(tmp_path, config, then=members.sum_in_folder(folder=str(tmp_path), task_id="sum"))
    with pytest.raises(ParallelGroupError):
        handle.continuation().results(20)
    (tmp_path / "broken").unlink()

    assert handle.retry() == []

    assert handle.continuation().results(20) == [6]
    assert executions(tmp_path) == [0, 1, 2, 3]


def test_a_retry_that_cannot_be_says_what_to_do(config: dict[str, Any], tmp_path: Path) -> None:
    handle = submit(members.noop.map([1]), backend_config={**config, "queue": "nobody"})
    with pytest.raises(RetryRefusedError, match="has not ended"):
        handle.retry()
    handle.cancel()
    with pytest.raises(RetryRefusedError, match="submit its group anew, under another run id"):
        handle.retry()
    with pytest.raises(MemberCancelledError) as cancelled:
        raise next(iter(error_of(handle).errors.values()))
    assert cancelled.value.run_id == handle.run_id
    for index, error in ((True, TypeError), ("0", TypeError), (-1, ValueError)):
        with pytest.raises(error, match="index must be"):
            handle.retry(index)  # type: ignore[arg-type]
    deployment_of(config).record.delete(handle.run_id)
    with pytest.raises(GroupNotFoundError, match=handle.run_id):
        handle.retry()


def error_of(handle: GroupHandle) -> ParallelGroupError:
    with pytest.raises(ParallelGroupError) as raised:
        handle.results(20)
    return raised.value


def test_a_group_whose_time_was_over_gets_its_time_again(config: dict[str, Any], tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    handle = submit(members.held.map([str(mark)]), backend_config={**config, "timeout": 1.0})
    with pytest.raises(GroupTimeoutError, match=f"group run '{handle.run_id}'"):
        handle.results(20)
    mark.touch()
    assert handle.retry() == [0]
    assert handle.results(20) == [str(mark)]


def test_the_error_of_a_workflow_names_the_run_of_its_group_which_can_be_repaired(
    config: dict[str, Any], tmp_path: Path
) -> None:
    with workflow("repaired") as flow:
        group = members.needs_file.starmap([(x, str(tmp_path)) for x in range(4)], name="values")
        _ = group.with_execution(CoordinationBackend.REDIS, backend_config=config) >> members.total
        with pytest.raises(ParallelGroupError, match="group run") as raised:
            flow.execute()
    (tmp_path / "file").touch()

    handle = attach(str(raised.value.run_id), config)

    assert handle.retry() == [1, 3]
    assert handle.results(20) == [0, 1, 2, 3]


def test_a_group_whose_time_was_over_is_taken_with_gaps_after_a_retry_of_one_member(
    config: dict[str, Any], tmp_path: Path
) -> None:
    # Given a group of any success that ran out of time before anything had succeeded
    marks = [str(tmp_path / name) for name in ("first", "second")]
    options = {**config, "timeout": 1.0}
    handle = submit(members.held.map(marks), policy="best_effort", backend_config=options)
    with pytest.raises(GroupTimeoutError):
        handle.results(20)

    # When one of its members runs again, in time
    for mark in marks:
        Path(mark).touch()
    assert handle.retry(0) == [0]

    # Then its policy says what comes of it, to the handle that saw the end before and to one that did not
    for one in (handle, attach(handle.run_id, config)):
        assert one.results(20) == [marks[0], None]
        assert one.status().state == "DONE"


def test_a_strict_group_whose_time_was_over_is_refused_for_what_was_not_retried(
    config: dict[str, Any], tmp_path: Path
) -> None:
    marks = [str(tmp_path / name) for name in ("first", "second")]
    handle = submit(members.held.map(marks), backend_config={**config, "timeout": 1.0})
    with pytest.raises(GroupTimeoutError):
        handle.results(20)
    for mark in marks:
        Path(mark).touch()
    handle.retry(0)

    errors = error_of(handle).errors

    assert list(errors) == [handle.outcomes(20)[1].task_id]
    assert [type(error) for error in errors.values()] == [TaskTimeoutError]
