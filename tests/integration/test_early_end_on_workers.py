"""Groups on workers that end before all of their members have, as groups of one process do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from graflow import parallel, workflow
from graflow.coordination.coordinator import CoordinationBackend
from graflow.core.handlers.group_policy import AtLeastNGroupPolicy, StrictGroupPolicy
from graflow.exceptions import MemberLeftOutError, ParallelGroupError
from graflow_celery import LocalCluster, submit
from tests.integration import members
from tests.integration.test_retry import executions

pytestmark = pytest.mark.redis

FAIL_FAST = StrictGroupPolicy(fail_fast=True)


def tries(folder: Path, n: int) -> Any:
    return members.needs_file.starmap([(x, str(folder)) for x in range(n)], name="tries")


def test_the_rest_is_left_out_once_enough_have_succeeded(one_slot: LocalCluster, tmp_path: Path) -> None:
    policy = AtLeastNGroupPolicy(2, cancel_rest=True)
    handle = submit(tries(tmp_path, 50), one_slot.backend_config, policy=policy)

    assert handle.results(20) == [0, None, 2, *[None] * 47]

    assert executions(tmp_path) == [0, 1, 2]
    states = [str(outcome.state) for outcome in handle.outcomes()]
    assert states == ["SUCCEEDED", "FAILED", "SUCCEEDED", *["CANCELLED"] * 47]
    last = handle.outcomes()[-1]
    assert (last.attempts, last.started_at, last.worker) == (0, None, None)
    assert last.error is not None
    assert last.error.message == "Error in task 'tries[49]': left out: enough members have succeeded"
    status = handle.status()
    assert (str(status.state), status.cancelled, status.failed) == ("DONE", 47, 1)


def test_a_member_that_runs_is_cancelled_and_not_waited_for(config: dict[str, Any], tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    group = parallel(members.held(mark=str(mark), task_id="slow"), members.noop(x=7, task_id="quick"))
    handle = submit(group, config, policy={"type": "at_least_n", "min_success": 1, "cancel_rest": True})
    try:
        assert handle.results(20) == [None, 7]
        assert [str(outcome.state) for outcome in handle.outcomes()] == ["CANCELLED", "SUCCEEDED"]
    finally:
        mark.touch()


def test_no_member_is_started_once_one_has_failed(one_slot: LocalCluster, tmp_path: Path) -> None:
    handle = submit(tries(tmp_path, 50), one_slot.backend_config, policy=FAIL_FAST)

    with pytest.raises(ParallelGroupError) as raised:
        handle.results(20)

    assert executions(tmp_path) == [0, 1]
    error = raised.value
    assert "1 of 50 tasks failed, 48 were left out: 'tries[1]': " in str(error)
    assert [task_id for task_id, _ in error.failed_tasks] == ["tries[1]"]
    assert error.successful_tasks == ["tries[0]"]
    assert handle.status().cancelled == 48

    # What was left out runs when the group is repaired.
    (tmp_path / "file").touch()
    assert handle.retry() == list(range(1, 50))
    assert handle.results(20) == list(range(50))
    assert executions(tmp_path) == sorted([*range(50), 1])


def test_a_workflow_goes_on_with_what_it_has(one_slot: LocalCluster, tmp_path: Path) -> None:
    with workflow("enough") as wf:
        values = members.needs_file.starmap([(x, str(tmp_path)) for x in range(20)], name="values")
        group = values.with_execution(
            CoordinationBackend.REDIS, one_slot.backend_config, AtLeastNGroupPolicy(2, cancel_rest=True)
        )
        _ = group >> members.sum_in_folder(folder=str(tmp_path), task_id="sum")
        _, context = wf.execute(ret_context=True)
    assert context.get_result("sum") == 2
    assert isinstance(context.get_result("values[9]"), MemberLeftOutError)


def test_a_continuation_follows_a_group_that_ended_early(one_slot: LocalCluster, tmp_path: Path) -> None:
    then = members.sum_in_folder(folder=str(tmp_path), task_id="sum")
    policy = AtLeastNGroupPolicy(2, cancel_rest=True)
    handle = submit(tries(tmp_path, 20), one_slot.backend_config, policy=policy, then=then)
    assert handle.continuation().results(20) == [2]
    strict = submit(tries(tmp_path, 20), one_slot.backend_config, policy=FAIL_FAST, then=then)
    with pytest.raises(ParallelGroupError, match="member 1: no file for 1; member 2: a member has failed"):
        strict.continuation().results(20)
