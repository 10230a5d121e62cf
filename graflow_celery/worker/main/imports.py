"""What workers are given, checked before one is started: modules to import, and numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import ModuleType

from graflow.core.task_registry import TaskResolver, TaskResolverRegistry
from graflow.exceptions import ConfigError

Imports = Sequence[str | ModuleType] | Mapping[str, Sequence[str | ModuleType]]


def whole_number(name: str, value: object, *, at_least: int) -> int:
    """The value of an argument that counts something.

    Raises:
        ConfigError: When it is no such number.
    """
    if type(value) is not int or value < at_least:
        raise ConfigError(f"{name} must be a whole number, at least {at_least}, not {value!r}")
    return value


def named_imports(imports: object, resolver_id: str) -> list[tuple[str, str]]:
    """What may be imported, as resolver ids and names of modules; those that name no resolver get `resolver_id`.

    Raises:
        ConfigError: When it is something else than modules, by name or as objects.
    """
    if isinstance(imports, Mapping):
        return [pair for name, modules in imports.items() for pair in named_imports(modules, name)]
    if isinstance(imports, str | ModuleType) or not isinstance(imports, Iterable):
        raise ConfigError(f"imports= takes a sequence of modules or {{resolver id: [modules]}}, not {imports!r}")
    names = [module.__name__ if isinstance(module, ModuleType) else module for module in imports]
    for name in names:
        if not isinstance(name, str) or not name:
            raise ConfigError(f"imports= takes names of modules, not {name!r}")
    return [(resolver_id, name) for name in names if name != "__main__"]


def parse_import(text: str) -> tuple[str, str]:
    """`[resolver id=]module` as resolver id and module.

    Raises:
        ConfigError: When one of the two is empty.
    """
    resolver_id, separator, module = (part.strip() for part in text.rpartition("="))
    if not module or (separator and not resolver_id):
        raise ConfigError(f"--graflow-import takes MODULE or ID=MODULE, not {text!r}")
    return (resolver_id if separator else "default", module)


def fill_registry(registry: TaskResolverRegistry, imports: Sequence[tuple[str, str]]) -> None:
    """Import modules and table their tasks.

    Raises:
        TaskResolutionError: When a module cannot be imported.
    """
    for resolver_id, module in imports:
        if resolver_id not in registry.ids():
            registry.register(resolver_id, TaskResolver())
        registry.get(resolver_id).register_module(module)
