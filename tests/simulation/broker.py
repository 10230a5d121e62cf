"""A broker that loses, doubles, delays and reorders what it is given, and the publisher that sends to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

from graflow_celery.broker.publisher import MemberPublisher
from graflow_celery.errors import BrokerUnreachableError
from graflow_celery.record import GroupSpec
from graflow_celery.settings import Settings
from tests.simulation.loop import Loop
from tests.simulation.runtime import SimulatedRuntime


@dataclass
class Chord:
    """How many messages of a chord have not been worked off; its body is sent with the last one."""

    spec: GroupSpec
    left: int


@dataclass(frozen=True)
class Message:
    """A hint: members to claim, or None for the continuation."""

    run_id: str
    indices: tuple[int, ...] | None
    in_blocks: bool = False
    chord: Chord | None = field(default=None, compare=False)


class Broker:
    """Early acknowledgement: what was taken is gone."""

    def __init__(self, loop: Loop, rng: Random) -> None:
        self._loop = loop
        self._rng = rng
        self.loss = self.double = self.refusal = 0.0
        self.delays = (0.0,)
        self._messages: list[tuple[float, Message]] = []
        self.published = 0
        self.lost = 0
        self.doubled = 0

    def publish(self, message: Message) -> None:
        self.published += 1
        if self._rng.random() < self.loss:
            self.lost += 1
            return
        copies = 1
        if self._rng.random() < self.double:
            copies = 2
            self.doubled += 1
        for _ in range(copies):
            delay = self._rng.choice(self.delays)
            self._messages.append((self._loop.now + delay, message))

    def take(self) -> Message | None:
        ready = [position for position, (at, _) in enumerate(self._messages) if at <= self._loop.now]
        if not ready:
            return None
        position = ready[0] if self._rng.random() < 0.7 else self._rng.choice(ready)
        return self._messages.pop(position)[1]

    def worked_off(self, message: Message) -> None:
        """Celery's chord counts its messages, each copy as well, and forgets whatever is lost."""
        chord = message.chord
        if chord is not None:
            chord.left -= 1
            if chord.left == 0:
                self.publish(Message(message.run_id, None))


class SimulatedPublisher(MemberPublisher):
    """The product's own publisher, whose messages go to the simulated broker."""

    def __init__(
        self,
        settings: Settings,
        runtime: SimulatedRuntime,
        broker: Broker,
        rng: Random,
        published: Callable[[str, Sequence[int]], None],
    ) -> None:
        super().__init__(settings)
        self._runtime = runtime
        self._broker = broker
        self._rng = rng
        self._published = published

    def _send_members(self, spec: GroupSpec, parts: Sequence[Sequence[int]], *, then: bool) -> None:
        chord = Chord(spec, len(parts)) if then else None
        for part in parts:
            self._published(spec.run_id, part)
            self._send(Message(spec.run_id, tuple(part), spec.stride > 0, chord))

    def publish_continuation(self, spec: GroupSpec) -> None:
        self._send(Message(spec.run_id, None))

    def _send(self, message: Message) -> None:
        self._runtime.loop.reach_out(0.01)
        if self._rng.random() < self._broker.refusal:
            raise BrokerUnreachableError("Cannot reach the simulated broker")
        self._broker.publish(message)
