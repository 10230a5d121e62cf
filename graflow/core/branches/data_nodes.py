"""Nodes that are data only and therefore travel without a reference and without a signature: no-ops and groups."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Final

from graflow.codec import from_jsonable, to_jsonable
from graflow.core.building.scopes import GraphScope, recording_into
from graflow.core.graph import TaskGraph
from graflow.core.nodes.executable import ParallelGroup
from graflow.core.nodes.mapped import MappedGroup
from graflow.core.nodes.plain import Task
from graflow.exceptions import PayloadError, TaskResolutionError
from graflow.protocols import DataNode
from graflow.redis.config import Secret

_Take = Callable[[Any], dict[str, Any]]
_Make = Callable[[Mapping[str, Any]], Any]


def _take_noop(task: Task, _take: _Take) -> dict[str, Any]:
    return {"task_id": task.task_id}


def _make_noop(payload: Mapping[str, Any], _make: _Make) -> Task:
    return Task(_task_id(payload), register_to_context=False)


def _take_group(group: ParallelGroup, take: _Take) -> dict[str, Any]:
    config = group.execution_config
    backend = config["backend"]
    try:
        execution = {
            "backend": backend.value if isinstance(backend, Enum) else backend,
            # A secret stays at home: the worker reaches its servers with its own settings.
            "backend_config": to_jsonable(
                {key: value for key, value in config["backend_config"].items() if not isinstance(value, Secret)}
            ),
            "policy": to_jsonable(config["policy"]),
        }
    except TypeError as error:
        raise PayloadError(
            f"The settings of group '{group.task_id}' cannot be sent inside another group: {error}", error
        ) from error
    members = [take(member) for member in group.tasks]
    taken = {"task_id": group.task_id, "mapped": isinstance(group, MappedGroup), "members": members, **execution}
    return (
        {**taken, "template_id": group.template_id} if isinstance(group, MappedGroup) and group.template_id else taken
    )


def _make_group(payload: Mapping[str, Any], make: _Make) -> ParallelGroup:
    group_id, envelopes = _task_id(payload), payload.get("members")
    if not isinstance(envelopes, list):
        raise TaskResolutionError(f"The envelope of group '{group_id}' must hold 'members' as a list")
    members = [make(envelope) for envelope in envelopes]
    group: ParallelGroup
    if payload.get("mapped") is True:
        template_id = payload.get("template_id")
        group = MappedGroup(members, group_id, template_id=template_id if isinstance(template_id, str) else None)
    else:
        with recording_into(GraphScope(TaskGraph(), registers_on_creation=False)):
            group = ParallelGroup(members, name=group_id)
    return group.with_execution(
        payload.get("backend"),
        from_jsonable(payload.get("backend_config", {})),
        from_jsonable(payload.get("policy")),
    )


def _task_id(payload: Mapping[str, Any]) -> str:
    task_id = payload.get("task_id")
    if not isinstance(task_id, str):
        raise TaskResolutionError("The envelope of a node must hold 'task_id' as text")
    return task_id


DATA_NODES: Final = {
    "noop": DataNode((Task,), _take_noop, _make_noop),
    "group": DataNode((ParallelGroup, MappedGroup), _take_group, _make_group),
}
