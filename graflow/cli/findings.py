"""What `graflow doctor` finds, and how packages add checks: by the entry point group `graflow.checks`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from pydantic import BaseModel

GROUP: Final = "graflow.checks"


class Level(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


class Finding(BaseModel):
    """One thing that was looked at.

    Attributes:
        topic: What it is about, such as `"store"`.
        level: How bad it is.
        text: What was found, without secrets.
        remedy: What to do about it; None where nothing is to be done.
    """

    topic: str
    level: Level
    text: str
    remedy: str | None = None


@dataclass(frozen=True)
class Asked:
    """What the command was told.

    Attributes:
        store: The address of the store of flows; None for that of this project.
        modules: What has the flows.
        url: The Redis of record; None for that of the settings.
        key_prefix: The namespace; None for that of the settings.
    """

    store: str | None = None
    modules: Sequence[str] = ()
    url: str | None = None
    key_prefix: str | None = None


Check = Callable[[Asked], Iterator[Finding]]
"""Looks at some things; what it raises is a finding too."""


def ok(topic: str, text: str) -> Finding:
    """All is well."""
    return Finding(topic=topic, level=Level.OK, text=text)


def warning(topic: str, text: str, remedy: str) -> Finding:
    """Something may go wrong."""
    return Finding(topic=topic, level=Level.WARNING, text=text, remedy=remedy)


def wrong(topic: str, text: str, remedy: str) -> Finding:
    """Something does not work."""
    return Finding(topic=topic, level=Level.ERROR, text=text, remedy=remedy)
