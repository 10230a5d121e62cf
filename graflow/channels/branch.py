"""The channel that one member of a group sees."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from graflow.channels.base import Channel, ChannelLock, checked_ttl
from graflow.channels.locks import Holder, current_holder
from graflow.encoding.sharing import own_copy, require_rereadable
from graflow.values.plain import SCALARS

_ABSENT: Any = object()
_DELETED: Any = object()
Pending = tuple[Any, float | None]  # a value or _DELETED, and its deadline; plain, as one is made for every write


@dataclass  # not frozen: one is made for each write, which would cost six times as much
class ChannelWrite:
    """What a branch did to one key, all told.

    Attributes:
        key: The key.
        value: What it holds; `None` when it was deleted.
        ttl: Seconds that it has left to live; `None` when there is no limit.
        deleted: Whether it is gone.
    """

    key: str
    value: Any
    ttl: float | None = None
    deleted: bool = False


def _check(key: str, value: object) -> None:
    """Refuse what one task could write and another could not read."""
    if not isinstance(key, str):
        raise TypeError(f"The key of a channel is text, not {key!r}")
    require_rereadable("The value for channel key", {key: value})


class BranchChannel(Channel):
    """A view of a parent channel in which `set` and `delete` stay private until somebody applies `writes()`.

    Everything else acts on the parent at once: reads of keys that were not written here, `append`, `prepend`,
    `atomic_add`, and whatever is done to any key by the holder of a `lock`, whichever name the lock has. Such an
    operation first publishes the private value of its key, if there is one, so that it works on what this branch sees.

    What `set` stores and what `get` gives is a copy of its own, as from a server, where a value can travel as data: a
    change in place stays with whoever makes it. Other objects are shared, and what can be read only once is refused.
    """

    def __init__(self, parent: Channel) -> None:
        self.name, self._parent = parent.name, parent
        self._pending: dict[str, Pending] = {}
        self._prepare()

    def _prepare(self) -> None:
        self._lock = threading.RLock()
        self._holders: dict[Holder, int] = {}  # who holds locks through this view, and how many
        self._keeps_all = True  # whether `set` is private whoever calls it

    def set(self, key: str, value: object, ttl: float | None = None) -> None:
        if type(value) not in SCALARS or type(key) is not str:  # most need no look
            _check(key, value)
            value = own_copy(value)
        deadline = None if ttl is None else time.monotonic() + checked_ttl(ttl)
        with self._lock:
            if self._keeps_all:
                self._pending[key] = value, deadline
                return
        self._set_for_caller(key, value, ttl)

    def _set_for_caller(self, key: str, value: object, ttl: float | None) -> None:
        """As `set`, where it matters who calls it."""
        if self._is_held():
            self._publish(key)
            self._parent.set(key, value, ttl)
            return
        deadline = None if ttl is None else time.monotonic() + ttl
        with self._lock:
            self._pending[key] = value, deadline

    def take_over(self, pending: dict[str, Pending]) -> None:
        """Apply what a view of this one has kept, and keeps no more."""
        with self._lock:
            if self._keeps_all:
                for key, (value, deadline) in pending.items():  # which somebody may hold who was given a look at it
                    self._pending[key] = value if type(value) in SCALARS else own_copy(value), deadline
                return
        apply_writes(self, [as_write(key, kept) for key, kept in pending.items()])

    def hand_over(self, key: str, value: object) -> None:
        with self._lock:
            self._pending[key] = value, None

    def get(self, key: str, default: object = None) -> Any:
        found = self.view(key, _ABSENT)
        if found is _ABSENT:
            return default
        return found if type(found) in SCALARS else own_copy(found)

    def view(self, key: str, default: object = None) -> Any:
        if self._holders and self._is_held():
            self._publish(key)
        pending = self._pending.get(key)
        if pending is None:
            return self._parent.view(key, default)
        return pending[0] if _alive(pending) else default

    def delete(self, key: str) -> bool:
        if self._holders and self._is_held():
            self._publish(key)
            return self._parent.delete(key)
        with self._lock:
            present = self.exists(key)
            if present:
                self._pending[key] = _DELETED, None
            return present

    def exists(self, key: str) -> bool:
        pending = self._pending.get(key)
        return self._parent.exists(key) if pending is None else _alive(pending)

    def keys(self) -> list[str]:
        with self._lock:
            present = dict.fromkeys(self._parent.keys())
            for key, pending in self._pending.items():
                if _alive(pending):
                    present[key] = None
                else:
                    present.pop(key, None)
            return list(present)

    def clear(self) -> None:
        """Remove every key that this branch sees; for others they stay until the writes are applied."""
        for key in self.keys():
            self.delete(key)

    def append(self, key: str, value: object, ttl: float | None = None) -> int:
        _check(key, value)
        self._publish(key)
        return self._parent.append(key, value, ttl)

    def prepend(self, key: str, value: object, ttl: float | None = None) -> int:
        _check(key, value)
        self._publish(key)
        return self._parent.prepend(key, value, ttl)

    def atomic_add(self, key: str, amount: float = 1) -> int | float:
        self._publish(key)
        return self._parent.atomic_add(key, amount)

    def lock(self, key: str, timeout: float = 10.0) -> ChannelLock:
        return _HeldBlock(self, self._parent.lock(key, timeout))

    def enter_lock(self) -> None:
        """Act on the parent at once for whoever calls this, until `leave_lock`."""
        holder = current_holder()
        with self._lock:
            self._holders[holder] = self._holders.get(holder, 0) + 1
            self._keeps_all = False

    def leave_lock(self) -> None:
        holder = current_holder()
        with self._lock:
            self._holders[holder] -= 1
            if not self._holders[holder]:
                del self._holders[holder]
            self._keeps_all = self._may_keep_all()

    def _may_keep_all(self) -> bool:
        return not self._holders

    def _is_held(self) -> bool:
        return current_holder() in self._holders

    def writes(self, besides: AbstractSet[str] = frozenset()) -> list[ChannelWrite]:
        """What is still private at keys that are not in `besides`, in the order in which they were first written."""
        with self._lock:
            if self._pending.keys() <= besides:
                return []
            return [as_write(key, pending) for key, pending in self._pending.items() if key not in besides]

    def lay_deleted(self, key: str) -> None:
        """Have a key deleted here, present or not."""
        with self._lock:
            self._pending[key] = _DELETED, None

    def forget(self, key: str) -> None:
        """Drop what is private at a key, because somebody else has published it."""
        with self._lock:
            self._pending.pop(key, None)

    def __getstate__(self) -> dict[str, Any]:
        with self._lock:
            moment = time.time()
            expiries = {write.key: moment + write.ttl for write in self.writes() if write.ttl is not None}
            return {"name": self.name, "parent": self._parent, "writes": self.writes(), "expires": expiries}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.name = state["name"]
        self._parent = state["parent"]
        self._pending = {}
        self._prepare()
        left = time.time() - time.monotonic()
        for write in state["writes"]:
            deadline = state["expires"][write.key] - left if write.ttl is not None else None
            self._pending[write.key] = _DELETED if write.deleted else write.value, deadline

    def __repr__(self) -> str:
        return f"BranchChannel({self._parent!r}, {len(self._pending)} private)"

    def _publish(self, key: str) -> None:
        """Give the parent this branch's value of a key, so that both see the same."""
        if key not in self._pending:
            return
        with self._lock:
            pending = self._pending.get(key)
            if pending is not None:
                apply_writes(self._parent, (as_write(key, pending),))
                del self._pending[key]


