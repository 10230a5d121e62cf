"""Waiting in coroutines: one thread and one connection for all handles of a deployment, however many are awaited."""

from __future__ import annotations

import asyncio
import contextvars
import math
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from graflow.processes.per_process import PerProcess
from graflow.spells import is_news
from graflow.text.shown import get_logger
from graflow_celery.client.waiting.waiter import LONGEST_SLICE, Waiter
from graflow_celery.deployment import Deployment
from graflow_celery.errors import SILENT

_log = get_logger(__name__)
_T = TypeVar("_T")

_JOIN: Final = 0.05  # seconds of one blocking read, after which those join in that began to wait meanwhile


@dataclass(eq=False)
class _Wait:
    """One coroutine that waits."""

    waiter: Waiter
    take: Callable[[], Any]
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    context: contextvars.Context = field(default_factory=contextvars.copy_context)
    looked: float = -math.inf

    def __post_init__(self) -> None:
        self.future: asyncio.Future[Any] = self.loop.create_future()

    def settle(self, value: Any = None, error: Exception | None = None) -> None:
        def tell() -> None:
            if not self.future.done():
                self.future.set_result(value) if error is None else self.future.set_exception(error)

        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self.loop.call_soon_threadsafe(tell)


class AwaitedRuns:
    """Looks at the runs that coroutines wait for, on one thread that lives while there are any.

    Args:
        deployment: Where their records are.
    """

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._runtime = deployment.runtime
        self._lock = threading.Lock()
        self._waits: dict[_Wait, None] = {}
        self._is_running = False

    async def take(self, waiter: Waiter, take: Callable[[], _T | None]) -> _T:
        """What `take` gives, or raises, as soon as that is not None; it is called on the thread and must not wait.

        Args:
            waiter: Reads the run; a new event of it is when `take` is called again.
            take: Looks at the record once.
        """
        wait = _Wait(waiter, take)
        with self._lock:
            self._waits[wait] = None
            is_running, self._is_running = self._is_running, True
        if not is_running:
            self._runtime.start(self._serve, "graflow-await")
        try:
            found: _T = await wait.future
        finally:
            self._forget(wait)
        return found

    def _forget(self, wait: _Wait) -> None:
        with self._lock:
            self._waits.pop(wait, None)

    def _serve(self) -> None:
        while True:
            with self._lock:
                waits = list(self._waits)
                if not waits:
                    self._is_running = False
                    return
            try:
                woken = self._wait_for_events(waits)
            except SILENT as error:
                self._wait_out(waits, error)
                continue
            except Exception as error:  # noqa: BLE001 - what one run has, the others are looked at one by one
                if is_news(("awaited", type(error))):
                    _log.warning("%d awaited runs: %s", len(waits), type(error).__name__)
                woken = set()
                self._runtime.sleep(_JOIN)
            self._look_at(waits, woken)

    def _wait_for_events(self, waits: Iterable[_Wait]) -> set[str]:
        after = {wait.waiter.run_id: wait.waiter.reading.last_event for wait in waits}
        is_new = any(wait.looked == -math.inf for wait in waits)
        return self._deployment.record.wait(after, 0.0 if is_new else _JOIN)

    def _wait_out(self, waits: Iterable[_Wait], error: BaseException) -> None:
        """Wait a little for a record that does not answer; those whose patience is over are told so."""
        for wait in waits:
            try:
                wait.waiter.silence.wait_out(error)
            except Exception as over:  # noqa: BLE001 - whatever it is belongs to the coroutine
                self._settle(wait, error=over)
            else:
                return

    def _look_at(self, waits: Iterable[_Wait], woken: set[str]) -> None:
        """Look at the runs that have news, then, for a moment, at those not looked at for long."""
        for wait in waits:
            if wait.waiter.run_id in woken:
                self._look(wait)
        now = self._runtime.monotonic()
        for wait in sorted(waits, key=lambda wait: wait.looked):
            if now - wait.looked < LONGEST_SLICE or self._runtime.monotonic() - now > _JOIN:
                return
            self._look(wait)

    def _look(self, wait: _Wait) -> None:
        wait.looked = self._runtime.monotonic()
        try:
            found = wait.context.run(wait.take)
        except Exception as error:  # noqa: BLE001 - whatever it is belongs to the coroutine
            self._settle(wait, error=error)
        else:
            if found is not None:
                self._settle(wait, found)

    def _settle(self, wait: _Wait, value: Any = None, error: Exception | None = None) -> None:
        self._forget(wait)
        wait.settle(value, error)


_awaited: Final[PerProcess[Deployment, AwaitedRuns]] = PerProcess()


def awaited_runs(deployment: Deployment) -> AwaitedRuns:
    """The awaited runs of a deployment in this process."""
    return _awaited.get(deployment, lambda: AwaitedRuns(deployment))
