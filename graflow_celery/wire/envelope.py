"""What crosses the process border: a member's envelope on the way out, its outcome on the way back.

An envelope is one line of signature and a JSON body. What all members of a group have in common is written once, under
the SHA-256 of its content, and each envelope names that hash; so a signature over an envelope also covers it.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from graflow.channels.branch import ChannelWrite
from graflow.codec import RemoteError, describe_error, from_jsonable, parse_json, rebuild_error, to_jsonable
from graflow.core.branches.outcome import BranchOutcome, Requests
from graflow.core.branches.surroundings import Surroundings
from graflow.core.serialization import signed_pickles
from graflow.exceptions import PayloadError, SignatureError
from graflow.signing import SigningKeys
from graflow.values.pickles import Pickles

VERSION: Final = 1
INLINE_LIMIT: Final = 1024 * 1024  # bytes; anything longer travels compressed
PAYLOAD_LIMIT: Final = 128 * 1024 * 1024  # bytes of one payload, decompressed
_JSON_DEPTH: Final = 256  # tagged values take several levels each
_MEMBER: Final = "member"
_UNSIGNED: Final = b"-"
_PLAIN, _DEFLATED = b"J", b"Z"


@dataclass(frozen=True)
class SharedPayload(Surroundings):
    """What the members of a group have in common.

    Attributes:
        channel: Name of the Redis channel that the members share; empty where none of them can reach the channel.
        unsendable: Channel keys whose values could not be sent, with the reason.
        overlay: What the enclosing member wrote to that channel and has not published; see `worker.overlay`.
        seeds: Channel values that tasks take by parameter name, as typed JSON.
    """

    channel: str = ""
    unsendable: Mapping[str, str] = field(default_factory=dict)
    overlay: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    seeds: Mapping[str, Any] = field(default_factory=dict)

    def pack(self) -> tuple[str, bytes]:
        """The hash under which it is found, and its bytes."""
        lists = {"outside": sorted(self.outside), "returned_errors": list(self.returned_errors)}
        body = {"version": VERSION, **self.__dict__, **lists}
        content = pack(_dump(body), what=f"what the members of '{self.group_id}' share")
        return hashlib.sha256(content).hexdigest(), content

    @classmethod
    def unpack(cls, name: str, content: bytes) -> SharedPayload:
        """Raises `PayloadError` when the content is not what the hash promises."""
        if hashlib.sha256(content).hexdigest() != name:
            raise PayloadError("What the members of a group share does not have the hash that an envelope names")
        body = _object(unpack(content), "shared payload")
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
        content = pack(_dump(body), what=f"the arguments of member '{self.task_id}'")
        if keys is None:
            return b"%s\n%s" % (_UNSIGNED, content)
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
            if signature == _UNSIGNED:
                raise SignatureError(
                    "An unsigned member is refused: this worker has a signing key, the sender has none"
                )
            try:
                text = signature.decode("ascii")
            except UnicodeDecodeError:
                raise SignatureError("The signature of a member is malformed") from None
            keys.verify(content, text, purpose=_MEMBER, bound_to=(run_id, group_id, str(index)))
        body = _object(unpack(content), "envelope")
        try:
            made = cls(**{key: value for key, value in body.items() if key in cls.__dataclass_fields__})
        except TypeError as error:
            raise PayloadError(f"The envelope of a member lacks a part: {error}") from None
        if made.binding != (run_id, group_id, str(index)):
            raise PayloadError("An envelope belongs to another run, group or member than its message says")
        return made


def pack(content: bytes, *, what: str) -> bytes:
    """Content with a mark in front, compressed when it is long.

    Raises:
        PayloadError: When it is over the limit of one payload.
    """
    if len(content) > PAYLOAD_LIMIT:
        raise _too_long(what, len(content))
    return _PLAIN + content if len(content) <= INLINE_LIMIT else _DEFLATED + zlib.compress(content, 1)


def _too_long(what: str, size: int) -> PayloadError:
    return PayloadError(
        f"{what}: {size >> 20} MiB are over the limit of {PAYLOAD_LIMIT >> 20} MiB; send a path or a key instead of "
        "the data"
    )


def unpack(packed: bytes) -> bytes:
    """The content that `pack` was given; never more than the limit is held.

    Raises:
        PayloadError: For an unknown mark, broken compression, or content over the limit.
    """
    mark, content = packed[:1], packed[1:]
    if mark == _PLAIN and len(content) <= PAYLOAD_LIMIT:
        return content
    if mark != _DEFLATED:
        raise PayloadError("A payload has an unknown form or is over the limit")
    stream = zlib.decompressobj()
    try:
        plain = stream.decompress(content, PAYLOAD_LIMIT)
    except zlib.error as error:
        raise PayloadError(f"A payload cannot be decompressed: {error}") from None
    if not stream.eof:
        raise PayloadError("A compressed payload is truncated or over the limit")
    return plain


def result_pickles(keys: SigningKeys | None, run_id: str, index: int) -> Pickles:
    """What values of a member's outcome go by that have no other form."""
    return signed_pickles(keys, "result", run_id, str(index))


