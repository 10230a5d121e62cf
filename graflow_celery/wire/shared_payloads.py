"""What the members of a group have in common, read once per process and kept no longer than the group."""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakSet

from graflow.exceptions import PayloadError
from graflow.runtime import Runtime, persistently
from graflow.values.blobs import Value, made_of
from graflow_celery.errors import TRY_AGAIN
from graflow_celery.record import GroupRecord
from graflow_celery.wire.envelope import SharedPayload

_KEPT: Final = 256 * 1024 * 1024  # bytes of memory, whatever number of them it is
_MOST: Final = 500  # of those that a run has to itself, as small ones are
_HEAVY: Final = 64 * 1024  # bytes from which on it is worth asking whether a group has ended
_ASKED: Final = 4  # groups at once
_SMALL: Final = 4096  # bytes of memory of a payload without values


@dataclass
class _Entry:
    """Something kept: how much memory it takes, and the run that used it last."""

    value: Any
    size: int
    run_id: str


_all: Final[WeakSet[SharedPayloads]] = WeakSet()


class SharedPayloads:
    """Shared payloads and long arguments by content hash; for use from several threads.

    Those used longest ago are forgotten first, and all that was of a run when it ends.

    Args:
        record: Has them.
        runtime: Whose time passes while the record is away.
    """

    def __init__(self, record: GroupRecord, runtime: Runtime) -> None:
        self._record = record
        self._runtime = runtime
        self._kept: OrderedDict[tuple[str, str], _Entry] = OrderedDict()
        self._heavy: dict[tuple[str, str], None] = {}  # those of them that are worth to be asked about
        self._size = 0
        self._lock = threading.Lock()
        _all.add(self)

    def get(self, run_id: str, name: str, given: bytes | None = None) -> SharedPayload:
        """The payload of that hash, from the record of a run unless it is known already or was `given`.

        Raises:
            PayloadError: When the record does not hold it, or not as the hash promises.
        """

        def load() -> tuple[SharedPayload, int]:
            content = self.content(run_id, name) if given is None else given
            shared = SharedPayload.unpack(name, content)
            return shared, memory_of(vars(shared)) if len(content) > 1024 else _SMALL

        found: SharedPayload = self._find(run_id, ("shared", name), load)
        return found

    def blob(self, run_id: str, kind: str, name: str) -> Value:
        """A long argument by its kind and hash: nobody can change it, so all members of this process get the same.

        Raises:
            PayloadError: As `get`.
        """

        def load() -> tuple[Value, int]:
            content = persistently(self._runtime, lambda: self._record.blobs.read(run_id, name))
            value = made_of(kind, name, content)
            return value, sys.getsizeof(value)

        found: Value = self._find(run_id, (kind, name), load)
        return found

    def content(self, run_id: str, name: str) -> bytes:
        """The bytes under that hash in the record of a run, whatever they are; nothing is verified.

        Raises:
            PayloadError: When the record does not hold them.
        """
        # A server that is away for a moment is no failure of the member.
        content = persistently(self._runtime, lambda: self._record.manifests.payloads(run_id, [name])).get(name)
        if content is None:
            raise PayloadError("What the members of the group share is not in its record")
        return content

    def forget(self, run_id: str) -> None:
        """Let go of what a run shared, which has ended."""
        with self._lock:
            for key in [key for key, entry in self._kept.items() if entry.run_id == run_id]:
                self._drop(key)

    def forget_all(self) -> None:
        """Let go of everything; what is needed again is read again."""
        with self._lock:
            self._kept.clear()
            self._heavy.clear()
            self._size = 0

    def _find(self, run_id: str, key: tuple[str, str], load: Callable[[], tuple[Any, int]]) -> Any:
        with self._lock:
            entry = self._kept.get(key)
            if entry is not None:
                entry.run_id = run_id
                self._kept.move_to_end(key)
                return entry.value
        self._forget_ended(run_id)  # first, so that what is over and what comes are not both here
        value, size = load()
        with self._lock:
            if key not in self._kept:
                self._kept[key] = _Entry(value, size, run_id)
                self._size += size
                if size >= _HEAVY:
                    self._heavy[key] = None
            while len(self._kept) > 1 and (self._size > _KEPT or len(self._kept) > _MOST):
                self._drop(next(iter(self._kept)))
        return value

    def _drop(self, key: tuple[str, str]) -> None:
        self._size -= self._kept.pop(key).size
        self._heavy.pop(key, None)

    def _forget_ended(self, but: str) -> None:
        """Let go of heavy ones whose groups have ended, which nobody may have told this process."""
        with self._lock:
            heavy = dict.fromkeys(self._kept[key].run_id for key in self._heavy)
        for run_id in [run_id for run_id in heavy if run_id != but][:_ASKED]:
            try:
                is_over = self._record.is_over(run_id)
            except TRY_AGAIN:
                return
            if is_over:
                self.forget(run_id)


def memory_of(value: object) -> int:
    """Bytes that data of containers, texts and numbers takes, level by level with few steps in Python per container."""
    total, level = sys.getsizeof(value), [value]
    while level:
        below: list[object] = []
        for container in level:
            values = list(container.values()) if isinstance(container, dict) else container
            if isinstance(container, dict):
                total += sum(map(sys.getsizeof, container))
            total += sum(map(sys.getsizeof, values))  # type: ignore[call-overload]
            if not set(map(type, values)) <= _LEAVES:  # type: ignore[call-overload]
                below += [item for item in values if isinstance(item, _CONTAINERS)]  # type: ignore[attr-defined]
        level = below
    return total


_LEAVES: Final = frozenset((str, bytes, int, float, bool, type(None)))
_CONTAINERS: Final = (dict, list, tuple, frozenset)


def forget_shared() -> None:
    """Let go of all that groups shared with this process, which has no work."""
    for payloads in list(_all):
        payloads.forget_all()
