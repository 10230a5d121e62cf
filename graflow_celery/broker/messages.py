"""From members to Celery signatures: which members share a message, and what the message says."""

from __future__ import annotations

import itertools
from collections.abc import Container, Iterable, Mapping, Sequence
from time import time
from typing import Any, Final

from celery import Celery, Signature

from graflow.exceptions import PayloadError, SignatureError
from graflow.signing import SigningKeys
from graflow_celery.broker.app import FINISH_TASK
from graflow_celery.record import MAX_MEMBERS, GroupSpec
from graflow_celery.wire.payload import INLINE_LIMIT, canonical

BUSY: Final = 4  # messages per slot: enough that a slot which finishes early finds another one
FEW: Final = 64  # members of a group that has one message per slot: what a slow one holds up is handed back in time
LARGEST: Final = 1000  # members per message
VERSION: Final = 2
READ: Final = (1, VERSION)
"""Versions of a hint that workers read; the first one knew no blocks, and names members in the same way."""
"""Of messages about members: a worker that reads an older version refuses them before it touches the record."""
_LIMITS: Final = "limits"
OWN_MESSAGE: Final = frozenset({"queue", "priority", "time_limit", "soft_time_limit"})


def batches(
    indices: Sequence[int], *, slots: int, size: int | str = "auto", weights: Sequence[int] | None = None
) -> list[Sequence[int]]:
    """Members that travel together, in member order.

    Args:
        indices: The members to send.
        slots: Members that the workers can run at once.
        size: Members per message; `"auto"` keeps every slot busy several times over, once where there are few members,
            and sends each member alone when there are no more members than slots.
        weights: Bytes of each member's envelope by index; a message stands for about 1 MiB of them at most.
    """
    most = per_message(len(indices), slots=slots, size=size)
    if weights is None:
        return [indices[start : start + most] for start in range(0, len(indices), most)]
    made: list[list[int]] = []
    room = 0
    for index in indices:
        if not made or len(made[-1]) >= most or room < weights[index]:
            made.append([])
            room = INLINE_LIMIT
        made[-1].append(index)
        room -= weights[index]
    return [*made]


