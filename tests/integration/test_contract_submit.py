"""The promises of `submit`, `attach` and their handles that the other tests leave open, sentence by sentence."""

from __future__ import annotations

import asyncio
import dataclasses
import pickle
import subprocess
import sys
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from graflow import task, workflow
from graflow.codec import RemoteError
from graflow.core.handlers.group_policy import (
    AtLeastNGroupPolicy,
    BestEffortGroupPolicy,
    CriticalGroupPolicy,
    GroupExecutionPolicy,
)
from graflow.core.nodes.plain import Task
from graflow.exceptions import (
    GroupConflictError,
    GroupTimeoutError,
    NoWorkerError,
    ParallelGroupError,
    PayloadError,
    RemoteTaskError,
    TaskResolutionError,
)
from graflow.redis.config import connection_of
from graflow_celery import LocalCluster, MemberOutcome, TaskWorker, attach, submit
from tests.integration import members
from tests.support import wait_until

pytestmark = pytest.mark.redis


class MineError(Exception):
    """An error that a submitter cannot make again from its name."""


def raising(error: BaseException) -> Any:
    def fails(x: int) -> int:
        try:
            raise KeyError("below")
        except KeyError as cause:
            raise error from cause

    return task(fails)


# -- what submit takes -------------------------------------------------------------------------------------------------


def test_any_sequence_of_tasks_is_a_group(config: dict[str, Any]) -> None:
    def made() -> list[Any]:
        return [members.double(task_id=f"t{index}", x=index) for index in range(3)]

    for given in (made(), tuple(made()), (one for one in made())):
        assert submit(given, config).results(timeout=120) == [0, 2, 4]
    assert submit(members.double(task_id="alone", x=4), config).results(timeout=120) == [8]
    (alone,) = submit([members.noop(task_id="alone", x=5)], config).outcomes(timeout=120)
    assert (alone.task_id, alone.value) == ("alone", 5)
    nothing = submit([], config)
    assert (nothing.results(timeout=120), nothing.outcomes(timeout=120), nothing.status().state) == ([], [], "DONE")


def test_groups_and_no_ops_may_be_members(config: dict[str, Any]) -> None:
    inner = members.double.map([1, 2], name="inner")
    assert submit([inner, Task("nothing")], config).results(timeout=120) == [[2, 4], None]


def test_what_follows_a_member_runs_inside_it(config: dict[str, Any], tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    write = task(id="write")(lambda path: Path(path).write_text("ran", encoding="utf-8"))
    with workflow("w"):
        chain = members.double(task_id="first", x=2) >> write(task_id="second", path=str(mark))
        assert submit([chain], config).results(timeout=120) == [4]
        assert mark.read_text(encoding="utf-8") == "ran"
        mark.unlink()
        assert submit(chain | members.double(task_id="other", x=3), config).results(timeout=120) == [4, 6]
    assert mark.read_text(encoding="utf-8") == "ran"


@pytest.mark.parametrize("given", ["text", 5, [5], [lambda: 1], None])
def test_what_is_no_task_is_refused_by_name(given: Any, config: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="submit"):
        submit(given, config)


@pytest.mark.parametrize("then", [sum, Task("nothing", register_to_context=False), "total", [members.total]])
def test_a_continuation_that_cannot_take_the_values_is_refused(then: Any, config: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="then="):
        submit(members.double.map([1]), config, then=then)


def test_a_run_id_is_text(config: dict[str, Any]) -> None:
    for run_id in (5, b"nightly", ""):
        with pytest.raises(TypeError, match="run_id="):
            submit(members.double.map([1]), config, run_id=run_id)
    handle = submit(members.double.map([1]), config, run_id="nightly:2026-11-21 {x}")
    assert handle.run_id == "nightly:2026-11-21 {x}"
    assert handle.results(timeout=120) == [2]
    assert attach(handle.run_id, config).results(timeout=120) == [2]


def test_submitting_creates_no_workflow_and_registers_nothing(config: dict[str, Any]) -> None:
    code = (
        "import os\n"
        "from graflow.core import workflow\n"
        "from graflow_celery import submit\n"
        "from tests.integration import members\n"
        "from graflow.core.building.scopes import current_scope\n"
        "handle = submit(members.double.map([1]), {'url': os.environ['URL']})\n"
        "print(current_scope(), handle.results(timeout=120))\n"
    )
    environment = {"URL": config["url"].reveal(), "GRAFLOW_SIGNING_KEY": config["signing_key"].reveal()}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment, "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "None [2]\n"


# -- policies and arguments that override ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "policy",
    [
        *("best_effort", "BEST_EFFORT", BestEffortGroupPolicy(), AtLeastNGroupPolicy(2)),
        {"type": "at_least_n", "min_success": 2},
        *(CriticalGroupPolicy(["fail_odd[0]"]), {"type": "critical", "critical_task_ids": ["fail_odd[2]"]}),
    ],
)
def test_a_policy_is_taken_in_every_form_and_known_to_whoever_attaches(policy: Any, config: dict[str, Any]) -> None:
    handle = submit(members.fail_odd.map(range(4)), config, policy)
    assert handle.results(timeout=120) == [0, None, 2, None]
    assert handle.status().state == "DONE"
    assert attach(handle.run_id, config).results(timeout=120) == [0, None, 2, None]


