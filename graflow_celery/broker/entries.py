"""Tasks on their own as message bodies, and back: plain JSON data around a task's envelope.

With a key the whole body is signed, and taken once: whoever can read a queue cannot have its tasks run a second time.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final

from graflow.codec import SerializedTask
from graflow.core.task_registry import TaskResolver
from graflow.exceptions import SignatureError, TaskResolutionError
from graflow.queue.base import TaskSpec, TaskStatus
from graflow.signing import SigningKeys
from graflow_celery.record import Keys
from graflow_celery.wire.payload import VERSION, canonical

LIFE: Final = 7 * 86400.0
"""Seconds for which a signed entry may wait in a queue, and for which it is remembered that it was taken."""


def body_of(
    spec: TaskSpec,
    resolver: TaskResolver,
    *,
    run_id: str | None = None,
    index: int = 0,
    keys: SigningKeys | None = None,
) -> dict[str, Any]:
    """The message body of one entry.

    Args:
        spec: An executable, or an envelope, which then travels as it is.
        resolver: Makes the envelope of an executable.
        run_id: What the envelope is bound to, with the index; a random one when None.
        index: As above.
        keys: Sign the body.

    Raises:
        TaskResolutionError: When the task can be sent neither by reference nor by value.
    """
    run = run_id or uuid.uuid4().hex
    envelope = spec.serialized_task
    if envelope is None:
        bound_to = (run, str(index))
        if spec.strategy == "reference":
            envelope = resolver.serialize_best(spec.executable, bound_to=bound_to)
        else:
            envelope = resolver.serialize(spec.executable, spec.strategy, bound_to=bound_to)
    body = {
        "version": VERSION,
        "run_id": run,
        "index": index,
        "task_id": spec.task_id,
        "status": spec.status.value,
        "created_at": spec.created_at,
        "strategy": envelope.strategy,
        "resolver_id": envelope.resolver_id,
        "serialized_task": {"strategy": envelope.strategy, "payload": dict(envelope.payload)},
        "group_id": spec.group_id,
        "trace_id": spec.trace_id,
    }
    if keys is not None:
        body["sent_at"] = time.time()
        body["signature"] = keys.sign(canonical(body, "an entry"), purpose="entry", bound_to=(run, str(index)))
    return body


def verify(body: Mapping[str, Any], keys: SigningKeys) -> None:
    """Return when the whole body is signed with one of these keys, and not older than `LIFE`.

    Raises:
        SignatureError: When it is not.
        PayloadError: When it holds what JSON does not know.
    """
    rest = {name: value for name, value in body.items() if name != "signature"}
    if "signature" not in body:
        raise SignatureError("An unsigned task is refused: this process has a signing key, the sender has none")
    place = (str(body.get("run_id")), str(body.get("index")))
    keys.verify(canonical(rest, "an entry"), body["signature"], purpose="entry", bound_to=place)
    if time.time() - rest["sent_at"] > LIFE:
        raise SignatureError(f"A task is refused whose message was sent more than {LIFE / 86400:g} days ago")


def take_once(client: Any, prefix: str, body: Mapping[str, Any], taker: str) -> bool:
    """Note in Redis that a verified entry is taken; False when it was taken before, unless by the same taker."""
    key = Keys(prefix).entry(body["run_id"], body["index"])
    kept = LIFE + max(body["sent_at"] - time.time(), 0.0)
    return bool(client.set(key, taker, nx=True, px=round(kept * 1000))) or client.get(key) == taker.encode()


def task_spec(
    body: Mapping[str, Any], resolver_of: Callable[[str], TaskResolver], keys: SigningKeys | None = None
) -> TaskSpec:
    """The entry that a message body stands for, its task resolved.

    Raises:
        TaskResolutionError: For an unknown version, a malformed body, an unknown reference, a signature that does not
            hold.
        SignatureError: When there are keys, and the body is not signed with one of them.
    """
    if keys is not None:
        verify(body, keys)
    if body.get("version") != VERSION:
        raise TaskResolutionError(
            f"Message version {body.get('version')!r} is unknown; this process reads version {VERSION}"
        )
    inner, run_id, index = body.get("serialized_task"), body.get("run_id"), body.get("index")
    if not isinstance(inner, Mapping) or not isinstance(run_id, str) or not isinstance(index, int):
        raise TaskResolutionError("A message must hold 'run_id', 'index' and 'serialized_task'")
    envelope = SerializedTask.from_dict({"version": 1, "resolver_id": body.get("resolver_id", "default"), **inner})
    task = resolver_of(envelope.resolver_id).resolve(envelope, bound_to=(run_id, str(index)))
    return TaskSpec(
        task,
        status=TaskStatus.RUNNING,
        created_at=float(body.get("created_at") or 0.0),
        group_id=body.get("group_id"),
        trace_id=body.get("trace_id"),
        resolver_id=envelope.resolver_id,
        strategy=envelope.strategy,
    )
