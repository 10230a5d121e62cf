"""What a channel is: the operations that every implementation offers, and behaves alike in."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Any, Final, Protocol

from graflow.durations import LONGEST, checked_seconds

_NOTHING: Final = nullcontext()
NOT_A_LIST = "not a list"
NOT_A_NUMBER = "expected int or float"


class ChannelLock(Protocol):
    """A block under a lock: `with` waits in its thread, `async with` lets other coroutines run meanwhile."""

    def __enter__(self) -> Any: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> bool | None: ...

    async def __aenter__(self) -> Any: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> bool | None: ...


class Channel(ABC):
    """A named store of values by key.

    Every single operation is atomic. A read and a later write are not one operation: hold `lock` around them, or use
    `append`, `prepend` and `atomic_add`.

    Time to live (`ttl`) is in seconds. A key whose time is over is absent in every respect; a `ttl` of zero or less
    makes it absent at once.

    Attributes:
        name: Tells this channel's keys from those of others in the same storage.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    def set(self, key: str, value: object, ttl: float | None = None) -> None:
        """Store a value; without `ttl` the key lives until it is deleted, whatever its time to live was before."""

    def hand_over(self, key: str, value: object) -> None:
        """As `set`, for whoever changes the value no more."""
        self.set(key, value)

    @abstractmethod
    def get(self, key: str, default: object = None) -> Any:
        """The value, or `default` when the key is absent; a list that `append` made comes as a list of its own."""

    def view(self, key: str, default: object = None) -> Any:
        """As `get`, for whoever changes nothing in place: the value itself where this process has it."""
        return self.get(key, default)

    def hand_over_all(self, values: Mapping[str, object]) -> None:
        """As `hand_over`, for many keys."""
        for key, value in values.items():
            self.hand_over(key, value)

    def view_all(self, keys: Sequence[str]) -> list[Any]:
        """As `view`, for many keys; None for one that is absent."""
        return [self.view(key) for key in keys]

    @abstractmethod
    def delete(self, key: str) -> bool:
        """Remove a key; whether it was there."""

    @abstractmethod
    def exists(self, key: str) -> bool:
        """Whether the key holds anything, None included."""

    @abstractmethod
    def keys(self) -> list[str]:
        """The keys that hold anything."""

    @abstractmethod
    def clear(self) -> None:
        """Remove every key of this channel."""

    @abstractmethod
    def append(self, key: str, value: object, ttl: float | None = None) -> int:
        """Add to the end of a list, which is made when the key is absent.

        Args:
            key: Where the list is.
            value: The element.
            ttl: Time to live of the whole list from now; without it the list keeps the one that it has.

        Returns:
            The length of the list afterwards.

        Raises:
            TypeError: The key holds something that is not a list.
        """

    @abstractmethod
    def prepend(self, key: str, value: object, ttl: float | None = None) -> int:
        """Add to the front of a list; otherwise as `append`."""

    @abstractmethod
    def atomic_add(self, key: str, amount: float = 1) -> int | float:
        """Add to a number, which starts at 0 when the key is absent; a time to live stays as it is.

        Returns:
            The sum: an int when both are.

        Raises:
            TypeError: The key or the amount is not a number; a `bool` is none.
        """

    def lock(self, key: str, timeout: float = 10.0) -> ChannelLock:  # noqa: ARG002 - for subclasses
        """Exclude other holders of the same key's lock for the length of a `with` or `async with` block.

        The holder is the member of a group, or the coroutine, that takes it; elsewhere, and in threads that a member
        starts itself, the thread. It may take the lock again. Inside the block every key, not only the one that names
        the lock, is read from and written to what all members share.

        Advisory: operations on the key itself never wait for it. This version excludes nobody.

        Args:
            key: What to lock; different keys are independent.
            timeout: Seconds to wait for it.

        Raises:
            TimeoutError: Somebody else held it for all that time.
            RuntimeError: A `with` block in a coroutine would wait for another coroutine of its own event loop.
        """
        return nullcontext()

    def for_branch(self, branch_id: str) -> Channel:  # noqa: ARG002 - for those that tell members apart
        """The channel as one member of a group has it."""
        return self

    def derived(self) -> AbstractContextManager[None]:
        """A block in which what is done follows from what is kept elsewhere; for channels that note what is done."""
        return _NOTHING

    def run_ended(self) -> None:  # noqa: B027 - nothing to do where nothing outlives the process
        """The run that this channel was made for is over: what outlives the process may age from now on."""

    def set_many(self, values: Mapping[str, Any], ttl: float | None = None) -> None:
        """Store several values, each as by `set`."""
        for key, value in values.items():
            self.set(key, value, ttl)


def require_number(value: object, described: str) -> int | float:
    """The value as a plain int or float, also when it is of a subclass.

    Raises:
        TypeError: It is neither, or a `bool`.
    """
    if type(value) is int or type(value) is float:
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{described} is {type(value).__name__}: {NOT_A_NUMBER}")
    return int(value) if isinstance(value, int) else float(value)


def checked_ttl(ttl: float) -> float:
    """The time to live as it was given.

    Raises:
        TypeError: It is no number.
        ValueError: It is not a finite number of seconds, or more than 100 years.
    """
    seconds = checked_seconds("ttl", ttl)
    if not math.isfinite(seconds) or seconds > LONGEST:
        raise ValueError(f"ttl is {ttl}: expected at most {LONGEST} seconds, or None for no limit")
    return ttl
