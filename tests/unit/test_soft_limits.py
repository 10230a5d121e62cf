"""Soft time limits that are raised in a thread from outside."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
from celery.concurrency.base import BasePool
from celery.concurrency.prefork import TaskPool as PreforkPool
from celery.concurrency.solo import TaskPool as SoloPool
from celery.exceptions import SoftTimeLimitExceeded

from graflow import task
from graflow.core.task_registry import TaskResolver, TaskResolverRegistry
from graflow.runtime import Runtime
from graflow_celery.worker.main.pools import ThreadPool, runs_threads, warn_of_soft_limits
from graflow_celery.worker.soft_limits import SoftLimit


@pytest.fixture
def limit() -> Iterator[SoftLimit]:
    """One that another thread looks after all the time."""
    runtime = Runtime()
    runtime.interrupts = True
    limit, ends = SoftLimit(runtime), threading.Event()

    def pace() -> None:
        while not ends.is_set():
            limit.expire(runtime.monotonic())

    pacing = threading.Thread(target=pace, daemon=True)
    pacing.start()
    yield limit
    ends.set()
    pacing.join()


def steps(count: int) -> int:
    return sum(1 for _ in range(count))


def spin() -> None:
    while True:
        steps(1)


def test_a_call_over_its_time_is_interrupted(limit: SoftLimit) -> None:
    with pytest.raises(SoftTimeLimitExceeded):
        limit.within(0.01, spin)
    assert limit.within(60.0, lambda: "again") == "again"


def test_a_call_may_bear_the_interruption_and_is_spared_from_then_on(limit: SoftLimit) -> None:
    def bears() -> int:
        with pytest.raises(SoftTimeLimitExceeded):
            spin()
        return steps(10_000)

    assert limit.within(0.01, bears) == 10_000


@pytest.mark.usefixtures("many_switches")
def test_nothing_is_raised_after_the_call_however_close_its_end_is_to_the_limit(limit: SoftLimit) -> None:
    interrupted = 0
    for attempt in range(2000):
        try:
            limit.within(0.0, lambda attempt=attempt: steps(attempt * 5))
        except SoftTimeLimitExceeded:
            interrupted += 1
        assert steps(100) == 100
    assert interrupted > 0


class LateRuntime(Runtime):
    """Lets the limit expire when the call has returned and its end is about to be noted."""

    def __init__(self) -> None:
        super().__init__()
        self.interrupts = True
        self.interrupted = 0
        self.expire: Callable[[float], None] | None = None

    def lock(self) -> Any:
        lock, runtime = super().lock(), self

        class Lock:
            def __enter__(self) -> None:
                expire, runtime.expire = runtime.expire, None
                if expire is not None:
                    other = threading.Thread(target=expire, args=(runtime.monotonic() + 60,))
                    other.start()
                    other.join()
                lock.__enter__()

            def __exit__(self, *_: object) -> None:
                lock.__exit__(None, None, None)

        return Lock()

    def interrupt(self, thread: int, error: type[BaseException]) -> None:
        self.interrupted += 1
        super().interrupt(thread, error)


def test_a_call_that_had_returned_keeps_its_value() -> None:
    runtime = LateRuntime()
    limit = SoftLimit(runtime)

    def call() -> str:
        runtime.expire = limit.expire
        return "in time"

    assert limit.within(1.0, call) == "in time"
    assert steps(1000) == 1000
    assert runtime.interrupted == 1
    assert limit.within(1.0, lambda: "again") == "again"


@pytest.fixture
def _patient() -> Iterator[None]:
    """A thread goes on until it waits for something."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(60)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.usefixtures("_patient")
def test_an_interruption_that_is_taken_back_is_not_raised() -> None:
    runtime, gate, ends = Runtime(), threading.Lock(), []
    gate.acquire()

    def wait() -> None:
        gate.acquire()
        ends.append("unharmed")

    waiting = threading.Thread(target=wait)
    waiting.start()
    assert waiting.ident is not None
    runtime.interrupt(waiting.ident, SoftTimeLimitExceeded)
    runtime.cancel_interrupt(waiting.ident)
    gate.release()
    waiting.join()
    assert ends == ["unharmed"]


def test_the_calls_own_error_stays(limit: SoftLimit) -> None:
    with pytest.raises(ZeroDivisionError):
        limit.within(60.0, lambda: 1 // 0)


def test_there_is_no_interruption_without_a_limit_or_where_the_pool_has_its_own(limit: SoftLimit) -> None:
    assert limit.within(None, lambda: steps(10_000)) == 10_000
    elsewhere = SoftLimit(Runtime())

    def over() -> str:
        elsewhere.expire(time.monotonic() + 60)
        return "unharmed"

    assert elsewhere.within(0.0, over) == "unharmed"


@task(options={"soft_time_limit": 1})
def limited(x: int) -> int:
    return x


@pytest.mark.parametrize(
    ("pool", "is_ours", "is_warned"),
    [(BasePool, False, True), (PreforkPool, False, False), (SoloPool, True, False), (ThreadPool, True, False)],
)
def test_only_pools_that_leave_soft_limits_to_nobody_are_warned_of(
    pool: type[BasePool],
    is_ours: bool,
    is_warned: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    module = ModuleType("soft_module")
    module.limited = limited
    monkeypatch.setitem(sys.modules, module.__name__, module)
    registry = TaskResolverRegistry()
    registry.register("default", TaskResolver())
    registry.get("default").register_module(module.__name__)
    running = object.__new__(pool)

    with caplog.at_level(logging.WARNING):
        warn_of_soft_limits(running, registry)

    assert runs_threads(running) is is_ours
    assert ("soft_module:limited without it" in caplog.text) is is_warned
