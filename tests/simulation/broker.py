"""A broker that loses, doubles, delays and reorders what it is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from tests.simulation.loop import Loop


@dataclass(frozen=True)
class Message:
    run_id: str
    indices: tuple[int, ...]


class Broker:
    """Early acknowledgement: what was taken is gone."""

    def __init__(self, loop: Loop, rng: Random, *, loss: float, double: float) -> None:
        self._loop = loop
        self._rng = rng
        self.loss = loss
        self.double = double
        self._messages: list[tuple[float, Message]] = []
        self.published = 0
        self.lost = 0
        self.doubled = 0

    def publish(self, run_id: str, indices: Sequence[int]) -> None:
        self.published += 1
        if self._rng.random() < self.loss:
            self.lost += 1
            return
        copies = 1
        if self._rng.random() < self.double:
            copies = 2
            self.doubled += 1
        for _ in range(copies):
            delay = self._rng.choice((0.0, 0.0, 0.1, 5.0, 40.0))
            self._messages.append((self._loop.now + delay, Message(run_id, tuple(indices))))

    def take(self) -> Message | None:
        ready = [position for position, (at, _) in enumerate(self._messages) if at <= self._loop.now]
        if not ready:
            return None
        position = ready[0] if self._rng.random() < 0.7 else self._rng.choice(ready)
        return self._messages.pop(position)[1]
