"""Locks of channels: who holds one, blocks that wait in a thread or in a coroutine, and locks inside this process."""

from __future__ import annotations

import sys
import threading
import time
from abc import ABC, abstractmethod
from contextvars import ContextVar
from types import TracebackType
from typing import Any

_SHORTEST_NAP, _LONGEST_NAP = 0.001, 0.025  # seconds between two attempts of a coroutine

_branch: ContextVar[object] = ContextVar("graflow_lock_branch", default=None)

Holder = tuple[object, object]
"""The branch of a member, if one runs here, and the coroutine or thread in it."""


class as_branch:  # noqa: N801 - a block, as if by `contextmanager`, at a fifth of its price
    """Hold locks as a branch of its own for the length of the block, also where one thread runs several of them."""

    __slots__ = ("_token",)

    def __enter__(self) -> None:
        self._token = _branch.set(self)

    def __exit__(self, *_: object) -> None:
        _branch.reset(self._token)


def current_holder() -> Holder:
    """Who would hold a lock that is taken here."""
    return _branch.get(), _current_coroutine() or threading.get_ident()


def _current_coroutine() -> Any:
    """The asyncio task that runs in this thread; looked for only where asyncio is in use."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None or asyncio._get_running_loop() is None:  # cheaper than an error where none runs
        return None
    return asyncio.current_task()


def lock_timeout(owner: str, key: str, timeout: float) -> TimeoutError:
    """What a holder raises that waited in vain."""
    return TimeoutError(f"The lock {key!r} of channel {owner!r} was not free within {timeout} s")


class LockBlock(ABC):
    """One `with` or `async with` block under a lock; a coroutine that waits in the latter lets others run.

    Args:
        owner: Name of the channel.
        key: What is locked.
        timeout: Seconds to wait.
    """

    def __init__(self, owner: str, key: str, timeout: float) -> None:
        self.owner = owner
        self.key = key
        self.timeout = timeout

    @abstractmethod
    def wait(self, deadline: float) -> bool:
        """Take the lock, waiting for it in this thread until `deadline` on the monotonic clock; whether it was had."""

    @abstractmethod
    def take(self) -> bool:
        """Take the lock if it is free."""

    @abstractmethod
    def release(self) -> None:
        """Give back what `wait` or `take` got."""

    def __enter__(self) -> None:
        if not self.wait(time.monotonic() + self.timeout):
            raise lock_timeout(self.owner, self.key, self.timeout)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    async def __aenter__(self) -> None:
        import asyncio  # noqa: PLC0415 - whoever gets here has it, others do not pay for it

        deadline, nap = time.monotonic() + self.timeout, _SHORTEST_NAP
        while not self.take():
            left = deadline - time.monotonic()
            if left <= 0:
                raise lock_timeout(self.owner, self.key, self.timeout)
            await asyncio.sleep(min(left, nap))
            nap = min(2 * nap, _LONGEST_NAP)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


class _Entry:
    __slots__ = ("depth", "holder", "loop_thread", "users")

    def __init__(self) -> None:
        self.holder: Holder | None = None
        self.depth = 0
        self.users = 0
        self.loop_thread = 0  # where the holder is a coroutine, the thread of its event loop


class KeyLocks:
    """One re-entrant lock per key, made when it is wanted and forgotten when nobody holds or awaits it."""

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._entries: dict[str, _Entry] = {}

    def wait(self, key: str, deadline: float) -> int:
        """Take a key's lock; how often this holder has it now, 0 when it was not free in time.

        Raises:
            RuntimeError: It is held by another coroutine of the event loop that the wait would stop.
        """
        holder = current_holder()
        with self._changed:
            entry = self._entries.setdefault(key, _Entry())
            entry.users += 1
            try:
                while entry.holder is not None and entry.holder != holder:
                    if entry.loop_thread == threading.get_ident():
                        raise RuntimeError(
                            f"The lock {key!r} is held by another coroutine of this event loop, which waiting here "
                            "would stop for good; write `async with channel.lock(...)` in async tasks"
                        )
                    left = deadline - time.monotonic()
                    if left <= 0:
                        return 0
                    self._changed.wait(min(left, threading.TIMEOUT_MAX))
                return self._taken(entry, holder)
            finally:
                self._left(key, entry)

    def take(self, key: str) -> int:
        """As `wait` without waiting."""
        holder = current_holder()
        with self._changed:
            entry = self._entries.setdefault(key, _Entry())
            if entry.holder is not None and entry.holder != holder:
                return 0
            return self._taken(entry, holder)

    def release(self, key: str) -> None:
        """Give a key's lock back once."""
        with self._changed:
            entry = self._entries[key]
            entry.depth -= 1
            if not entry.depth:
                entry.holder, entry.loop_thread = None, 0
                self._changed.notify_all()
                if not entry.users:
                    del self._entries[key]

    def _taken(self, entry: _Entry, holder: Holder) -> int:
        entry.holder = holder
        entry.loop_thread = 0 if isinstance(holder[1], int) else threading.get_ident()
        entry.depth += 1
        return entry.depth

    def _left(self, key: str, entry: _Entry) -> None:
        entry.users -= 1
        if not entry.users and entry.holder is None:
            del self._entries[key]

    def __len__(self) -> int:
        """How many keys are held or awaited."""
        return len(self._entries)


class KeyLockBlock(LockBlock):
    """A block under a lock that only this process knows."""

    def __init__(self, locks: KeyLocks, owner: str, key: str, timeout: float) -> None:
        super().__init__(owner, key, timeout)
        self._locks = locks

    def wait(self, deadline: float) -> bool:
        return self._locks.wait(self.key, deadline) > 0

    def take(self) -> bool:
        return self._locks.take(self.key) > 0

    def release(self) -> None:
        self._locks.release(self.key)
