"""The runtime of a simulated process: its time, its locks and its threads are those of the loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Self

from graflow.runtime import Runtime
from tests.simulation.loop import Loop, Process


class SimulatedRuntime(Runtime):
    """What submitters, workers and sweepers see of the process that they run in."""

    def __init__(self, loop: Loop, process: Process, tokens: Iterator[int]) -> None:
        self.loop = loop
        self.process = process
        self._tokens = tokens
        super().__init__()

    @property
    def name(self) -> str:
        return self.process.name

    def token(self) -> str:
        return str(next(self._tokens))

    def monotonic(self) -> float:
        return self.loop.now

    def time(self) -> float:
        return self.loop.now

    def sleep(self, seconds: float) -> None:
        self.loop.pass_time(seconds)

    def lock(self) -> SimulatedLock:
        return SimulatedLock(self)

    def event(self) -> SimulatedEvent:
        return SimulatedEvent(self)

    def start(self, target: Callable[[], object], name: str) -> None:
        self.loop.start(self.process, target)

    def is_stopping(self) -> bool:
        return self.process.is_told_to_stop


class SimulatedLock:
    """Held by one actor; the others wait for it in virtual time."""

    def __init__(self, runtime: SimulatedRuntime) -> None:
        self._runtime = runtime
        self._is_held = False

    def __enter__(self) -> Self:
        while self._is_held:
            self._runtime.loop.pass_time(0.01)
        self._is_held = True
        return self

    def __exit__(self, *_: object) -> None:
        self._is_held = False


class SimulatedEvent:
    def __init__(self, runtime: SimulatedRuntime) -> None:
        self._runtime = runtime
        self._is_set = False
        self._waiting: list[Callable[[], None]] = []

    def set(self) -> None:
        self._is_set = True
        waiting, self._waiting = self._waiting, []
        for go_on in waiting:
            go_on()

    def clear(self) -> None:
        self._is_set = False

    def wait(self, timeout: float | None = None) -> bool:
        if timeout is not None:
            raise NotImplementedError("no simulated code waits for an event with a time limit")
        while not self._is_set:
            self._waiting.append(self._runtime.loop.park())
            self._runtime.loop.wait_parked()
        return True