@pytest.mark.parametrize(
    ("policy", "kind"),
    [
        *[("nope", ValueError), (5, TypeError), ({"type": "bad"}, ValueError), (AtLeastNGroupPolicy(9), ValueError)],
        (CriticalGroupPolicy(["absent"]), ValueError),
    ],
)
def test_a_policy_that_cannot_apply_is_refused_before_anything_is_sent(
    policy: Any, kind: type[Exception], config: dict[str, Any]
) -> None:
    with pytest.raises(kind):
        submit(members.fail_odd.map(range(4)), config, policy, run_id="never-opened")
    with pytest.raises(LookupError):
        attach("never-opened", config)


class AllButOne(GroupExecutionPolicy):
    def on_group_finished(self, group_id: str, tasks: Any, results: Any, context: Any) -> None:
        failed = [task_id for task_id, result in results.items() if not result.success]
        if len(failed) > 1:
            raise ParallelGroupError("too many", group_id, [(task_id, "failed") for task_id in failed], [])


def test_a_policy_of_ones_own_decides(config: dict[str, Any]) -> None:
    assert submit(members.fail_odd.map(range(3)), config, AllButOne()).results(timeout=120) == [0, None, 2]
    with pytest.raises(ParallelGroupError, match="too many"):
        submit(members.fail_odd.map(range(4)), config, AllButOne()).results(timeout=120)


def test_arguments_override_what_with_execution_said_and_none_keeps_it(config: dict[str, Any]) -> None:
    def group() -> Any:
        elsewhere = {**config, "queue": "nobody"}
        return members.fail_odd.map(range(2)).with_execution("redis", elsewhere, "best_effort")

    here = {"queue": "graflow"}
    assert submit(group(), here).results(timeout=120) == [0, None]
    server = connection_of(config)
    elsewhere = members.double.map([1]).with_execution("redis", {**config, "url": "redis://127.0.0.1:1/0"})
    assert submit(elsewhere, server).results(timeout=120) == [2]
    with pytest.raises(ParallelGroupError):
        submit(group(), here, "strict").results(timeout=120)
    idle = submit(group())
    with pytest.raises(TimeoutError):
        idle.results(timeout=0.3)
    idle.cancel()


# -- run ids -----------------------------------------------------------------------------------------------------------