class _HeldBlock:
    """A `with` or `async with` block under a lock of the parent, in which a branch reads and writes the parent."""

    def __init__(self, branch: BranchChannel, inner: ChannelLock) -> None:
        self._branch = branch
        self._inner = inner

    def __enter__(self) -> None:
        self._inner.__enter__()
        self._branch.enter_lock()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._branch.leave_lock()
        self._inner.__exit__(kind, error, traceback)

    async def __aenter__(self) -> None:
        await self._inner.__aenter__()
        self._branch.enter_lock()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._branch.leave_lock()
        await self._inner.__aexit__(kind, error, traceback)


def apply_writes(channel: Channel, writes: Iterable[ChannelWrite]) -> None:
    """Take over what a branch wrote, in its order."""
    for write in writes:
        if write.deleted:
            channel.delete(write.key)
        else:
            channel.set(write.key, write.value, write.ttl)


def _alive(pending: Pending) -> bool:
    value, deadline = pending
    return value is not _DELETED and (deadline is None or time.monotonic() < deadline)


def as_write(key: str, pending: Pending) -> ChannelWrite:
    value, deadline = pending
    if deadline is None and value is not _DELETED:
        return ChannelWrite(key, value)
    if not _alive(pending):
        return ChannelWrite(key, None, deleted=True)
    return ChannelWrite(key, value, None if deadline is None else deadline - time.monotonic())
