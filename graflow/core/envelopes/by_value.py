"""Tasks that travel by value, as pickles that whoever loads them has verified."""

from __future__ import annotations

from typing import Any, NoReturn

from graflow.core.serialization import dumps, loads
from graflow.exceptions import PayloadError, TaskResolutionError
from graflow.foreign import attempt
from graflow.protocols import Node


def pickled_task(task: Node) -> bytes:
    """The task as a pickle.

    Raises:
        PayloadError: When something in it cannot be pickled.
    """

    def refuse(error: Exception) -> NoReturn:
        raise PayloadError(
            f"Task '{task.task_id}' cannot be sent by value: {type(error).__name__}: {error}", error
        ) from error

    return attempt(lambda: dumps(task), refuse)


def unpickled_task(content: bytes) -> Any:
    """What a pickle holds; its code runs, so the signature has been verified.

    Raises:
        TaskResolutionError: When it cannot be loaded in this process.
    """

    def refuse(error: Exception) -> NoReturn:
        raise TaskResolutionError(
            f"A task that was sent by value cannot be loaded here: {type(error).__name__}: {error}", error
        ) from error

    return attempt(lambda: loads(content), refuse)