def test_another_process_with_the_same_members_attaches_and_with_others_conflicts(cluster: LocalCluster) -> None:
    first = submit(members.pid.map([1, 2]), cluster.backend_config, run_id="shared-by-two")
    code = (
        "import os, sys\n"
        "from graflow.exceptions import GroupConflictError\n"
        "from graflow_celery import submit\n"
        "from tests.integration import members\n"
        "config = {'url': os.environ['URL']}\n"
        "print(submit(members.pid.map([1, 2]), config, run_id='shared-by-two').results(timeout=120))\n"
        "try:\n"
        "    submit(members.pid.map([1, 3]), config, run_id='shared-by-two')\n"
        "except GroupConflictError as error:\n"
        "    print(error.run_id)\n"
    )
    environment = {
        "URL": cluster.redis_url.reveal(),
        "GRAFLOW_SIGNING_KEY": cluster.backend_config["signing_key"].reveal(),
        "PYTHONPATH": str(Path.cwd()),
    }
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == f"{first.results(timeout=120)}\nshared-by-two\n", done.stderr
    assert first.status().executions == 2


def test_code_by_value_under_one_run_id_attaches_too(config: dict[str, Any]) -> None:
    plus = task(id="plus")(lambda x: x + 1)
    first = submit(plus.map([1]), config, run_id="by-value")
    assert submit(plus.map([1]), config, run_id="by-value").results(timeout=120) == [2]
    assert first.status().executions == 1
    with pytest.raises(GroupConflictError) as caught:
        submit(plus.map([2]), config, run_id="by-value")
    assert caught.value.run_id == "by-value"


# -- waiting -----------------------------------------------------------------------------------------------------------


def test_a_wait_of_no_seconds_takes_what_is_there(config: dict[str, Any], tmp_path: Path) -> None:
    mark = tmp_path / "end"
    handle = submit(members.held.map([str(mark)]), config)
    for wait in (lambda: handle.results(timeout=0), lambda: list(handle.as_completed(timeout=0))):
        with pytest.raises(TimeoutError):
            wait()
    mark.touch()
    assert handle.results(timeout=120) == [str(mark)]
    later = attach(handle.run_id, config)
    assert later.results(timeout=0) == [str(mark)]
    assert [outcome.value for outcome in attach(handle.run_id, config).as_completed(timeout=0)] == [str(mark)]
    big = submit(members.noop.map(range(3000)), config)
    big.results(timeout=120)
    assert attach(big.run_id, config).results(timeout=0) == list(range(3000))


def test_the_error_of_a_wait_says_how_far_it_is_and_how_to_attach(config: dict[str, Any], tmp_path: Path) -> None:
    mark = tmp_path / "end"
    handle = submit(members.held.map([str(tmp_path), str(mark)]), {**config, "batch_size": 1})
    wait_until(lambda: handle.status().succeeded == 1)
    for wait in (handle.results, handle.outcomes, lambda timeout: list(handle.as_completed(timeout))):
        with pytest.raises(GroupTimeoutError, match=r"1 of 2.*attach\('" + handle.run_id) as caught:
            wait(timeout=0.05)
        assert (caught.value.done, caught.value.total, caught.value.group_id) == (1, 2, "held")
    assert handle.status().state == "RUNNING"
    mark.touch()
    assert attach(handle.run_id, config).results(timeout=120) == [str(tmp_path), str(mark)]


def test_an_attached_handle_does_all_that_the_first_one_does(config: dict[str, Any]) -> None:
    handle = submit([members.noop(task_id=f"n{index}", x=index) for index in range(3)], config)

    async def all_of_it() -> tuple[list[Any], list[str]]:
        attached = attach(handle.run_id, config)
        ids = [outcome.task_id async for outcome in attached]
        return await attached, sorted(ids)

    assert asyncio.run(all_of_it()) == ([0, 1, 2], ["n0", "n1", "n2"])
    with pytest.raises(ParallelGroupError) as caught:
        attach(submit(members.fail_odd.map([1]), config).run_id, config).results(timeout=120)
    assert caught.value.failed_tasks == [("fail_odd[0]", "1 is odd")]
    with pytest.raises(
        TypeError, match=rf"stays in its process; send its run_id, and there attach\('{handle.run_id}'\)"
    ):
        pickle.dumps(handle)
    slow = submit(members.patient.map(range(4)), config)
    assert attach(slow.run_id, config).cancel() is True
    assert {outcome.state for outcome in slow.outcomes(timeout=2)} == {"CANCELLED"}
    assert slow.status().cancelled == 4


