"""References: where a task can be found by name, the table that names are looked up in, and what travels with them."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any, Final

from graflow.codec import from_jsonable, to_jsonable
from graflow.core.retry import RetryPolicy
from graflow.core.serialization import SCRIPTS
from graflow.exceptions import GraflowError, PayloadError, TaskResolutionError, UnknownTaskError
from graflow.protocols import Node
from graflow.values.blobs import LONG, GivenBlobs, TakenBlobs
from graflow.values.classes import learn_from
from graflow.values.pickles import Pickles
from graflow.values.plain import SCALARS, is_plain

Reference = tuple[str, str, Any]  # module, attribute path in it, the task found there

REMEDIES: Final = (
    "Either move it to the top level of a module that workers import (`--graflow-import <module>`), or set "
    "GRAFLOW_SIGNING_KEY on both sides to send it by value (`graflow keygen` makes a key)"
)

# Options that an envelope carries: name -> (value when not given, types that a message may bring).
_TRAVELLING: Final[dict[str, tuple[Any, tuple[type, ...]]]] = {
    "handler_type": ("direct", (str,)),
    "resolve_keyword_args": (True, (bool,)),
    "max_cycles": (None, (int, type(None))),
    "max_retries": (None, (int, type(None))),
    "timeout": (None, (int, float, type(None))),
    "options": (None, (dict, type(None))),
}
_POLICY_FIELDS: Final = frozenset(RetryPolicy().numbers())


def is_executable(value: object) -> bool:
    """Whether a value is a task; asked of its type, so that module attributes with a will of their own stay asleep."""
    kind = type(value)
    return not isinstance(value, type) and all(hasattr(kind, name) for name in ("task_id", "run", "__call__"))


def executables_of(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """Every task that is an attribute of a module, or of a class that the module defines, with its attribute path."""
    open_classes: list[tuple[str, Any]] = [("", module)]
    seen: set[int] = set()
    while open_classes:
        prefix, owner = open_classes.pop(0)
        if id(owner) in seen:
            continue
        seen.add(id(owner))
        for name, value in list(vars(owner).items()):
            found = value.__func__ if isinstance(value, staticmethod) else value
            if is_executable(found):
                yield prefix + name, found
            elif isinstance(found, type) and found.__module__ == module.__name__:
                open_classes.append((f"{prefix}{name}.", found))


def reference_of(task: Node) -> Reference:
    """Where this task, or the one whose bound instance it is, can be found by importing.

    Raises:
        TaskResolutionError: When it cannot; the text says why and what to do.
    """
    try:
        return _at_home(task)
    except TaskResolutionError:
        if getattr(task, "__module__", None) not in SCRIPTS:
            for found in elsewhere(task):
                return found
        raise


def elsewhere(task: Node) -> Iterator[Reference]:
    """Where else a task is an attribute of an imported module; the module that made it comes first.

    A task of a library's function, a partial or a bound method says the library of itself, which does not hold it.
    """
    made_in = getattr(task, "made_in", "")
    names = [made_in, *(name for name in list(sys.modules) if name != made_in)]
    kind = type(task)
    for module_name in names:
        module = sys.modules.get(module_name)
        if module_name in SCRIPTS or not isinstance(module, ModuleType):
            continue
        for name, found in list(vars(module).items()):
            if type(found) is kind and _stands_for(found, task):
                yield module_name, name, found


def _at_home(task: Node) -> Reference:
    """Where a task is in the module that it says of itself."""
    module_name = getattr(task, "__module__", None)
    qualname = getattr(task, "__qualname__", None) or getattr(task, "__name__", None)
    if module_name in SCRIPTS:
        raise _not_importable(task, f"it is defined in {module_name}, which on a worker is another program")
    module = sys.modules.get(module_name) if isinstance(module_name, str) else None
    if module is None:
        raise _not_importable(task, f"its module {module_name!r} is not an imported one")
    named = _at(module, qualname) if isinstance(qualname, str) and "<" not in qualname else None
    if named is task:
        return str(module_name), str(qualname), task
    alike = [(name, found) for name, found in list(vars(module).items()) if type(found) is type(task)]
    for name, found in [*((name, found) for name, found in alike if found is task), (str(qualname), named), *alike]:
        if _stands_for(found, task):
            return str(module_name), name, found
    what = "a lambda" if "<lambda>" in str(qualname) else "defined inside a function" if "<" in str(qualname) else None
    raise _not_importable(task, f"it is {what}" if what else f"no attribute '{qualname}' of {module_name} is this task")


def _at(module: ModuleType, path: str) -> Any:
    found: Any = module
    for part in path.split("."):
        found = vars(found).get(part) if isinstance(found, ModuleType | type) else None
    return found.__func__ if isinstance(found, staticmethod) else found


def _stands_for(found: object, task: Node) -> bool:
    if found is task:
        return True
    func = getattr(task, "func", None)
    return (
        func is not None
        and is_executable(found)
        and getattr(found, "func", None) is func
        and getattr(found, "inject_context", None) == getattr(task, "inject_context", None)
        and not getattr(found, "_bound_kwargs", None)
    )


def _not_importable(task: Node, why: str) -> TaskResolutionError:
    return TaskResolutionError(f"Task '{task.task_id}' cannot be sent by reference: {why}. {REMEDIES}")


class ReferenceTable:
    """Tasks by module and attribute path; safe to use from many threads."""

    def __init__(self) -> None:
        self._tasks: dict[tuple[str, str], Any] = {}
        self._known: dict[int, tuple[str, str]] = {}
        self._modules: set[str] = set()
        self._learnt: dict[int, Node] = {}  # tasks whose classes are known, kept so that no id is given away again
        self._lock = threading.Lock()

    def put(self, module: str, path: str, task: Node) -> None:
        if self._tasks.get((module, path)) is not task:
            with self._lock:
                self._tasks[module, path] = task

    def add(self, task: Node) -> None:
        """Table a task where it can be imported, else under the module and name that it says of itself."""
        try:
            module, path, found = reference_of(task)
        except TaskResolutionError:
            path = getattr(task, "__qualname__", None) or task.task_id
            module, found = str(getattr(task, "__module__", "")), task
            with self._lock:
                self._known[_identity(task)] = (module, path)
        self.put(module, path, found)

    def add_module(self, name: str, found: Mapping[str, Any]) -> None:
        """Table the tasks of a module; one that it imported from elsewhere also counts under its home."""
        with self._lock:
            self._modules.add(name)
        for path, task in found.items():
            self.put(name, path, task)
            home = getattr(task, "__module__", None)
            if home != name:
                self._add_home(task)

    def _add_home(self, task: Node) -> None:
        try:
            module, path, found = reference_of(task)
        except TaskResolutionError:
            return
        if found is task:
            self.put(module, path, task)
            for other, name, held in elsewhere(task):
                if held is task:
                    self.put(other, name, task)

    def find_or_add(self, task: Node) -> Reference:
        """Where the task (or the base of this instance) stands; entered when it is importable.

        Raises:
            TaskResolutionError: When it is neither tabled nor importable.
        """
        key = self._known.get(_identity(task))
        found = None if key is None else self._tasks.get(key)
        # Another task without bound values may be a task of its own around the same function.
        if key is not None and (found is task or (getattr(task, "_bound_kwargs", None) and _stands_for(found, task))):
            return *key, found
        module, path, found = reference_of(task)
        self.put(module, path, found)
        with self._lock:
            self._known[_identity(found)] = (module, path)
        return module, path, found

    def learn(self, task: Node) -> None:
        """Table the classes that a tabled task speaks of, once."""
        if id(task) not in self._learnt:
            classes_of(task)
            self._learnt[id(task)] = task

    def look_up(self, payload: Mapping[str, Any]) -> Any:
        """The task that a payload names.

        Raises:
            TaskResolutionError: When the table does not hold it.
        """
        module, path = payload.get("module"), payload.get("qualname", payload.get("name"))
        if not isinstance(module, str) or not isinstance(path, str):
            raise TaskResolutionError("A reference must name 'module' and 'qualname' as text")
        task = self._tasks.get((module, path))
        if task is None:
            raise UnknownTaskError(self._not_registered(module, path), f"{module}:{path}")
        return task

    def _not_registered(self, module: str, path: str) -> str:
        missing, known = f"No task '{_shown(module)}:{_shown(path)}' is registered in this process", self.modules()
        if module in known:
            return (
                f"{missing}, whose module {module} is without it: the code here is not the sender's; "
                "deploy that code here and restart this worker"
            )
        return (
            f"{missing} (registered are: {', '.join(known) or 'none'}); "
            f"start this worker with `--graflow-import {_shown(module)}`"
        )

    def modules(self) -> list[str]:
        with self._lock:
            return sorted(self._modules)

    def references(self) -> list[str]:
        with self._lock:
            return sorted(f"{module}:{path}" for module, path in self._tasks)


def _identity(task: Node) -> int:
    """The same number for a task and its bound instances; tabled tasks stay alive, so it is not given away again."""
    return id(getattr(task, "func", task))


def _shown(text: str) -> str:
    """Foreign text for a message, short and on one line."""
    return ascii(text[:200])[1:-1]


def travelling_fields(
    task: Node, base: object, pickles: Callable[[], Pickles], blobs: TakenBlobs | None = None
) -> dict[str, Any]:
    """What a reference to `base` needs besides the name to become `task` again, as JSON data.

    Args:
        task: What is sent.
        base: The task whose name is sent.
        pickles: Gives what takes arguments that have no other form.
        blobs: Takes long arguments.

    Raises:
        PayloadError: When a bound argument or an option cannot be kept, naming task and parameter.
    """
    kept: dict[str, Any] = {}
    if task is not base:
        kept["task_id"] = task.task_id
        bound = getattr(task, "_bound_kwargs", None) or {}
        if bound:
            kept["bound"] = {
                name: _kept(task, f"argument '{name}'", value, base, pickles, blobs) for name, value in bound.items()
            }
    options = _travelling_options(task, base)
    if options:
        kept["options"] = options
    return kept


def _travelling_options(task: Node, base: object) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name, (default, _types) in _TRAVELLING.items():
        value = getattr(task, name, default)
        if value != default or (task is not base and value != getattr(base, name, default)):
            kept[name] = _kept(task, f"option '{name}'", value)
    policy, defined = getattr(task, "retry_policy", None), getattr(base, "retry_policy", None)
    if policy is None or policy is defined or (type(policy) is RetryPolicy and _view_of(policy) == _view_of(defined)):
        return kept if type(policy) is not RetryPolicy else {**kept, "retry_policy": policy.numbers()}
    raise PayloadError(
        f"Task '{task.task_id}': of its retry policy, a {type(policy).__name__}, only numbers can be sent with a "
        "reference, not a class or a view of errors of its own; set it where the task is defined"
    )


def _view_of(policy: object) -> tuple[Any, Any]:
    """What a policy makes of errors, which is code."""
    return getattr(policy, "retry_on", None), getattr(policy, "give_up_on", None)


def _kept(
    task: Node,
    what: str,
    value: object,
    base: object = None,
    pickles: Callable[[], Pickles] | None = None,
    blobs: TakenBlobs | None = None,
) -> Any:
    is_long = blobs is not None and type(value) is str and len(value) >= LONG
    if not is_long and (value is None or type(value) in {str, bool} or is_plain(value, check_numbers=True)):
        return value
    where = f"{what} of task '{task.task_id}'"
    near = classes_of(base)
    try:
        return to_jsonable(value, where=where, near=near, pickles=None if pickles is None else pickles(), blobs=blobs)
    except (TypeError, PayloadError) as error:
        text = str(error)
        raise PayloadError(text if where in text else f"{where}: {text}", error) from error


def classes_of(task: object) -> Mapping[str, type]:
    """The classes by name that the function of a task speaks of, which are tabled."""
    func = getattr(task, "func", None)
    return {} if func is None else learn_from(func)


def restore_instance(
    base: Any, payload: Mapping[str, Any], pickles: Callable[[], Pickles], blobs: GivenBlobs | None = None
) -> Any:
    """The registered task itself, or an instance of it with the id, arguments and options of the payload.

    Raises:
        TaskResolutionError: When the payload does not fit the task.
    """
    task_id, bound, options = payload.get("task_id"), payload.get("bound", {}), payload.get("options", {})
    if not (task_id is None or isinstance(task_id, str)) or not isinstance(bound, Mapping):
        raise TaskResolutionError("A reference may carry 'task_id' as text and 'bound' as an object")
    try:
        arguments = {
            name: value
            if type(value) in SCALARS or is_plain(value)
            else from_jsonable(value, near=classes_of(base), pickles=pickles(), blobs=blobs)
            for name, value in bound.items()
        }
        wanted = _checked_options(options, getattr(base, "retry_policy", None))
    except (GraflowError, ValueError, TypeError) as error:
        raise TaskResolutionError(f"Task '{base.task_id}' cannot be restored: {error}", error) from error
    changed = {name: value for name, value in wanted.items() if getattr(base, name, None) != value}
    if task_id is None and not arguments and not changed:
        return base
    if not hasattr(type(base), "instance"):
        raise TaskResolutionError(f"Task '{base.task_id}' takes no bound arguments, another id or options")
    task = base.instance(base.task_id if task_id is None else task_id, arguments)
    for name, value in changed.items():
        setattr(task, name, value)
    return task


def _checked_options(options: object, policy: object) -> dict[str, Any]:
    if not isinstance(options, Mapping):
        raise TypeError("'options' must be an object")
    wanted: dict[str, Any] = {}
    for name, data in options.items():
        if name == "retry_policy":
            retry_on, give_up_on = _view_of(policy)
            wanted[name] = RetryPolicy(**_checked_numbers(data), retry_on=retry_on, give_up_on=give_up_on)
            continue
        if name not in _TRAVELLING:
            raise ValueError(f"unknown option {_shown(str(name))!r}")
        value = from_jsonable(data)
        if not isinstance(value, _TRAVELLING[name][1]):
            raise TypeError(f"option '{name}' cannot be a {type(value).__name__}")
        wanted[name] = value
    return wanted


def _checked_numbers(data: object) -> dict[str, Any]:
    if (
        not isinstance(data, Mapping)
        or not set(data) <= _POLICY_FIELDS
        or not all(isinstance(value, int | float) for value in data.values())
    ):
        raise ValueError("'retry_policy' must be an object of numbers")
    return dict(data)