def pack_outcome(outcome: BranchOutcome, pickles: Pickles | None = None) -> bytes:
    """The outcome of a member as typed JSON.

    Raises:
        PayloadError: When a value cannot be kept or is over the limit; the text names task and type.
    """
    task_id = outcome.task_id
    where = f"the result of task '{task_id}'"
    body: dict[str, Any] = {
        "version": VERSION,
        "duration": round(outcome.duration, 6),
        "timestamp": outcome.timestamp,
    }
    if outcome.success:
        body["value"] = _kept(outcome.value, where, pickles)
    elif outcome.error is not None:
        body["error"] = describe_error(outcome.error).to_dict()
    alone = outcome.completed == [task_id] and outcome.cycle_counts == {task_id: 1} and outcome.steps == 1
    if not (alone and outcome.success and [name for name, _ in outcome.results] == [task_id]):
        body["results"] = [[name, _kept_result(name, value, pickles)] for name, value in outcome.results]
        body["completed"] = outcome.completed
        body["steps"] = outcome.steps
        body["cycle_counts"] = outcome.cycle_counts
    body.update(_rarely_used(outcome, pickles))
    return pack(_dump(body), what=where)


def _rarely_used(outcome: BranchOutcome, pickles: Pickles | None) -> dict[str, Any]:
    where, requests = f"a channel value of task '{outcome.task_id}'", outcome.requests
    rare: dict[str, Any] = {
        "retry_counts": outcome.retry_counts,
        "writes": [
            [w.key, _kept(w.value, f"{where}, key '{w.key}'", pickles), w.ttl, w.deleted] for w in outcome.writes
        ],
        "nodes": requests.nodes,
        "exits": requests.exits,
        "jumps": requests.jumps,
        "canceled": outcome.canceled,
        "cancel_message": outcome.cancel_message,
        "cancel_task_id": outcome.cancel_task_id,
        "checkpoint": requests.checkpoint
        and _kept(requests.checkpoint, f"the checkpoint of task '{outcome.task_id}'", None),
    }
    kept = {name: value for name, value in rare.items() if value}
    if requests.terminated is not None:
        kept["terminated"] = requests.terminated
    return kept