def test_waiting_for_several_groups_in_an_event_loop_does_not_hold_it_up(
    config: dict[str, Any], tmp_path: Path
) -> None:
    mark = tmp_path / "end"

    async def both() -> list[Any]:
        slow, quick = submit(members.held.map([str(mark)]), config), submit(members.noop.map([1]), config)

        async def end_the_slow_one_after_the_quick_one() -> Any:
            values = await quick
            mark.touch()
            return values

        return await asyncio.gather(slow, end_the_slow_one_after_the_quick_one())

    assert asyncio.run(both()) == [[str(mark)], [1]]


def test_a_coroutine_that_stops_waiting_is_free_at_once(config: dict[str, Any]) -> None:
    async def impatient() -> None:
        handle = submit(members.patient.map([1]), config)

        async def first_outcome() -> None:
            async for _ in handle:
                return

        for waiting in (handle, first_outcome()):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(waiting, 0.1)
        handle.cancel()

    begun = time.monotonic()
    asyncio.run(impatient())
    assert time.monotonic() - begun < 10, "long before its member ends"


def test_the_queue_that_a_member_asks_for_is_looked_at_for_workers(config: dict[str, Any]) -> None:
    eager = {**config, "worker_wait": 0.3, "on_no_worker": "error"}
    for tasks in (
        [members.on_another_queue(task_id="a", x=1)],
        [members.noop(task_id="a", x=1), members.on_another_queue(task_id="b", x=2)],
    ):
        handle = submit(tasks, eager)
        for waiting in (handle, attach(handle.run_id, eager)):
            with pytest.raises(NoWorkerError, match=r"'elsewhere'.*-Q elsewhere"):
                waiting.results(timeout=120)
        handle.cancel()


def test_a_status_counts_every_member_once(config: dict[str, Any]) -> None:
    handle = submit(members.fail_odd.map(range(5)), config)
    handle.outcomes(timeout=120)
    status = handle.status()
    assert (status.total, status.pending, status.running, status.succeeded) == (5, 0, 0, 3)
    assert (status.failed, status.cancelled, status.lost, str(status.state)) == (2, 0, 0, "FAILED")


# -- outcomes and errors -----------------------------------------------------------------------------------------------


def test_outcomes_are_frozen_plain_and_in_utc(config: dict[str, Any]) -> None:
    before = datetime.now(tz=UTC)
    good, bad = submit(members.fail_odd.map([2, 3]), config).outcomes(timeout=120)
    names = [field.name for field in dataclasses.fields(MemberOutcome)]
    assert names == [
        *(
            "index",
            "task_id",
            "state",
            "value",
            "error",
            "attempts",
            "worker",
            "queued_at",
            "started_at",
            "finished_at",
        ),
        "losses",
        "logs",
    ]
    with pytest.raises(dataclasses.FrozenInstanceError):
        good.value = 5
    for moment in (good.queued_at, good.started_at, good.finished_at, bad.started_at, bad.finished_at):
        assert moment is not None
        assert moment.tzinfo is not None
        assert moment.utcoffset() == UTC.utcoffset(None)
        assert abs((moment - before).total_seconds()) < 10
    assert (good.error, bad.value) == (None, None)
    assert isinstance(bad.error, RemoteError)


