"""What happens in this process that is counted; nobody listens unless metrics are on.

Whoever tells does not know who counts: `if observers: observe(...)` costs one look at an empty list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum
from functools import partial
from typing import Final, NamedTuple, Protocol

from graflow.foreign import attempt
from graflow.spells import is_news
from graflow.text.shown import get_logger

_log = get_logger(__name__)


class Happening(StrEnum):
    """What is told, with its value and its labels, none of which is an id."""

    FLOW_WAITED = "flow waited"
    """Seconds from the making of a flow to its first claim; its name."""
    FLOW_ENDED = "flow ended"
    """Seconds of an execution of a flow in one process; its name, and the state in which it left the flow."""
    FLOW_TAKEN_OVER = "flow taken over"
    """1; its name."""
    RUN_ENDED = "run ended"
    """Seconds of an execution of a workflow that is not recorded; its name, or "" without one, and how it ended."""
    STEP_ENDED = "step ended"
    """Seconds of an execution of a step; the flow's name, and `completed`, `cached` or `failed`."""
    MEMBERS_ENDED = "members ended"
    """How many members of a group on a worker; what they came to."""
    BATCH_ENDED = "batch ended"
    """Seconds that a message with members was worked off."""
    MESSAGE_WAITED = "message waited"
    """Seconds that a message with members was on its way, by the clocks of two machines."""
    MEMBERS_LOST = "members lost"
    """How many members whose worker was lost; `run again` or `given up`."""
    LEASE_LOST = "lease lost"
    """1; of a `flow` or a `member`."""
    STORE_FAILED = "store failed"
    """1; the scheme of the store's address."""


class Level(StrEnum):
    """What is as it is just now, and measured when somebody asks, with its labels."""

    QUESTIONS_OPEN = "questions open"
    """Questions to people that are open; the scheme of the store's address."""
    OLDEST_QUESTION = "oldest question"
    """Seconds for which the oldest of them has been open; the same."""


class Measured(NamedTuple):
    """What a level is."""

    what: Level
    value: float
    labels: tuple[str, ...]


class Watch(Protocol):
    """Measures levels."""

    def measured(self) -> Iterable[Measured]:
        """What they are now; may raise `StoreError` where they cannot be had."""


Observer = Callable[[Happening, float, tuple[str, ...]], object]

observers: Final[list[Observer]] = []
"""Who is told."""

watches: Final[list[Watch]] = []
"""Who is asked for levels."""


def observe(what: Happening, value: float, *labels: str) -> None:
    """Tell the observers; one that raises is logged and changes nothing."""
    for observer in observers:
        attempt(partial(observer, what, value, labels), partial(_note_uncounted, what))


def _note_uncounted(what: Happening, error: Exception) -> None:
    if is_news(("observer", what)):
        _log.error("What happened is not counted (%s)", what, exc_info=error)
