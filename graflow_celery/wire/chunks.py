"""Many members on their way to a worker: instances of one task, each with arguments of its own.

A chunk is what an `Envelope` is to one member: the task once, and a list of what each member is given. It holds the
members of one block, in a clear head `#<first>,<count>` that is signed with the rest.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from graflow.encoding.shapes import Shape, check_parts, check_shapes, is_count, is_object, is_text, list_of, optional
from graflow.exceptions import PayloadError
from graflow.signing import SigningKeys
from graflow_celery.wire.envelope import UNSIGNED, Envelope, verify_member
from graflow_celery.wire.payload import VERSION, dump, pack, parse, unpack

CHUNK_MARK: Final = b"#"
"""What a chunk begins with, and no envelope does."""
_CHUNK: Final = "chunk"
_SHAPES: Final[Mapping[str, Shape]] = {
    **dict.fromkeys(("run_id", "group_id", "shared"), is_text),
    "parameter": optional(is_text),
    "first": is_count,
    "task": is_object,
    "keys": optional(list_of(is_text)),
    "inline": optional(is_text),
}


@dataclass(frozen=True)
class Chunk:
    """Consecutive members of a group.

    Attributes:
        first: Index of the first one.
        shared: Hash of what they have in common with all members of the group.
        task: Envelope of the task that they are instances of, as a dictionary, with the arguments that all share.
        parameter: What the item of a member is given as; None where an item is an object of arguments by name.
        items: What each member is given, as JSON data.
        keys: What tells the id of each member from the others; None where that is its index.
        inline: What `shared` is the hash of, where it is short: a worker then need not ask for it.
    """

    run_id: str
    group_id: str
    first: int
    shared: str
    task: Mapping[str, Any]
    parameter: str | None
    items: Sequence[Any]
    keys: Sequence[str] | None = None
    inline: str | None = None

    @property
    def members(self) -> range:
        return range(self.first, self.first + len(self.items))

    def pack(self, keys: SigningKeys | None) -> bytes:
        """Head and signature, line feed, body.

        Raises:
            PayloadError: When the body is over the limit, naming the group.
        """
        body = {"version": VERSION, **self.__dict__}
        content = pack(dump(body), what=f"the arguments of group '{self.group_id}'")
        place = (str(self.first), str(len(self.items)))
        signature = UNSIGNED
        if keys is not None:
            bound_to = (self.run_id, self.group_id, *place)
            signature = keys.sign(content, purpose=_CHUNK, bound_to=bound_to).encode()
        return b"%s%s %s\n%s" % (CHUNK_MARK, ",".join(place).encode(), signature, content)

    @classmethod
    def unpack(cls, packed: bytes, *, run_id: str, group_id: str, index: int, keys: SigningKeys | None) -> Chunk:
        """The chunk, read only when its signature holds for these members of this run, and `index` is one of them.

        Raises:
            SignatureError: When this process has keys and the signature is missing or does not hold.
            PayloadError: When it cannot be read, is of another version, or holds other members.
        """
        first, count, signature, content = _parts(packed)
        if not first <= index < first + count:
            raise PayloadError("The chunk of a member does not hold it")
        if keys is not None:
            place = (run_id, group_id, str(first), str(count))
            verify_member(keys, content, signature, purpose=_CHUNK, bound_to=place)
        body, what = parse(unpack(content), "chunk"), "The chunk of a member"
        check_parts(body, "run_id", "group_id", "first", "shared", "task", "parameter", "items", what=what)
        check_shapes(body, _SHAPES, what)
        made = cls(**{key: value for key, value in body.items() if key in cls.__dataclass_fields__})
        columns = [made.items, made.items if made.keys is None else made.keys]
        if any(not isinstance(column, list) or len(column) != count for column in columns):
            raise PayloadError("The chunk of a member does not hold the members that its head says")
        if (made.run_id, made.group_id, made.first) != (run_id, group_id, first):
            raise PayloadError("A chunk belongs to another run, group or range than its head says")
        return made

    def task_id(self, index: int) -> str:
        """The id of a member."""
        return f"{self.group_id}[{index if self.keys is None else self.keys[index - self.first]}]"

    def given(self, index: int) -> Mapping[str, Any]:
        """What that member has beside the arguments that all share: JSON data by parameter."""
        item = self.items[index - self.first]
        return item if self.parameter is None else {self.parameter: item}

    def envelope(self, index: int) -> Envelope:
        """What an envelope of this one member would hold; its arguments are nobody else's."""
        payload, task_id = self.task["payload"], self.task_id(index)
        bound = copy.deepcopy({**payload.get("bound", {}), **self.given(index)})
        task = {**self.task, "payload": {**payload, "task_id": task_id, "bound": bound}}
        return Envelope(self.run_id, self.group_id, index, task_id, self.shared, [task])


def _parts(packed: bytes) -> tuple[int, int, bytes, bytes]:
    """First index, number of members, signature, and what is signed."""
    head, separator, content = packed.partition(b"\n")
    place, _, signature = head.removeprefix(CHUNK_MARK).partition(b" ")
    first, _, count = place.partition(b",")
    if not (separator and head[:1] == CHUNK_MARK and first.isdigit() and count.isdigit() and len(place) < 20):
        raise PayloadError("The chunk of a member is truncated")
    return int(first), int(count), signature, content
