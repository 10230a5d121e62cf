"""The members of a fan-out on their way out, which stand in columns as long as nobody has touched them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from graflow.codec import to_jsonable
from graflow.core.branches.outcome import Branch
from graflow.core.envelopes.references import classes_of
from graflow.core.envelopes.shared_code import GroupCode
from graflow.core.nodes.columns import MappedMembers
from graflow.exceptions import PayloadError, TaskResolutionError
from graflow.signing import SigningKeys
from graflow.values.blobs import LONG, TakenBlobs
from graflow.values.pickles import Pickles
from graflow_celery.broker.messages import busy
from graflow_celery.settings import GroupOptions
from graflow_celery.wire.chunks import Chunk
from graflow_celery.wire.payload import as_text, dump

LONGEST: Final = 256 * 1024  # bytes of a chunk, which is read again for each of its members that runs by itself
_LARGEST, _SMALLEST = 500, 2  # members of a block
_INLINE: Final = 1024  # bytes of what all members share that each chunk brings along
_SHARED_OPTIONS: Final = frozenset({"queue", "priority"})  # what a message can have for all of its members
_STRATEGIES: Final = frozenset({"reference", "code"})
_MAY_BE_LONG: Final = frozenset({str, bytes})
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
        entries: Of the manifest; none where each member is to have an envelope of its own.
        stride: Members of each chunk, of which the last one may have fewer; 0 without chunks.
        task: The envelope of what the members are instances of.
        digest: SHA-256 of what they are given: the same however many there are in a chunk, and without chunks.
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
        content: That itself, packed.
    """

    def __init__(
        self,
        resolver: Any,
        code: GroupCode,
        keys: SigningKeys | None,
        *,
        run_id: str,
        group_id: str,
        shared: str,
        content: bytes,
    ) -> None:
        self._resolver = resolver
        self._code = code
        self._keys = keys
        # With a key, what only a pickle can be made of goes in an envelope of its own, to which that is bound.
        self._pickles = None if keys is None else Pickles(keys, (), _refuse, _refuse)
        self._run_id = run_id
        self._group_id = group_id
        self._shared = shared
        self._inline = content.decode() if len(content) <= _INLINE else None

    def write(self, members: MappedMembers, stride: int) -> Chunks | None:
        """The members in chunks of so many, or fewer where what they are given is long; None where that cannot be."""
        if members.ids.name != self._group_id:
            return None
        if not (getattr(members.prototype, "options", None) or {}).keys() <= _SHARED_OPTIONS:
            return None
        try:
            task = self._task(members)
            if task is None:
                return None
            long = TakenBlobs()  # long values have a way of their own, in envelopes
            while stride >= _SMALLEST and not long.contents:
                digest = _begun_digest(members)
                entries = self._entries(members, task, stride, digest, long)
                if entries is not None:
                    return Chunks(entries, stride, task, digest.hexdigest())
                stride //= 2
            digest = _begun_digest(members)
            for items in self._items(members, _LARGEST, long):
                _add(digest, items)
        except (PayloadError, TaskResolutionError, TypeError):
            return None  # which of them it is about is found out where each is written by itself
        return Chunks([], 0, task, digest.hexdigest())

    def _task(self, members: MappedMembers) -> dict[str, Any] | None:
        """The envelope of what they are instances of, where it does not depend on the member."""
        binding = (self._run_id, self._group_id, "")
        task: dict[str, Any] = self._resolver.serialize_best(
            members.prototype, bound_to=binding, code=self._code
        ).to_dict()
        return task if task["strategy"] in _STRATEGIES and _PICKLED not in dump(task) else None

    def _entries(
        self, members: MappedMembers, task: dict[str, Any], stride: int, digest: Any, long: TakenBlobs
    ) -> list[bytes] | None:
        entries, keys, at = [], members.ids.keys, 0
        for items in self._items(members, stride, long):
            if long.contents:
                return None
            _add(digest, items)
            chunk = Chunk(
                *(self._run_id, self._group_id, at, self._shared, task, members.parameter, items),
                keys=None if keys is None else keys[at : at + stride],
                inline=self._inline,
            )
            entries.append(chunk.pack(self._keys))
            if len(entries[-1]) > LONGEST:
                return None
            at += stride
        return entries

    def _items(self, members: MappedMembers, stride: int, long: TakenBlobs) -> Iterator[list[Any]]:
        """What the members of each chunk are given, as typed JSON that names its long values."""
        near, n = classes_of(members.prototype), len(members)
        for first in range(0, n, stride):
            places = range(first, min(first + stride, n))
            if members.parameter is None:
                items = [members.given(index) for index in places]
            else:
                items = list(members.items[places.start : places.stop])
            if any(type(item) in _MAY_BE_LONG and len(item) >= LONG for item in items):
                yield [to_jsonable(item, near=near, pickles=self._pickles, blobs=long) for item in items]
            else:
                yield to_jsonable(items, near=near, pickles=self._pickles, blobs=long)


def _refuse(_value: object) -> NoReturn:
    raise TypeError("A column holds no pickles")


def _begun_digest(members: MappedMembers) -> Any:
    return hashlib.sha256(dump({"task": 0, "keys": members.ids.keys, "parameter": members.parameter}))


def _add(digest: Any, items: list[Any]) -> None:
    digest.update(as_text(items)[1:-1].encode() + b",")
