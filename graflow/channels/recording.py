"""A channel that notes what is done to it, so that the same can be done again in another process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from graflow.channels.base import Channel, ChannelLock
from graflow.channels.memory_channel import MemoryChannel

_ABSENT: Any = object()


class Operation(NamedTuple):
    """One thing that was done to a channel.

    Attributes:
        kind: `set`, `delete`, `append`, `prepend`, `add` or `clear`.
        key: Where; empty for `clear`.
        value: What was set or added.
        expires: When the key's time to live is over, seconds since the epoch; None for no limit, or as it was.
    """

    kind: str
    key: str
    value: Any = None
    expires: float | None = None


class RecordingChannel(MemoryChannel):
    """A memory channel whose operations are noted until somebody takes them.

    What the members of a group do through `for_branch` is noted apart for each, so that it can be kept with what came
    of the member.
    """

    def __init__(self, name: str, **ignored: object) -> None:
        super().__init__(name, **ignored)
        self._notes: list[Operation] = []
        self._notes_of: dict[str, list[Operation]] = {}
        self._undo: list[tuple[Callable[..., object], tuple[Any, ...]]] | None = None
        self._is_derived = False

    # -- what is noted ---------------------------------------------------------------------------------------------

    def begin(self, *, may_undo: bool) -> None:
        """Forget what was noted; with `may_undo`, everything from here on can be undone."""
        with self._lock:
            self._notes = []
            if self._notes_of:
                self._notes_of = {}
            self._undo = [] if may_undo else None

    def take(self) -> list[Operation]:
        """What was done since `begin` or the last call, members aside, without what a later operation outdid."""
        with self._lock:
            notes, self._notes = self._notes, []
        return notes if len(notes) < 2 else _lasting(notes)

    def take_of(self, branch_id: str) -> list[Operation]:
        """The same for one member of a group."""
        with self._lock:
            return _lasting(self._notes_of.pop(branch_id, []))

    @contextmanager
    def derived(self) -> Iterator[None]:
        """Do not note what is done in the block, because it follows from what is noted elsewhere."""
        before, self._is_derived = self._is_derived, True
        try:
            yield
        finally:
            self._is_derived = before

    def undo(self) -> None:
        """Take back what was done since `begin`."""
        with self._lock:
            undo, self._undo, self._notes = self._undo or [], None, []
            for act, args in reversed(undo):
                act(*args)

    def replay(self, operations: Sequence[Operation]) -> None:
        """Do again what was noted."""
        now = time.time()
        with self.derived():
            for kind, key, value, expires in operations:
                ttl = None if expires is None else expires - now
                match kind:
                    case "set":
                        self.set(key, value, ttl)
                    case "delete":
                        self.delete(key)
                    case "append":
                        self.append(key, value, ttl)
                    case "prepend":
                        self.prepend(key, value, ttl)
                    case "add":
                        self.atomic_add(key, value)
                    case "clear":
                        self.clear()

    # -- operations ------------------------------------------------------------------------------------------------

    def set(self, key: str, value: object, ttl: float | None = None) -> None:
        with self._lock:
            if ttl is not None:
                self._before(key)
                super().set(key, value, ttl)
                self._note("set", key, value, ttl)
                return
            # As `MemoryChannel.set`, `_before` and `_note`, for which every result of a step would pay three calls.
            data, deadlines, undo = self._data, self._deadlines, self._undo
            if undo is not None:
                undo.append((self._restore, (key, data.get(key, _ABSENT), deadlines.get(key))))
            data[key] = value
            if deadlines:
                deadlines.pop(key, None)
            if not self._is_derived:
                self._notes.append(Operation("set", key, value))

    hand_over = set  # noqa: A003 - the method

    def hand_over_all(self, values: Mapping[str, object]) -> None:
        with self._lock:
            if self._is_derived and self._undo is None:
                super().hand_over_all(values)
            else:
                Channel.hand_over_all(self, values)  # one by one, as each is noted

    def delete(self, key: str) -> bool:
        with self._lock:
            self._before(key)
            was_there = super().delete(key)
            if was_there:
                self._note("delete", key)
            return was_there

    def clear(self) -> None:
        with self._lock:
            for key in list(self._data):
                self._before(key)
            super().clear()
            self._note("clear", "")

    def append(self, key: str, value: object, ttl: float | None = None) -> int:
        with self._lock:
            length = super().append(key, value, ttl)
            self._not_grown(key, -1)
            self._note("append", key, value, ttl)
            return length

    def prepend(self, key: str, value: object, ttl: float | None = None) -> int:
        with self._lock:
            length = super().prepend(key, value, ttl)
            self._not_grown(key, 0)
            self._note("prepend", key, value, ttl)
            return length

    def atomic_add(self, key: str, amount: float = 1) -> int | float:
        with self._lock:
            self._before(key)
            total = super().atomic_add(key, amount)
            self._note("add", key, amount)
            return total

    def for_branch(self, branch_id: str) -> Channel:
        return _OfMember(self, branch_id)

    def do_for(self, branch_id: str, operation: Callable[[], Any]) -> Any:
        """Do something for a member of a group."""
        with self._lock:
            notes, self._notes = self._notes, self._notes_of.setdefault(branch_id, [])
            try:
                return operation()
            finally:
                self._notes = notes

    def _note(self, kind: str, key: str, value: object = None, ttl: float | None = None) -> None:
        if not self._is_derived:
            self._notes.append(Operation(kind, key, value, None if ttl is None else time.time() + ttl))

    def _before(self, key: str) -> None:
        if self._undo is not None:
            self._undo.append((self._restore, (key, self._data.get(key, _ABSENT), self._deadlines.get(key))))

    def _not_grown(self, key: str, position: int) -> None:
        if self._undo is not None:
            self._undo.append((self._shrink, (key, position)))

    def _restore(self, key: str, value: object, deadline: float | None) -> None:
        self._drop(key)
        if value is not _ABSENT:
            self._data[key] = value
            if deadline is not None:
                self._deadlines[key] = deadline

    def _shrink(self, key: str, position: int) -> None:
        items = self._data.get(key)
        if items:
            del items[position]
        if not items:
            self._drop(key)

    def __reduce__(self) -> tuple[Any, ...]:
        # Elsewhere nobody takes the notes: what is saved with a value, or sent, is what the channel holds.
        return _plain, (self.name,), MemoryChannel.__getstate__(self)


def _plain(name: str) -> MemoryChannel:
    return MemoryChannel(name)


def _lasting(notes: list[Operation]) -> list[Operation]:
    """Operations without those that a later `set`, `delete` or `clear` makes of no account."""
    kept: list[Operation] = []
    over: set[str] = set()
    for note in reversed(notes):
        if note.key in over:
            continue
        kept.append(note)
        if note.kind == "clear":
            break
        if note.kind in ("set", "delete"):
            over.add(note.key)
    return kept[::-1]


class _OfMember(Channel):
    """A recording channel as one member of a group has it."""

    def __init__(self, shared: RecordingChannel, branch_id: str) -> None:
        super().__init__(shared.name)
        self._shared = shared
        self._branch_id = branch_id

    def set(self, key: str, value: object, ttl: float | None = None) -> None:
        self._shared.do_for(self._branch_id, lambda: self._shared.set(key, value, ttl))

    def get(self, key: str, default: object = None) -> Any:
        return self._shared.get(key, default)

    def view(self, key: str, default: object = None) -> Any:
        return self._shared.view(key, default)

    def delete(self, key: str) -> bool:
        return bool(self._shared.do_for(self._branch_id, lambda: self._shared.delete(key)))

    def exists(self, key: str) -> bool:
        return self._shared.exists(key)

    def keys(self) -> list[str]:
        return self._shared.keys()

    def clear(self) -> None:
        self._shared.do_for(self._branch_id, self._shared.clear)

    def append(self, key: str, value: object, ttl: float | None = None) -> int:
        return int(self._shared.do_for(self._branch_id, lambda: self._shared.append(key, value, ttl)))

    def prepend(self, key: str, value: object, ttl: float | None = None) -> int:
        return int(self._shared.do_for(self._branch_id, lambda: self._shared.prepend(key, value, ttl)))

    def atomic_add(self, key: str, amount: float = 1) -> int | float:
        total: int | float = self._shared.do_for(self._branch_id, lambda: self._shared.atomic_add(key, amount))
        return total

    def lock(self, key: str, timeout: float = 10.0) -> ChannelLock:
        return self._shared.lock(key, timeout)

    def __reduce__(self) -> tuple[Any, ...]:
        return self._shared.__reduce__()