def test_an_error_keeps_its_type_its_text_its_cause_and_where_it_came_from(config: dict[str, Any]) -> None:
    handle = submit(raising(MineError("all is lost")).map([1]), config)
    error = handle.outcomes(timeout=120)[0].error
    assert error is not None
    assert error.type.endswith("MineError")
    assert error.message == "all is lost"
    assert "in fails" in error.traceback
    assert error.cause is not None
    assert (error.cause.type, error.cause.message) == ("KeyError", "'below'")
    with pytest.raises(ParallelGroupError) as caught:
        handle.results()
    assert caught.value.group_id == "fails"
    assert caught.value.failed_tasks == [("fails[0]", "all is lost")]
    assert isinstance(caught.value.__cause__, RemoteTaskError)
    printed = "".join(traceback.format_exception(caught.value))
    assert "in fails" in printed
    assert "KeyError: 'below'" in printed


def test_a_refused_group_of_a_workflow_prints_the_remote_traceback_as_well(config: dict[str, Any]) -> None:
    with workflow("w") as wf:
        raising(MineError("all is lost")).map([1], name="shards").with_execution("redis", config) >> members.total
        with pytest.raises(ParallelGroupError) as caught:
            wf.execute()
    assert caught.value.failed_tasks == [("shards[0]", "all is lost")]
    assert "in fails" in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), GeneratorExit(), asyncio.CancelledError(), SystemExit(3)], ids=repr
)
def test_whatever_a_member_raises_ends_it_at_once(error: BaseException, config: dict[str, Any]) -> None:
    with pytest.raises(ParallelGroupError, match=type(error).__name__ if str(error) == "" else str(error)):
        submit(raising(error).map([1]), config).results(timeout=10)  # a third of the lease
    assert submit(members.noop.map([1]), config).results(timeout=120) == [1]


# -- continuations -----------------------------------------------------------------------------------------------------


def test_a_continuation_is_a_handle_of_one(config: dict[str, Any]) -> None:
    handle = submit(members.double.map([1, 2]), config, then=members.total)
    following = handle.continuation()

    async def waited() -> tuple[list[Any], list[Any]]:
        return await following, [outcome.value async for outcome in following]

    assert asyncio.run(waited()) == ([6], [6])
    assert following.outcomes()[0].task_id == "total"
    assert handle.results(timeout=120) == [2, 4]
    assert [outcome.value for outcome in following.as_completed(timeout=1)] == [6]
    assert (following.status().total, following.status().succeeded, following.status().state) == (1, 1, "DONE")
    assert following.cancel() is False
    assert attach(handle.run_id, config).continuation().results(timeout=1) == [6]


def test_the_continuation_of_an_empty_group_receives_an_empty_list(config: dict[str, Any]) -> None:
    assert submit(members.double.map([]), config, then=members.total).continuation().results(timeout=120) == [0]


def test_a_continuation_sees_none_at_failed_places_of_a_tolerant_group(config: dict[str, Any]) -> None:
    seen = task(id="seen")(lambda values: values)
    handle = submit(members.fail_odd.map(range(3)), config, "best_effort", then=seen)
    assert handle.continuation().results(timeout=120) == [[0, None, 2]]


def test_a_continuation_that_fails_says_why_and_leaves_its_group_done(config: dict[str, Any]) -> None:
    handle = submit(members.double.map([1]), config, then=raising(MineError("not today")))
    with pytest.raises(ParallelGroupError, match="not today"):
        handle.continuation().results(timeout=120)
    assert handle.results(timeout=1) == [2]
    assert handle.continuation().status().failed == 1


def test_cancelling_a_group_cancels_its_continuation(config: dict[str, Any]) -> None:
    handle = submit(members.patient.map(range(3)), config, then=members.total)
    assert handle.continuation().status().pending == 1
    handle.cancel()
    assert handle.continuation().outcomes(timeout=120)[0].state == "CANCELLED"


