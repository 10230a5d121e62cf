"""Virtual time: processes made of generators, each `yield` an await point at which they may crash or freeze."""

from __future__ import annotations

import heapq
from collections.abc import Generator
from dataclasses import dataclass, field
from random import Random

Actor = Generator[float, None, None]
"""Yields the seconds that it sleeps."""


class CrashedError(Exception):
    """Raised by an actor that kills its whole process."""


@dataclass(eq=False)
class Process:
    """One operating system process: when it dies, all its actors die; when it freezes, all freeze."""

    name: str
    alive: bool = True
    frozen_until: float = 0.0


@dataclass(order=True)
class _Step:
    at: float
    order: int
    actor: Actor = field(compare=False)
    process: Process = field(compare=False)


class Loop:
    """Runs actors in the order of virtual time; `chaos` is asked at every await point."""

    def __init__(self, rng: Random) -> None:
        self.now = 0.0
        self._rng = rng
        self._heap: list[_Step] = []
        self._count = 0
        self.crash_rate = 0.0
        self.freeze_rate = 0.0
        self.crashes = 0
        self.freezes = 0

    def start(self, process: Process, actor: Actor, delay: float = 0.0) -> None:
        self._count += 1
        heapq.heappush(self._heap, _Step(self.now + delay, self._count, actor, process))

    def stand_still(self, seconds: float) -> None:
        """The server stops, and everybody with it: time goes on, nothing happens."""
        self.now += seconds
        for step in self._heap:
            step.at += seconds
            step.process.frozen_until += seconds

    def step(self) -> Process | None:
        """Run one actor to its next await point; returns the process when it died there."""
        step = heapq.heappop(self._heap)
        self.now = max(self.now, step.at)
        process = step.process
        if not process.alive:
            return None
        if process.frozen_until > self.now:
            self.start(process, step.actor, process.frozen_until - self.now)
            return None
        if self.crash_rate and self._rng.random() < self.crash_rate:
            return self._kill(process)
        if self.freeze_rate and self._rng.random() < self.freeze_rate:
            self.freezes += 1
            process.frozen_until = self.now + self._rng.choice((3, 20, 60))
        try:
            delay = next(step.actor)
        except StopIteration:
            return None
        except CrashedError:
            return self._kill(process)
        self.start(process, step.actor, delay)
        return None

    def _kill(self, process: Process) -> Process:
        self.crashes += 1
        process.alive = False
        return process
