"""What callers give, looked at where they give it: a fault is told with what would be right."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

from graflow.exceptions import ConfigError


def checked_mapping(name: str, given: object, example: str) -> dict[str, Any]:
    """A mapping by names, as a dict; an empty one for None.

    Args:
        name: The parameter that it was given for.
        given: As it was given.
        example: One that would be right.

    Raises:
        ConfigError: It is something else.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping) or not all(isinstance(key, str) for key in given):
        raise ConfigError(f"{name} must be a mapping with names as its keys, such as {example}, not {given!r}")
    return dict(given)


def checked_path(name: str, given: object) -> str:
    """A path as text.

    Raises:
        TypeError: It is none.
    """
    if not isinstance(given, str | Path) or not str(given):
        raise TypeError(f"{name} must be a path, such as 'runs/monday', not {given!r}")
    return str(given)


def checked_count(name: str, given: object, *, least: int = 0, most: float = math.inf) -> int:
    """A whole number within bounds.

    Raises:
        ConfigError: It is something else.
    """
    if not _is_whole(given) or given < least:
        raise ConfigError(f"{name} must be a whole number of at least {least}, not {given!r}")
    if given > most:
        raise ConfigError(f"{name} must be at most {most}, not {given!r}")
    return given


def page_size(limit: object, most: int) -> int:
    """How many a page has: what was asked for, but at least one and at most so many.

    Raises:
        ConfigError: It is no whole number.
    """
    if not _is_whole(limit):
        raise ConfigError(f"limit must be a whole number of at least 1, not {limit!r}")
    return max(1, min(limit, most))


def _is_whole(given: object) -> TypeGuard[int]:
    return isinstance(given, int) and not isinstance(given, bool)


def require_metadata(given: object) -> None:
    """Make sure that something can be the metadata of a checkpoint.

    Raises:
        TypeError: It is neither a mapping nor None.
    """
    if not isinstance(given, Mapping | None):
        raise TypeError(f"The metadata of a checkpoint is a mapping, such as {{'why': 'done'}}, not {given!r}")


def no_id(where: str, given: object) -> TypeError:
    """The error for what is no id of a task."""
    task_id = getattr(given, "task_id", None)
    remedy = f"; give {task_id!r}" if isinstance(task_id, str) else ""
    return TypeError(f"{where} takes the id of a task, not {given!r}{remedy}")
