"""What a run begins with, made of its settings; and how it shows attributes of its parts as its own."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from graflow.channels.base import Channel
from graflow.channels.factory import ChannelFactory
from graflow.channels.memory_channel import MemoryChannel
from graflow.core.branches.surroundings import Surroundings
from graflow.core.run.ledger import DefaultMaxSteps, Ledger
from graflow.given import checked_count

T = TypeVar("T")


class Of(Generic[T]):
    """An attribute that is one of a part: `steps = Of[int]("ledger", "steps")`."""

    def __init__(self, part: str, name: str) -> None:
        self._part, self._name = part, name

    def __get__(self, run: object | None, owner: type) -> T:
        return self if run is None else getattr(getattr(run, self._part), self._name)  # type: ignore[return-value]

    def __set__(self, run: object, value: T) -> None:
        setattr(getattr(run, self._part), self._name, value)


def checked_limits(max_steps: int, max_cycles: int, max_retries: int) -> dict[str, Any]:
    """The limits of a run, as `Surroundings` has them.

    Raises:
        ConfigError: One of them is no count; the text names it as whoever makes a context does.
    """
    given = {"max_steps": max_steps, "default_max_cycles": max_cycles, "default_max_retries": max_retries}
    for name, value in given.items():
        checked_count(name, value)
    counts_repeats = type(max_steps) is DefaultMaxSteps
    return {
        "max_steps": max_steps,
        "counts_repeats": counts_repeats,
        "max_cycles": max_cycles,
        "max_retries": max_retries,
    }


def ledger_of(around: Surroundings, channel: Channel, steps: int, on_max_steps: str) -> Ledger:
    """The ledger that a run begins with."""
    max_steps = around.max_steps
    if around.counts_repeats and type(max_steps) is not DefaultMaxSteps:  # as from another process
        max_steps = DefaultMaxSteps(max_steps)
    return Ledger(
        channel,
        max_steps=max_steps,
        max_cycles=around.max_cycles,
        max_retries=around.max_retries,
        steps=steps,
        on_max_steps=on_max_steps,
    )


def channel_of(around: Surroundings, session_id: str) -> Channel:
    """A new channel of the kind that its surroundings name."""
    if around.channel_backend == "memory":
        return MemoryChannel(session_id)
    return ChannelFactory.from_config(around.channel_backend, session_id, around.config)
