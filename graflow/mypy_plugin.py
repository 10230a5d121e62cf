"""What mypy cannot be told by types alone: that arguments which are bound to a task are parameters of its function.

Switched on by `plugins = ["graflow.mypy_plugin"]` in the settings of mypy. A task may be given some of its arguments
(`load(task_id="a", path="x")`) and take the others from results, which no type of Python can say.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Final

from mypy.errorcodes import ARG_TYPE, CALL_ARG
from mypy.nodes import ARG_NAMED, ARG_STAR2
from mypy.plugin import MethodContext, Plugin
from mypy.subtypes import is_subtype
from mypy.types import Instance, Parameters, Type, get_proper_type

_CALL: Final = "graflow.core.nodes.wrapper.TaskWrapper.__call__"
_ID: Final = "task_id"


class TaskPlugin(Plugin):
    """Looks at the arguments that tasks are called with by name."""

    def get_method_hook(self, fullname: str) -> Callable[[MethodContext], Type] | None:
        return _check_bound if fullname == _CALL else None


def plugin(version: str) -> type[Plugin]:  # noqa: ARG001 - mypy passes its own
    """The entry point that mypy looks for."""
    return TaskPlugin


def _check_bound(call: MethodContext) -> Type:
    """Report what is given to no parameter, or to one of another type."""
    task = get_proper_type(call.type)
    wanted = get_proper_type(task.args[0]) if isinstance(task, Instance) and task.args else None
    given = _given(call)
    if not isinstance(wanted, Parameters) or ARG_STAR2 in wanted.arg_kinds or None in wanted.arg_names:
        return call.default_return_type
    known = {str(name): kind for name, kind in zip(wanted.arg_names, wanted.arg_types, strict=True)}
    for name, kind in given:
        if name not in {_ID, *known}:
            _report_unknown(call, name, known)
        elif name in known and not is_subtype(kind, known[name]):
            call.api.fail(
                f'Argument "{name}" to task has incompatible type {_shown(kind)}; expected {_shown(known[name])}',
                call.context,
                code=ARG_TYPE,
            )
    return call.default_return_type


def _given(call: MethodContext) -> list[tuple[str, Type]]:
    """The arguments that are given by name, wherever they landed."""
    return [
        (name, kind)
        for names, kinds, ways in zip(call.arg_names, call.arg_types, call.arg_kinds, strict=True)
        for name, kind, way in zip(names, kinds, ways, strict=True)
        if name is not None and way == ARG_NAMED
    ]


def _report_unknown(call: MethodContext, name: str, known: Mapping[str, Type]) -> None:
    near = difflib.get_close_matches(name, known, 1)
    meant = f'; did you mean "{near[0]}"?' if near else ""
    call.api.fail(f'Unexpected keyword argument "{name}" for task{meant}', call.context, code=CALL_ARG)


def _shown(kind: Type) -> str:
    return f'"{kind}"'
