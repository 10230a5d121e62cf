"""How a task becomes the group of a fan-out: one member per item."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any

from graflow.core.building.scopes import current_scope
from graflow.core.nodes.arguments import free_parameters
from graflow.core.nodes.columns import MappedMembers, MemberIds, keyed, spread, taken
from graflow.core.nodes.mapped import MappedGroup
from graflow.core.nodes.options import require_items, require_key
from graflow.encoding.sharing import require_rereadable_items

Key = Callable[[Any], Any] | None


def mapped(task: Any, items: Iterable[Any], name: str | None, key: Key) -> MappedGroup[Any]:
    """The group in which each item goes to the first free parameter of a task.

    Raises:
        TypeError: When the function has no free parameter.
        ConfigError: For a generator or an iterator as an item.
    """
    require_items(items, f"{task.task_id}.map()")
    require_key(key, f"{task.task_id}.map()")
    free = _free(task)
    if not free:
        raise TypeError(f"Task '{task.task_id}' has no free parameter that an item of map() could go to")
    given, keys = keyed(items, key)
    values = taken(given)
    if type(values) is not range:
        require_rereadable_items(f"An item of {task.task_id}.map()", values)
    return _group(task, name, keys, values, free[0], free[:1])


def starmapped(task: Any, items: Iterable[Any], name: str | None, key: Key) -> MappedGroup[Any]:
    """The group in which each item holds all arguments of a member: a mapping, or a tuple.

    Raises:
        TypeError: For an item that is neither, or that the function cannot take.
        ConfigError: For a generator or an iterator in an item.
    """
    require_items(items, f"{task.task_id}.starmap()")
    require_key(key, f"{task.task_id}.starmap()")
    free = _free(task)
    given, keys = keyed(items, key)
    rows = spread(task, given, free)
    values = chain.from_iterable(row if type(row) is tuple else row.values() for row in rows)
    require_rereadable_items(f"A value in an item of {task.task_id}.starmap()", values)
    return _group(task, name, keys, rows, None, free)


def leave_unless_connected(task: Any) -> None:
    """Take a task out of the current graph that is only a template of others, and no step of its own."""
    task._pending_registration = False
    scope = current_scope()
    if scope is None:
        return
    graph, task_id = scope.graph, task.task_id
    is_connected = graph.succ.get(task_id) or graph.pred.get(task_id) or graph.groups_of(task_id)
    if graph.task_at(task_id) is task and not is_connected:
        graph.remove_node(task_id)


def _free(task: Any) -> list[str]:
    return free_parameters(task.func, inject_context=task.inject_context, bound=task.bound_arguments)


def _group(
    task: Any,
    name: str | None,
    keys: list[str] | None,
    items: Sequence[Any],
    parameter: str | None,
    free: Sequence[str],
) -> MappedGroup[Any]:
    group_id = str(getattr(task.func, "__name__", task.task_id)) if name is None else name
    ids, prototype = MemberIds(group_id, len(items), keys), task.instance(group_id, {**task.bound_arguments})
    leave_unless_connected(task)
    members = MappedMembers(prototype, ids, items, parameter, tuple(free))
    return MappedGroup(members, group_id, template_id=task.task_id if name is None else None)
