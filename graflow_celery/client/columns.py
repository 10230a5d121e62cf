"""The members of a fan-out on their way out, which stand in columns as long as nobody has touched them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from graflow.codec import to_jsonable
from graflow.core.branches.outcome import Branch
from graflow.core.envelopes.references import classes_of
from graflow.core.envelopes.shared_code import GroupCode
from graflow.core.nodes.columns import MappedMembers
from graflow.exceptions import PayloadError, TaskResolutionError
from graflow.signing import SigningKeys
from graflow_celery.broker.messages import busy
from graflow_celery.settings import GroupOptions
from graflow_celery.wire.chunks import Chunk
from graflow_celery.wire.payload import as_text, dump

LONGEST: Final = 256 * 1024  # bytes of a chunk, which is read again for each of its members that runs by itself
_LARGEST, _SMALLEST = 500, 2  # members of a block
_SHARED_OPTIONS: Final = frozenset({"queue", "priority"})  # what a message can have for all of its members
_STRATEGIES: Final = frozenset({"reference", "code"})
_PICKLED: Final = b'"$t":"pickle"'


@dataclass(frozen=True)
class Columns:
    """The members of a fan-out which nobody has touched.

    Attributes:
        members: As they were made.
        branches: Makes of each what it is by itself, where they cannot travel in columns.
    """

    members: MappedMembers
    branches: Callable[[], Sequence[Branch]]

    def __len__(self) -> int:
        return len(self.members)


@dataclass(frozen=True)
class Chunks:
    """Members in chunks.

    Attributes:
        entries: Of the manifest.
        stride: Members of each chunk; the last one may have fewer.
        task: The envelope of what the members are instances of.
        digest: SHA-256 of what they are given, however many there are in a chunk.
    """

    entries: list[bytes]
    stride: int
    task: dict[str, Any]
    digest: str


def stride_of(n: int, slots: int, options: GroupOptions) -> int:
    """Members of a block; 0 where each is to have an envelope of its own."""
    wanted = -(-n // (max(slots, 1) * busy(n)))
    if options.batch_size != "auto":
        wanted = min(wanted, int(options.batch_size))
    if options.max_in_flight is not None or options.max_attempts == 1 or wanted < _SMALLEST:
        return 0
    return min(wanted, _LARGEST)


class ColumnWriter:
    """Writes members in columns.

    Args:
        resolver: Puts what they are instances of into an envelope.
        code: Takes what they share of their code.
        keys: Sign the chunks.
        run_id: Their run.
        group_id: Their group.
        shared: The hash of what the members have in common.
    """

    def __init__(
        self, resolver: Any, code: GroupCode, keys: SigningKeys | None, *, run_id: str, group_id: str, shared: str
    ) -> None:
        self._resolver = resolver
        self._code = code
        self._keys = keys
        self._run_id = run_id
        self._group_id = group_id
        self._shared = shared

    def write(self, members: MappedMembers, stride: int) -> Chunks | None:
        """The members in chunks of so many, or fewer where what they are given is long; None where that cannot be."""
        if not stride or members.ids.name != self._group_id:
            return None
        if not (getattr(members.prototype, "options", None) or {}).keys() <= _SHARED_OPTIONS:
            return None
        try:
            task = self._task(members)
            while task is not None and stride >= _SMALLEST:
                digest = hashlib.sha256(dump({"task": 0, "keys": members.ids.keys, "parameter": members.parameter}))
                entries = self._entries(members, task, stride, digest)
                if entries is not None:
                    return Chunks(entries, stride, task, digest.hexdigest())
                stride //= 2
        except (PayloadError, TaskResolutionError, TypeError):
            return None  # which of them it is about is found out where each is written by itself
        return None

    def _task(self, members: MappedMembers) -> dict[str, Any] | None:
        """The envelope of what they are instances of, where it does not depend on the member."""
        binding = (self._run_id, self._group_id, "")
        task: dict[str, Any] = self._resolver.serialize_best(
            members.prototype, bound_to=binding, code=self._code
        ).to_dict()
        return task if task["strategy"] in _STRATEGIES and _PICKLED not in dump(task) else None

    def _entries(self, members: MappedMembers, task: dict[str, Any], stride: int, digest: Any) -> list[bytes] | None:
        entries, keys, at = [], members.ids.keys, 0
        for items in self._items(members, stride):
            digest.update(as_text(items)[1:-1].encode() + b",")
            chunk = Chunk(
                *(self._run_id, self._group_id, at, self._shared, task, members.parameter, items),
                keys=None if keys is None else keys[at : at + stride],
            )
            entries.append(chunk.pack(self._keys))
            if len(entries[-1]) > LONGEST:
                return None
            at += stride
        return entries

    def _items(self, members: MappedMembers, stride: int) -> Iterator[list[Any]]:
        """What the members of each chunk are given, as typed JSON."""
        near, n = classes_of(members.prototype), len(members)
        for first in range(0, n, stride):
            places = range(first, min(first + stride, n))
            if members.parameter is None:
                items = [members.given(index) for index in places]
            else:
                items = list(members.items[places.start : places.stop])
            yield to_jsonable(items, near=near)
