"""A member on its way to a worker.

An envelope is one line of signature and a JSON body. What all members of a group have in common is written once, under
the SHA-256 of its content, and each envelope names that hash; so a signature over an envelope also covers it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from graflow.core.branches.surroundings import Surroundings
from graflow.encoding.shapes import (
    Shape,
    anything,
    check_parts,
    check_shapes,
    is_count,
    is_flag,
    is_object,
    is_seconds,
    is_text,
    list_of,
    object_of,
    optional,
    row_of,
)
from graflow.exceptions import PayloadError, SignatureError
from graflow.signing import SigningKeys
from graflow_celery.wire.payload import VERSION, dump, pack, parse, unpack

_MEMBER: Final = "member"
UNSIGNED: Final = b"-"
"""What stands in the place of a signature where the sender has no key."""


_SHARED: Final[Mapping[str, Shape]] = {
    **dict.fromkeys(("group_id", "session_id", "trace_id", "workflow_name", "channel", "channel_backend"), is_text),
    **dict.fromkeys(("outside", "returned_errors"), list_of(is_text)),
    **dict.fromkeys(("max_steps", "max_cycles", "max_retries"), is_count),
    "known_by_name": object_of(is_count),
    "counts_repeats": is_flag,
    "limits": object_of(is_object),
    "unsendable": object_of(is_text),
    "overlay": object_of(row_of(list_of(is_text), is_flag, anything, optional(is_seconds))),
    **dict.fromkeys(("config", "feedback", "flow", "seeds"), is_object),
}
_ENVELOPE: Final[Mapping[str, Shape]] = {
    **dict.fromkeys(("run_id", "group_id", "task_id", "shared"), is_text),
    "index": is_count,
    "tasks": list_of(is_object),
    "edges": list_of(row_of(is_text, is_text)),
    "cycle_counts": object_of(is_count),
}


@dataclass(frozen=True)
class SharedPayload(Surroundings):
    """What the members of a group have in common.

    Attributes:
        channel: Name of the Redis channel that the members share; empty where none of them can reach the channel.
        channel_prefix: Namespace of its keys, which need not be that of the deployment.
        unsendable: Channel keys whose values could not be sent, with the reason.
        overlay: What the enclosing member wrote to that channel and has not published; see `worker.overlay`.
        seeds: Channel values that tasks take by parameter name, as typed JSON.
    """

    channel: str = ""
    channel_prefix: str = "graflow"
    unsendable: Mapping[str, str] = field(default_factory=dict)
    overlay: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    seeds: Mapping[str, Any] = field(default_factory=dict)

    def pack(self) -> tuple[str, bytes]:
        """The hash under which it is found, and its bytes."""
        content = pack(dump({"version": VERSION, **self.body()}), what=f"what the members of '{self.group_id}' share")
        return hashlib.sha256(content).hexdigest(), content

    def body(self) -> dict[str, Any]:
        """Its parts as JSON data."""
        return {**self.__dict__, "outside": sorted(self.outside), "returned_errors": list(self.returned_errors)}

    @classmethod
    def unpack(cls, name: str, content: bytes) -> SharedPayload:
        """Raises `PayloadError` when the content is not what the hash promises."""
        if hashlib.sha256(content).hexdigest() != name:
            raise PayloadError("What the members of a group share does not have the hash that an envelope names")
        body = parse(unpack(content), "shared payload")
        check_parts(body, "group_id", "session_id", "trace_id", what="What the members of a group share")
        check_shapes(body, _SHARED, "What the members of a group share")
        body["outside"] = frozenset(body.get("outside", ()))
        body["returned_errors"] = tuple(body.get("returned_errors", ()))
        return cls(**{key: value for key, value in body.items() if key in cls.__dataclass_fields__})


@dataclass(frozen=True)
class Envelope:
    """One member on its way to a worker; `tasks` are envelopes of its branch as dictionaries, the member's first.

    Attributes:
        shared: Hash of what it has in common with the other members.
        edges: Edges that start in the branch.
        cycle_counts: Executions so far of the tasks of the branch.
    """

    run_id: str
    group_id: str
    index: int
    task_id: str
    shared: str
    tasks: Sequence[Mapping[str, Any]]
    edges: Sequence[Sequence[str]] = ()
    cycle_counts: Mapping[str, int] = field(default_factory=dict)

    def pack(self, keys: SigningKeys | None) -> bytes:
        """Signature, line feed, body.

        Raises:
            PayloadError: When the body is over the limit, naming the member.
        """
        body: dict[str, Any] = {"version": VERSION}
        body.update((name, value) for name, value in self.__dict__.items() if value or name == "index")
        content = pack(dump(body), what=f"the arguments of member '{self.task_id}'")
        if keys is None:
            return b"%s\n%s" % (UNSIGNED, content)
        signature = keys.sign(content, purpose=_MEMBER, bound_to=self.binding)
        return b"%s\n%s" % (signature.encode(), content)

    @property
    def binding(self) -> tuple[str, str, str]:
        return (self.run_id, self.group_id, str(self.index))

    @classmethod
    def unpack(cls, packed: bytes, *, run_id: str, group_id: str, index: int, keys: SigningKeys | None) -> Envelope:
        """The envelope, read only when its signature holds for this member of this run.

        Raises:
            SignatureError: When this process has keys and the signature is missing or does not hold.
            PayloadError: When it cannot be read, is of another version, or belongs to another member.
        """
        signature, separator, content = packed.partition(b"\n")
        if not separator:
            raise PayloadError("The envelope of a member is truncated")
        if keys is not None:
            place = (run_id, group_id, str(index))
            verify_member(keys, content, signature, purpose=_MEMBER, bound_to=place)
        body, what = parse(unpack(content), "envelope"), "The envelope of a member"
        check_parts(body, "run_id", "group_id", "index", "task_id", "shared", "tasks", what=what)
        check_shapes(body, _ENVELOPE, what)
        made = cls(**{key: value for key, value in body.items() if key in cls.__dataclass_fields__})
        if made.binding != (run_id, group_id, str(index)):
            raise PayloadError("An envelope belongs to another run, group or member than its message says")
        return made


def verify_member(
    keys: SigningKeys, content: bytes, signature: bytes, *, purpose: str, bound_to: Sequence[str]
) -> None:
    """Check the signature of members.

    Raises:
        SignatureError: When it is missing, malformed, or does not hold.
    """
    if signature == UNSIGNED:
        raise SignatureError("An unsigned member is refused: this worker has a signing key, the sender has none")
    try:
        text = signature.decode("ascii")
    except UnicodeDecodeError:
        raise SignatureError("The signature of a member is malformed") from None
    keys.verify(content, text, purpose=purpose, bound_to=bound_to)
