"""Values that are kept to be given again, and who computes one just now."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

Json = Any

FORGOTTEN_AFTER: Final = 86400.0
"""Seconds after which nothing is left of a computation that never ended."""


@dataclass(frozen=True, slots=True)
class CacheKey:
    """What a value follows from.

    Attributes:
        digest: Tells it from all others.
        name: The flow or task.
        parts: A digest of each part by its name, such as `"code"` or `"input paths"`.
    """

    digest: str
    name: str
    parts: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class CachedValue:
    """A value that is kept.

    Attributes:
        parts: Those of its key.
        source: Where it was computed: `{"flow_id", "step", "visit"}`.
        made_at: When, seconds since the epoch.
        expires_at: Until when it may be given; None for no end.
        value: The value, as plain JSON; None where only the rest was asked for.
    """

    parts: Mapping[str, str]
    source: Mapping[str, Json]
    made_at: float
    expires_at: float | None
    value: Json = None

    def is_good(self, at: float, since: float) -> bool:
        """Whether it may be given at a time, when it has to be made at `since` or later."""
        return self.made_at >= since and (self.expires_at is None or self.expires_at > at)


class Computation(NamedTuple):
    """One computation of a value that is not kept yet.

    Attributes:
        owner: The process that computes it.
        token: Tells it from all other computations.
        beats: Signs of life so far.
    """

    owner: str
    token: str
    beats: int


class CacheStore(ABC):
    """Keeps values by their keys, and lets one of all processes compute each.

    Calls raise what those of a `StateStore` raise. Times are seconds since the epoch, and the caller's.
    """

    @abstractmethod
    def get(self, digest: str) -> CachedValue | None:
        """The value of a key, whether it has expired or not."""

    @abstractmethod
    def begin(
        self, key: CacheKey, mine: Computation, *, at: float, since: float, seen: Computation | None = None
    ) -> Computation | None:
        """Begin to compute a value, unless somebody does.

        Args:
            key: Its key.
            mine: The computation that begins.
            at: Now.
            since: When a value must have been made, to be good.
            seen: A computation whose owner is gone; it is over, if it is still as it was seen.

        Returns:
            The computation that goes on: `mine`, or somebody's; None when there is a good value by now.
        """

    @abstractmethod
    def beat(self, digest: str, token: str) -> bool:
        """A sign of life of a computation; whether it still counts."""

    @abstractmethod
    def fill(
        self, key: CacheKey, token: str, value: Json, *, at: float, expires_at: float | None, source: Mapping[str, Json]
    ) -> bool:
        """Keep what a computation gave, and end it; False when it did not count any more, and nothing is kept.

        Raises:
            PayloadError: The value is longer than 64 Mi characters as text.
        """

    @abstractmethod
    def let_go(self, digest: str, token: str) -> None:
        """End a computation that gave nothing; an earlier value stays."""

    @abstractmethod
    def newest(self, name: str, limit: int) -> Sequence[CachedValue]:
        """What was made last for a name, without the values."""

    @abstractmethod
    def names(self) -> Sequence[str]:
        """The flows and tasks of which something is kept, or was computed lately."""

    @abstractmethod
    def clear(self, name: str | None = None) -> int:
        """Forget what is kept for a name, or everything; computations under way count no more.

        Returns:
            How many values were forgotten.
        """

    @abstractmethod
    def drop_expired(self, at: float) -> int:
        """Forget values that have expired, and computations of a day ago; how many values these were."""
