"""Virtual time: processes made of greenlets. Wherever one waits, its process may crash or freeze."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import NoReturn

from greenlet import getcurrent, greenlet

Actor = Callable[[], object]


class KilledError(BaseException):
    """Unwinds what a dead process was doing; nothing of it reaches anybody else."""


@dataclass(eq=False)
class Process:
    """One operating system process: when it dies, all its actors die; when it freezes, all freeze."""

    name: str
    alive: bool = True
    frozen_until: float = 0.0
    is_told_to_stop: bool = False
    actors: list[_Actor] = field(default_factory=list)


class _Actor(greenlet):
    """One thread of a process."""

    process: Process


@dataclass(order=True)
class _Step:
    at: float
    order: int
    actor: _Actor = field(compare=False)


class Loop:
    """Runs actors in the order of virtual time."""

    def __init__(self, rng: Random) -> None:
        self.now = 0.0
        self._rng = rng
        self._heap: list[_Step] = []
        self._count = 0
        self._hub = getcurrent()
        self.crash_rate = 0.0
        self.freeze_rate = 0.0
        self.crashes = 0
        self.freezes = 0
        self.died: list[Process] = []

    # what the outside does

    def start(self, process: Process, actor: Actor, delay: float = 0.0) -> None:
        def run() -> None:
            if process.alive:
                try:
                    actor()
                except KilledError:
                    if process.alive:
                        raise

        made = _Actor(run, parent=self._hub)
        made.process = process
        process.actors.append(made)
        self._push(made, delay)

    def _push(self, actor: _Actor, delay: float) -> None:
        self._count += 1
        heapq.heappush(self._heap, _Step(self.now + delay, self._count, actor))

    def stand_still(self, seconds: float) -> None:
        """The server stops, and everybody with it: time goes on, nothing happens."""
        self.now += seconds
        for step in self._heap:
            step.at += seconds
            step.actor.process.frozen_until += seconds

    def step(self) -> None:
        """Let one actor go on until it waits again; `died` has the processes that came to their end."""
        step = heapq.heappop(self._heap)
        self.now = max(self.now, step.at)
        actor, process = step.actor, step.actor.process
        if not process.alive:
            return
        if process.frozen_until > self.now:
            self._push(actor, process.frozen_until - self.now)
            return
        delay = actor.switch()
        if not process.alive:
            self.died.append(process)
            self.unwind(process)
        elif not actor.dead and delay is not None:
            self._push(actor, delay)

    @staticmethod
    def unwind(process: Process) -> None:
        """Take a dead process apart."""
        process.alive = False
        for actor in process.actors:
            if actor and not actor.dead:
                actor.throw(KilledError())
        process.actors.clear()

    # what actors do

    @staticmethod
    def here() -> Process:
        """The process of the actor that calls this; nothing goes on in a dead one."""
        actor = getcurrent()
        assert isinstance(actor, _Actor)
        if not actor.process.alive:
            raise KilledError
        return actor.process

    def pass_time(self, seconds: float) -> None:
        self.here()
        self._hub.switch(seconds)

    def reach_out(self, seconds: float) -> None:
        """Wait for a server. Here most processes come to grief."""
        self.pass_time(seconds)
        if self.crash_rate and self._rng.random() < self.crash_rate:
            self.crashes += 1
            self.end()
        if self.freeze_rate and self._rng.random() < self.freeze_rate:
            self.freezes += 1
            self.here().frozen_until = self.now + self._rng.choice((3, 20, 60))
            self.pass_time(0.0)

    def end(self) -> NoReturn:
        """End the process of the actor that calls this."""
        self.here().alive = False
        raise KilledError

    def park(self) -> Callable[[], None]:
        """A call that lets the current actor go on, once it waits in `wait_parked`."""
        actor = getcurrent()
        assert isinstance(actor, _Actor)
        return lambda: self._push(actor, 0.0)

    def wait_parked(self) -> None:
        self.here()
        self._hub.switch(None)
