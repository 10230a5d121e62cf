"""Tasks on their own as message bodies, and back: plain JSON data around a task's envelope."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Any

from graflow.codec import SerializedTask
from graflow.core.task_registry import TaskResolver
from graflow.exceptions import TaskResolutionError
from graflow.queue.base import TaskSpec, TaskStatus
from graflow_celery.wire.payload import VERSION


def body_of(spec: TaskSpec, resolver: TaskResolver, *, run_id: str | None = None, index: int = 0) -> dict[str, Any]:
    """The message body of one entry.

    Args:
        spec: An executable, or an envelope, which then travels as it is.
        resolver: Makes the envelope of an executable.
        run_id: What the envelope is bound to, with the index; a random one when None.
        index: As above.

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
    return {
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


def task_spec(body: Mapping[str, Any], resolver_of: Callable[[str], TaskResolver]) -> TaskSpec:
    """The entry that a message body stands for, its task resolved.

    Raises:
        TaskResolutionError: For an unknown version, a malformed body, an unknown reference, a signature that does not
            hold.
    """
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
