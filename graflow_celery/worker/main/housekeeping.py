"""A worker's signs of life and its looks for what is lost, which both rest while no group is open."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import redis

from graflow.exceptions import GraflowRuntimeError
from graflow.processes.forks import between_forks
from graflow.redis.refusals import in_a_word
from graflow.spells import is_news
from graflow.text.shown import get_logger
from graflow_celery.deployment import Deployment
from graflow_celery.errors import FAILING
from graflow_celery.sweeper import AGAIN, beat, expedite_all, sweep

_log = get_logger(__name__)

BEAT: Final = 1.0  # seconds between two signs of life while a group is open
REST: Final = 12.0  # the same while none is
_LONG: Final = 3.0  # seconds without the record in which messages to this worker may be lost
_LOOK: Final = 2.0  # seconds after which a worker that rests has seen that a group opened


class Housekeeping:
    """Two threads of a worker's main process: one beats, one sweeps.

    Args:
        deployment: Whose groups.
        entry: What the worker is called among those that beat.
        describe: Tells what others may know of the worker.
        each_second: Called about every second beside that.
        interval: Seconds between two sweeps.
    """

    def __init__(
        self,
        deployment: Deployment,
        entry: str,
        describe: Callable[[], Mapping[str, Any]],
        each_second: Callable[[], object],
        interval: float,
    ) -> None:
        self._deployment = deployment
        self._entry = entry
        self._describe = describe
        self._each_second = each_second
        self._interval = interval
        self._stopped = threading.Event()
        self._awake = threading.Event()
        self._awake.set()
        self._is_line_new = threading.Event()
        self._failing_since: float | None = None  # of the beats, on the monotonic clock
        self._score = 0.0
        self._beats_at = self._looks_at = 0.0  # on the monotonic clock, while this rests
        self._threads = [
            threading.Thread(target=self._repeat, args=part, name=part[0], daemon=True)
            for part in (("graflow-beat", self._beat, BEAT), ("graflow-sweep", self._sweep, interval))
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End both threads; those that others are called."""
        self._stopped.set()
        self._awake.set()
        for thread in self._threads:
            thread.join(timeout=1.0)

    def expedite(self) -> None:
        """Have what nobody claimed published again soon: messages to this worker may be lost."""
        self._is_line_new.set()
        self._awake.set()

    def _repeat(self, name: str, call: Callable[[], object], interval: float) -> None:
        while not self._stopped.is_set():
            pause = interval
            try:
                call()
            except Exception as error:  # noqa: BLE001 - whatever it was, the next look is as necessary
                pause = min(interval, AGAIN)
                if is_news((name, in_a_word(error))):
                    is_known = isinstance(error, redis.exceptions.RedisError | GraflowRuntimeError | OSError)
                    _log.warning("%s: %s: %s", name, in_a_word(error), error, exc_info=not is_known)
            self._stopped.wait(pause)

    @between_forks()
    def _beat(self) -> None:
        try:
            self._each_second()
            if not self._rests():
                self._beat_now()
        except FAILING:
            self._failing_since = self._failing_since or time.monotonic()
            raise

    def _beat_now(self) -> None:
        came = beat(self._deployment, self._entry, self._describe(), rest=REST - BEAT)
        now = time.monotonic()
        if self._failing_since is not None and now - self._failing_since >= _LONG:
            self._is_line_new.set()  # messages may have been given up meanwhile
        self._failing_since = None
        self._score, self._beats_at, self._looks_at = came.score, now + REST, now + _LOOK
        if not came.rests:
            self._awake.set()
        elif not self._is_line_new.is_set():
            self._awake.clear()

    def _rests(self) -> bool:
        """Whether no beat is due; whoever opens a group takes back the time for which the last one counts."""
        now = time.monotonic()
        if self._awake.is_set() or now >= self._beats_at:
            return False
        if now < self._looks_at:
            return True
        self._looks_at = now + _LOOK
        return self._deployment.record.workers.score(self._entry) == self._score

    def _sweep(self) -> None:
        self._awake.wait()
        with between_forks():
            if self._is_line_new.is_set():
                expedite_all(self._deployment)
                self._is_line_new.clear()
            if not self._stopped.is_set():
                sweep(self._deployment, self._interval)
