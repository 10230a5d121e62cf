"""How one task is run: the interface that custom handlers implement."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from graflow.exceptions import ConfigError
from graflow.given import checked_mapping
from graflow.protocols import Node, Run


@dataclass
class TaskResult:
    """What policies and handlers see of one member of a group.

    `duration` is in seconds; `timestamp` is the time of finishing, in seconds since the epoch. The attribute
    `failed_at`, no field, is the task behind the member, or the pass of it, that failed, where it was another one.
    """

    task_id: str
    success: bool
    error: BaseException | None = None
    error_message: str | None = None
    duration: float = 0.0
    timestamp: float = 0.0

    def __post_init__(self) -> None:
        self.failed_at: str | None = None


class TaskHandler(ABC):
    """Runs one task; `engine.register_handler(name, handler)` makes it available as `@task(handler=name)`."""

    @abstractmethod
    def execute_task(self, task: Node, context: Run) -> Any:
        """Run the task and return its value.

        A handler stores the value, or the exception that it raises, with `context.set_result(task.task_id, …)`.
        """

    def get_name(self) -> str:
        """What logs call the handler; the name of its class by default."""
        return type(self).__name__


def checked_handlers(name: str, given: Mapping[str, TaskHandler] | None) -> dict[str, TaskHandler]:
    """Handlers by type, as they were given for a parameter.

    Raises:
        ConfigError: They are something else.
    """
    handlers = checked_mapping(name, given, "{'loud': LoudHandler()}")
    for handler_type, handler in handlers.items():
        require_handler(name, handler_type, handler)
    return handlers


def require_handler(where: str, handler_type: object, handler: object) -> None:
    """Make sure that tasks can be run by a handler.

    Raises:
        ConfigError: They cannot.
    """
    if isinstance(handler_type, str) and hasattr(handler, "execute_task") and not isinstance(handler, type):
        return
    made = f"; write {handler.__name__}()" if isinstance(handler, type) else ""
    raise ConfigError(f"{where} takes a name and a TaskHandler, not {handler_type!r}, {handler!r}{made}")