def per_message(n: int, *, slots: int, size: int | str = "auto") -> int:
    """How many of so many members share a message at most."""
    if size != "auto":
        return int(size)
    slots = max(slots, 1)
    return min(1 if n <= slots else -(-n // (slots * busy(n))), LARGEST)


def _by_blocks(spec: GroupSpec, indices: Sequence[int], *, slots: int) -> tuple[list[Sequence[int]], list[int]]:
    """Messages of whole blocks, and the members whose blocks are not among these as a whole."""
    most = per_message(len(indices), slots=slots, size=spec.options.get("batch_size", "auto"))
    room = max(most // spec.stride, 1) * spec.stride
    if indices == range(spec.n):
        return [range(first, min(first + room, spec.n)) for first in range(0, spec.n, room)], []
    parts: list[Sequence[int]] = []
    single: list[int] = []
    for number, found in itertools.groupby(indices, lambda index: index // spec.stride):
        members, block = list(found), spec.block(number)
        if len(members) < len(block):
            single += members
        elif parts and parts[-1][-1] + 1 == block.start and len(parts[-1]) < room:
            parts[-1] = range(parts[-1][0], block.stop)
        else:
            parts.append(block)
    return parts, single


def busy(n: int) -> int:
    """How many messages there are for each slot, of a group of so many members."""
    return 1 if n <= FEW else BUSY


def ranges_of(indices: Iterable[int]) -> list[list[int]]:
    """Ascending indices as inclusive ranges: `0, 1, 2, 5` is `[[0, 2], [5, 5]]`."""
    if isinstance(indices, range):
        return [[indices.start, indices.stop - 1]] if indices else []
    made: list[list[int]] = []
    for index in indices:
        if made and index == made[-1][1] + 1:
            made[-1][1] = index
        else:
            made.append([index, index])
    return made


def indices_of(ranges: object) -> list[int]:
    """The indices that ranges of a message stand for.

    Raises:
        PayloadError: When they are no ranges, or stand for more members than a group can have.
    """
    found: list[int] = []
    for pair in ranges if isinstance(ranges, list) else (None,):
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not all(type(end) is int for end in pair):
            raise PayloadError("The ranges of a message must be pairs of numbers")
        first, last = pair
        if not 0 <= first <= last <= MAX_MEMBERS or len(found) > MAX_MEMBERS:
            raise PayloadError(f"The ranges of a message go beyond the {MAX_MEMBERS} members of a group")
        found.extend(range(first, last + 1))
    return found


def member_options(spec: GroupSpec, index: int) -> Mapping[str, Any]:
    """The Celery options of one member: its own over those of all; of the continuation, which has index n, its own."""
    own: Mapping[str, Any] = spec.options.get("own", {}).get(str(index), {})
    return {**spec.options.get("common", {}), **own} if index < spec.n else own


def member_name(spec: GroupSpec, index: int) -> str:
    """A member, or the continuation, as messages call it where its envelope is not at hand."""
    return f"{spec.group_id}[{index}]" if index < spec.n else str(spec.meta.get("then_id", "continuation"))


def queues_of(spec: GroupSpec, recorded: Container[int] = ()) -> set[str]:
    """The queues of the members that are not among the recorded ones; that of the continuation after all of them."""
    open_ones = (index for index in range(spec.n) if index not in recorded)
    if not spec.options.get("own"):
        open_ones = (index for index in itertools.islice(open_ones, 1))
    found = {str(member_options(spec, index).get("queue") or spec.queue) for index in open_ones}
    return found or {str(member_options(spec, spec.n).get("queue") or spec.queue)}


def travels_alone(spec: GroupSpec, index: int) -> bool:
    return bool(OWN_MESSAGE & member_options(spec, index).keys())


def messages_of(
    spec: GroupSpec,
    indices: Sequence[int],
    *,
    slots: int,
    weights: Sequence[int] | None = None,
    singly: bool = False,
) -> list[Sequence[int]]:
    """The members of each message, in member order.

    Those with Celery options of their own travel alone; whole blocks stay whole.
    """
    if spec.stride and not singly:
        parts, single = _by_blocks(spec, indices, slots=slots)
        parts += batches(single, slots=slots, size=spec.options.get("batch_size", "auto"))
        return sorted(parts, key=lambda part: part[0])
    alone = list(indices) if singly else [index for index in indices if travels_alone(spec, index)]
    parts = [[index] for index in alone]
    if len(alone) < len(indices):
        apart = set(alone)
        together = [index for index in indices if index not in apart]
        size = spec.options.get("batch_size", "auto")
        parts += batches(together, slots=slots, size=size, weights=weights)
        parts.sort(key=lambda part: part[0])
    return parts


def run_message(spec: GroupSpec, indices: Sequence[int], keys: SigningKeys | None = None) -> dict[str, Any]:
    """What `send_task` and `signature` take of a message that asks a worker to claim and run these members.

    It is a hint, which the record has to confirm; only its time limits, which the worker's pool goes by before anything
    is read from the record, are signed.
    """
    hint: dict[str, Any] = {"version": VERSION, "run_id": spec.run_id, "ranges": ranges_of(indices), "sent": time()}
    if spec.stride and len(indices) > 1:
        hint["blocks"] = True
    options = member_options(spec, indices[0]) if len(indices) == 1 else spec.options.get("common", {})
    name = shadow_of(spec, indices[0] if len(indices) == 1 else None)
    shown = f"index={indices[0]}" if len(indices) == 1 else f"members={indices[0]}-{indices[-1]} ({len(indices)})"
    return {
        "kwargs": hint,
        **_celerys_options(spec, options, hint, keys),
        "ignore_result": True,
        "shadow": name if len(indices) == 1 else f"{name} (batch)",
        "argsrepr": f"(run_id={spec.run_id!r}, {shown})",
        "kwargsrepr": "{}",
    }


def time_limits(options: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """The hard and the soft time limit; no soft one where the hard one is as quick, which Celery would see after it."""
    hard, soft = options.get("time_limit"), options.get("soft_time_limit")
    return hard, None if hard and soft and soft >= hard else soft


def _celerys_options(
    spec: GroupSpec, options: Mapping[str, Any], hint: dict[str, Any], keys: SigningKeys | None
) -> dict[str, Any]:
    hard, soft = time_limits(options)
    if keys is not None and (hard or soft):
        hint["signature"] = keys.sign(_limits_in(hint, (hard, soft)), purpose=_LIMITS, bound_to=(spec.run_id,))
    return {
        "queue": options.get("queue") or spec.queue,
        "priority": options.get("priority"),
        "time_limit": hard,
        "soft_time_limit": soft,
    }


def are_limits_signed(hint: object, limits: object, keys: SigningKeys) -> bool:
    """Whether the time limits of a message, as it came, were made for its members by a holder of the key."""
    if not (isinstance(hint, Mapping) and isinstance(limits, list)):
        return False
    try:
        signed = _limits_in(hint, limits)
        keys.verify(signed, hint.get("signature", ""), purpose=_LIMITS, bound_to=(str(hint.get("run_id")),))
    except (SignatureError, PayloadError):
        return False
    return True


def _limits_in(hint: Mapping[str, Any], limits: Sequence[Any]) -> bytes:
    return canonical({"ranges": hint.get("ranges"), "limits": list(limits)}, "a message")


def finish_signature(app: Celery, spec: GroupSpec, keys: SigningKeys | None = None) -> Signature:
    """The message that asks a worker to run the continuation of a group."""
    hint = {"version": VERSION, "run_id": spec.run_id}
    return app.signature(
        FINISH_TASK,
        app=app,
        immutable=True,
        **_celerys_options(spec, member_options(spec, spec.n), hint, keys),
        kwargs=hint,
        ignore_result=True,
        shadow=str(spec.meta.get("then", FINISH_TASK)),
        argsrepr=f"(run_id={spec.run_id!r}, continuation)",
        kwargsrepr="{}",
    )


def shadow_of(spec: GroupSpec, index: int | None = None) -> str:
    """The name under which monitors show a member: workflow and task, without ids, since it labels metrics."""
    names: Mapping[str, str] = spec.meta.get("names", {})
    name = names.get(str(index)) if index is not None else None
    return name or str(spec.meta.get("name") or spec.group_id)


def shown_name(spec: GroupSpec, index: int) -> str:
    """A member in a line of log: as monitors show it, with its place."""
    return f"{shadow_of(spec, index)}[{index}]" if index < spec.n else member_name(spec, index)
