"""What the code of tasks is, so that a run that is resumed by another version of a script can say so."""

from __future__ import annotations

import dis
import hashlib
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from types import CodeType, FunctionType, MethodType
from typing import Any

from graflow.core.building.scopes import current_scope
from graflow.core.graph import TaskGraph
from graflow.core.nodes.wrapper import TaskWrapper
from graflow.core.workflow import WorkflowContext

_SCRIPT = "__main__"
_LENGTH = 12  # of a digest, in hex digits
_PLAIN = (str, bytes, int, float, type(None))  # of defaults, what looks the same in every process


def digest_of(func: Callable[..., Any]) -> str | None:
    """A digest of what a function does: its instructions, those of functions in it, and its defaults.

    Neither its place in the file nor its docstring counts; the version of Python does, which the instructions depend
    on. None for what is not written in Python.
    """
    function = inspect.unwrap(func)
    if isinstance(function, MethodType):
        function = function.__func__
    if not isinstance(function, FunctionType):
        return None
    defaults = [*(function.__defaults__ or ()), *sorted((function.__kwdefaults__ or {}).items())]
    shown = [value if isinstance(value, _PLAIN) else type(value).__name__ for value in defaults]
    content = f"{sys.implementation.cache_tag} {shown} {_words(function.__code__)}"
    return hashlib.sha256(content.encode(errors="backslashreplace")).hexdigest()[:_LENGTH]


@lru_cache(maxsize=1024)
def _words(code: CodeType) -> str:
    """Parameters and instructions, with the names and constants that they mean in place of numbers."""
    parameters = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    return f"{parameters} " + " ".join(f"{step.opname} {_word(step.argval)}" for step in dis.get_instructions(code))


def _word(value: Any) -> str:
    if isinstance(value, CodeType):
        return f"({_words(value)})"
    if isinstance(value, frozenset):  # its order is not that of another process
        return str(sorted(map(repr, value)))
    return repr(value)


def digests_of(graph: TaskGraph) -> dict[str, str]:
    """Digests of the tasks of a graph, members of groups included, by id."""
    known: dict[int, str | None] = {}  # many members share one function
    found: dict[str, str] = {}
    for task in _tasks(graph):
        if id(task.func) not in known:
            known[id(task.func)] = digest_of(task.func)
        digest = known[id(task.func)]
        if digest is not None:
            found[task.task_id] = digest
    return found


def _tasks(graph: TaskGraph) -> Iterator[TaskWrapper[..., Any]]:
    left = [data.get("task") for data in list(graph.nodes.values())]
    seen: set[int] = set()
    while left:
        task = left.pop()
        if id(task) in seen:
            continue
        seen.add(id(task))
        if isinstance(task, TaskWrapper):
            yield task
        else:
            left += getattr(task, "tasks", ())


# -- the code of now ---------------------------------------------------------------------------------------------------


def take_present_code(graph: TaskGraph) -> None:
    """Give tasks whose functions came as code the functions that the script has for them now.

    That is the one of the task with the same id in the script's workflow, else the one with its name, unless several
    functions had that name when the run was saved.
    """
    defined = _present_graph(graph)
    came = [task for task in _tasks(graph) if getattr(task.func, "__module__", None) == _SCRIPT]
    digests: dict[str, set[str | None]] = {}
    for task in came:
        digests.setdefault(task.func.__qualname__, set()).add(digest_of(task.func))
    for task in came:
        name = task.func.__qualname__
        function = _of_workflow(task.task_id, defined) or (_of_script(name) if len(digests[name]) == 1 else None)
        if function is not None:
            task.take_function(function)


def _of_workflow(task_id: str, graph: TaskGraph | None) -> Callable[..., Any] | None:
    task = None if graph is None else graph.task_at(task_id)
    return _of_the_script_itself(task)


def _of_script(qualname: str) -> Callable[..., Any] | None:
    found: Any = sys.modules.get(_SCRIPT)
    for part in qualname.split("."):
        found = getattr(found, "__dict__", {}).get(part)
    return found if isinstance(found, FunctionType) else _of_the_script_itself(found)


def _of_the_script_itself(task: Any) -> Callable[..., Any] | None:
    if isinstance(task, TaskWrapper) and getattr(task.func, "__module__", None) == _SCRIPT:
        function: Callable[..., Any] = task.func
        return function
    return None


def _present_graph(graph: TaskGraph) -> TaskGraph | None:
    """The graph of the workflow that is being defined, else of the script's that shares most steps with a run."""
    scope = current_scope()
    if scope is not None:
        return scope.graph
    values = list(vars(sys.modules[_SCRIPT]).values()) if _SCRIPT in sys.modules else []
    known = [value.graph for value in values if isinstance(value, WorkflowContext)]
    steps = _steps(graph)
    return max(known, key=lambda each: len(steps & _steps(each)), default=None)


# -- what differs ------------------------------------------------------------------------------------------------------


def differences(saved: Mapping[str, str], graph: TaskGraph) -> list[str]:
    """In words: tasks of a run whose code is not what it was, and steps by which the workflow of now differs from it.

    That is the workflow that is being defined, or one that the script has, when it has any step of the run.
    """
    present = digests_of(graph)
    changed = [
        f"'{task_id}' runs other code ({digest} -> {present[task_id]})"
        for task_id, digest in sorted(saved.items())
        if present.get(task_id, digest) != digest
    ]
    defined = _present_graph(graph)
    if defined is None:
        return changed
    of_run, of_script = _steps(graph), _steps(defined)
    if not of_run & of_script:
        return changed
    gone = [f"'{task_id}' is no longer in the workflow and still runs" for task_id in sorted(of_run - of_script)]
    new = [f"'{task_id}' is new in the workflow and does not run" for task_id in sorted(of_script - of_run)]
    return changed + gone + new


def _steps(graph: TaskGraph) -> set[str]:
    return {task_id for task_id in graph.nodes if task_id not in graph.growth.dynamic}