def test_a_continuation_that_runs_can_be_cancelled_and_tells_its_progress(one_slot: LocalCluster) -> None:
    handle = submit(members.double.map([1, 2]), one_slot.backend_config, then=members.patient_with_values)
    wait_until(lambda: 2 in handle.progress())
    assert handle.progress()[2].message == "2 values"
    assert handle.continuation().cancel()
    assert handle.continuation().outcomes(timeout=120)[0].state == "CANCELLED"
    assert submit(members.double.map([1]), one_slot.backend_config).results(timeout=120) == [2]


def test_waiting_for_a_continuation_holds_no_slot(one_slot: LocalCluster) -> None:
    config = one_slot.backend_config
    assert submit(members.doubles_and_sums_inside.map([3, 4]), config).results(timeout=120) == [6, 12]
    handle = submit(members.double.map([1, 2]), config, then=members.doubles_inside)
    assert handle.continuation().results(timeout=120) == [[4, 8]]


def test_a_wait_for_a_continuation_says_how_far_its_group_is(no_workers: LocalCluster) -> None:
    handle = submit(members.double.map([1, 2]), no_workers.backend_config, then=members.total)
    with pytest.raises(TimeoutError) as caught:
        handle.continuation().results(timeout=0.1)
    assert "'total'" in str(caught.value)
    assert "0 of 2 members" in str(caught.value)
    assert f"graflow_celery.attach('{handle.run_id}').continuation()" in str(caught.value)
    handle.cancel()


@pytest.mark.slow
def test_a_continuation_has_the_options_of_its_task_and_not_those_of_members(one_slot: LocalCluster) -> None:
    config = one_slot.backend_config
    for then in (members.endless_total, members.softly_endless_total):
        (over,) = submit(members.double.map([1]), config, then=then).continuation().outcomes(timeout=120)
        assert (over.state, over.error and over.error.message.partition(":")[0]) == (
            "TIMED_OUT",
            f"Error in task '{then.task_id}'",
        )
    elsewhere = submit(members.double.map([1]), config, then=members.total_elsewhere)
    assert elsewhere.results(timeout=120) == [2]
    with TaskWorker(config, queue="elsewhere", imports=[members]):
        assert elsewhere.continuation().results(timeout=120) == [2]


def test_a_continuation_may_last_longer_than_members_may(config: dict[str, Any], tmp_path: Path) -> None:
    mark = tmp_path / "end"
    handle = submit(members.soon.map([str(mark)]), config, then=members.held_by_values)
    wait_until(lambda: 1 in handle.progress())
    (over,) = submit(members.endless.map([1]), config).outcomes(timeout=120)
    assert over.state == "TIMED_OUT", "the limit of members has passed since the continuation began"
    mark.touch()
    assert handle.continuation().results(timeout=120) == [1]


def test_a_continuation_whose_process_is_killed_runs_again_at_once(one_slot: LocalCluster) -> None:
    handle = submit(members.double.map([1]), one_slot.backend_config, then=members.total_at_second_try)
    assert handle.continuation().results(timeout=10) == [(1, 2)]  # its lease would take 30 seconds


def test_a_continuation_without_a_key_is_refused_before_anything_is_sent(config: dict[str, Any]) -> None:
    unsigned = {key: value for key, value in config.items() if key != "signing_key"}
    with pytest.raises(TaskResolutionError, match="GRAFLOW_SIGNING_KEY"):
        submit(members.double.map([1]), unsigned, run_id="unsigned-then", then=task(id="by-value")(lambda v: v))
    with pytest.raises(LookupError):
        attach("unsigned-then", config)


def test_one_argument_that_cannot_be_sent_refuses_the_whole_group(config: dict[str, Any]) -> None:
    unsigned = {key: value for key, value in config.items() if key != "signing_key"}
    with pytest.raises(PayloadError, match=r"noop\[2\]"):
        submit(members.noop.map([1, 2, object()]), unsigned, run_id="half")
    with pytest.raises(LookupError):
        attach("half", config)
