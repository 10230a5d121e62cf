"""Groups that end before all of their members have: enough have succeeded, or one has failed."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from graflow import parallel, task, workflow
from graflow.core.handlers.group_policy import (
    AtLeastNGroupPolicy,
    StrictGroupPolicy,
    canonicalize_group_policy,
    resolve_group_policy,
)
from graflow.exceptions import MemberLeftOutError, ParallelGroupError
from tests.support import forever, wait_until

FAIL_FAST = StrictGroupPolicy(fail_fast=True)


def enough(number: int) -> AtLeastNGroupPolicy:
    return AtLeastNGroupPolicy(number, cancel_rest=True)


def in_threads(count: int) -> dict[str, Any]:
    return {"backend": "threading", "backend_config": {"thread_count": count}}


@pytest.mark.parametrize("where", [{"backend": "direct"}, in_threads(1)], ids=["direct", "one thread"])
def test_no_member_is_started_once_enough_have_succeeded(where: dict[str, Any]) -> None:
    ran: list[int] = []
    with workflow("enough") as wf:

        @task
        def try_it(x: int) -> int:
            ran.append(x)
            if x == 1:
                raise ValueError("not this one")
            return x

        try_it.map(range(6), name="tries").with_execution(**where, policy=enough(2))
        value, context = wf.execute(ret_context=True)
    assert value == [0, None, 2, None, None, None]
    assert ran == [0, 1, 2]
    left_out = context.get_result("tries[4]")
    assert isinstance(left_out, MemberLeftOutError)
    assert str(left_out) == "Error in task 'tries[4]': left out: enough members have succeeded"


@pytest.mark.parametrize("where", [{"backend": "direct"}, in_threads(1)], ids=["direct", "one thread"])
def test_no_member_is_started_once_one_has_failed(where: dict[str, Any]) -> None:
    ran: list[int] = []
    with workflow("strict") as wf:

        @task
        def try_it(x: int) -> int:
            ran.append(x)
            if x == 1:
                raise ValueError("broken")
            return x

        try_it.map(range(5), name="tries").with_execution(**where, policy=FAIL_FAST)
        with pytest.raises(ParallelGroupError) as raised:
            wf.execute()
    assert ran == [0, 1]
    error = raised.value
    assert error.message == (
        "Parallel group 'tries': 1 of 5 tasks failed, 3 were left out: 'tries[1]': ValueError: broken"
    )
    assert error.failed_tasks == [("tries[1]", "broken")]
    assert error.successful_tasks == ["tries[0]"]
    assert list(error.errors) == ["tries[1]"]
    assert isinstance(error.__cause__, ValueError)


def test_without_fail_fast_every_member_runs() -> None:
    ran: list[int] = []
    with workflow("strict") as wf:

        @task
        def try_it(x: int) -> int:
            ran.append(x)
            raise ValueError("broken")

        try_it.map(range(3)).with_execution("direct")
        with pytest.raises(ParallelGroupError, match="3 of 3 tasks failed: "):
            wf.execute()
    assert ran == [0, 1, 2]


def test_members_that_run_are_not_waited_for_once_enough_have_succeeded() -> None:
    told, release = threading.Event(), threading.Event()
    with workflow("race") as wf:

        @task(inject_context=True)
        def slow(context: Any) -> str:
            wait_until(context.is_cancelled)
            told.set()
            release.wait(20)
            return "late"

        @task
        def quick() -> str:
            return "first"

        @task
        def after(quick: str) -> str:
            return quick

        _ = parallel(slow, quick).with_execution(**in_threads(2), policy=enough(1)) >> after
        try:
            value, run = wf.execute(ret_context=True)
            assert value == "first"
            assert told.wait(20)  # it runs on, and was told
        finally:
            release.set()
    assert isinstance(run.get_result("slow"), MemberLeftOutError)


def test_members_that_run_end_when_another_has_failed() -> None:
    begun, failed = threading.Event(), threading.Event()
    with workflow("two") as wf:

        @task(inject_context=True)
        def steady(context: Any) -> str:
            begun.set()
            assert failed.wait(20)
            assert not context.is_cancelled()
            return "done"

        @task
        def broken() -> None:
            assert begun.wait(20)
            failed.set()
            raise ValueError("broken")

        parallel(steady, broken).with_execution(**in_threads(2), policy=FAIL_FAST)
        with pytest.raises(ParallelGroupError, match="1 of 2 tasks failed: ") as raised:
            wf.execute()
    assert raised.value.successful_tasks == ["steady"]


def test_async_members_are_left_out_alike() -> None:
    begun: list[int] = []
    all_have_begun = asyncio.Event()
    with workflow("async") as wf:

        @task
        async def hedge(x: int) -> int:
            begun.append(x)
            if len(begun) == 6:
                all_have_begun.set()
            await (all_have_begun.wait() if x == 3 else forever())
            return x

        hedge.map(range(6), name="hedges").with_execution("threading", policy=enough(1))
        start = time.monotonic()
        assert wf.execute() == [None, None, None, 3, None, None]
    assert time.monotonic() - start < 20
    assert sorted(begun) == list(range(6))


def test_what_was_left_out_runs_when_the_group_is_tried_again() -> None:
    ran: list[int] = []
    mended = threading.Event()
    with workflow("again") as wf:

        @task
        def try_it(x: int) -> int:
            ran.append(x)
            if x == 1 and not mended.is_set():
                raise ValueError("broken")
            return x

        try_it.map(range(4), name="tries").with_execution("direct", policy=FAIL_FAST)
        with pytest.raises(ParallelGroupError):
            wf.execute()
        mended.set()
        wf.last_context.execute()
    assert ran == [0, 1, 1, 2, 3]


@pytest.mark.parametrize(
    ("policy", "form"),
    [
        (FAIL_FAST, {"type": "strict", "fail_fast": True}),
        (enough(2), {"type": "at_least_n", "min_success": 2, "cancel_rest": True}),
        (StrictGroupPolicy(fail_fast=False), "strict"),
        (AtLeastNGroupPolicy(2, cancel_rest=False), {"type": "at_least_n", "min_success": 2}),
    ],
)
def test_such_policies_have_a_plain_form(policy: Any, form: object) -> None:
    assert canonicalize_group_policy(policy) == form
    assert vars(resolve_group_policy(form)) == vars(policy)


def test_options_of_policies_are_checked() -> None:
    with pytest.raises(TypeError, match="fail_fast must be True or False, got 'yes'"):
        StrictGroupPolicy(fail_fast="yes")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="cancel_rest must be True or False, got 1"):
        AtLeastNGroupPolicy(1, cancel_rest=1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="cancel_rest needs a min_success of at least 1"):
        enough(0)