def unpack_outcome(packed: bytes, task_id: str, pickles: Pickles | None = None) -> BranchOutcome:
    """The outcome that `pack_outcome` wrote.

    Raises:
        PayloadError: When it cannot be read.
    """
    body = _object(unpack(packed), "outcome")
    error = None if "error" not in body else rebuild_error(RemoteError.from_dict(body["error"]), task_id)
    outcome = BranchOutcome(
        task_id,
        success=error is None and not body.get("canceled"),
        value=from_jsonable(body.get("value"), pickles=pickles),
        error=error,
        duration=float(body.get("duration", 0.0)),
        timestamp=float(body.get("timestamp", 0.0)),
    )
    if "results" in body:
        outcome.results = [(name, _result_of(name, data, pickles)) for name, data in body["results"]]
        outcome.completed = list(body["completed"])
        outcome.steps = int(body["steps"])
        outcome.cycle_counts = dict(body["cycle_counts"])
    else:
        outcome.results = [(task_id, outcome.value)]
        outcome.completed, outcome.steps, outcome.cycle_counts = [task_id], 1, {task_id: 1}
    outcome.retry_counts = dict(body.get("retry_counts", {}))
    outcome.writes = [
        ChannelWrite(key, from_jsonable(value, pickles=pickles), ttl, deleted)
        for key, value, ttl, deleted in body.get("writes", ())
    ]
    outcome.canceled = bool(body.get("canceled"))
    outcome.cancel_message, outcome.cancel_task_id = body.get("cancel_message"), body.get("cancel_task_id")
    outcome.requests = Requests(
        nodes=[(name, list(parents)) for name, parents in body.get("nodes", ())],
        exits=[(source, target) for source, target in body.get("exits", ())],
        jumps=list(body.get("jumps", ())),
        terminated=body.get("terminated"),
        checkpoint=from_jsonable(body.get("checkpoint")),
    )
    return outcome


def task_id_in(packed: bytes) -> str:
    """The member's id in an envelope, for showing; nothing else of it is read."""
    return str(_object(unpack(packed.partition(b"\n")[2]), "envelope").get("task_id", ""))


def remote_error_of(packed: bytes) -> RemoteError | None:
    """The error of a packed outcome as data, or None."""
    body = _object(unpack(packed), "outcome")
    return RemoteError.from_dict(body["error"]) if "error" in body else None


def value_of(packed: bytes, pickles: Pickles | None = None) -> Any:
    """The value of a packed outcome."""
    return from_jsonable(_object(unpack(packed), "outcome").get("value"), pickles=pickles)


def pack_failure(error: BaseException, timestamp: float) -> bytes:
    """An outcome for a member whose task never ran to its end."""
    body = {"version": VERSION, "duration": 0.0, "timestamp": timestamp, "error": describe_error(error).to_dict()}
    body.update({"results": [], "completed": [], "steps": 0, "cycle_counts": {}})
    return pack(_dump(body), what="an error")


def _kept(value: Any, where: str, pickles: Pickles | None) -> Any:
    if isinstance(value, str | bytes | bytearray) and len(value) > PAYLOAD_LIMIT:
        raise _too_long(where, len(value))  # before it is held several times over
    if value is None or type(value) in (bool, int, str):
        return value
    try:
        return to_jsonable(value, where=where, pickles=pickles)
    except TypeError as error:
        raise PayloadError(str(error), error) from error


def _kept_result(name: str, value: Any, pickles: Pickles | None) -> dict[str, Any]:
    if isinstance(value, BaseException):
        return {"error": describe_error(value).to_dict()}
    return {"value": _kept(value, f"the result of task '{name}'", pickles)}


def _result_of(name: str, data: Mapping[str, Any], pickles: Pickles | None) -> Any:
    if "error" in data:
        return rebuild_error(RemoteError.from_dict(data["error"]), name)
    return from_jsonable(data["value"], pickles=pickles)


def _dump(body: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(body, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise PayloadError(f"A payload cannot be written as JSON: {error}") from error


def _object(content: bytes, what: str) -> dict[str, Any]:
    body = parse_json(content, max_depth=_JSON_DEPTH)
    if not isinstance(body, dict):
        raise PayloadError(f"The {what} is no JSON object")
    if body.pop("version", None) != VERSION:
        raise PayloadError(f"The {what} is of an unknown version; this process reads version {VERSION}")
    return body
