"""The states of a flow and of its steps, and the one table of what may become of a flow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class FlowStatus(StrEnum):
    """Where a flow is. The last four but CANCELLING are ends, although a verb may make more of some."""

    PENDING = "pending"
    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"
    COMPLETED = "completed"
    FAILED = "failed"
    LOST = "lost"

    @property
    def is_terminal(self) -> bool:
        """Whether nothing happens any more unless somebody asks for it; retention counts from here."""
        return self in _TERMINAL


class StepStatus(StrEnum):
    """Where a step, or a member of a group, is."""

    PENDING = "pending"
    READY = "ready"
    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    PAUSED = "paused"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"
    COMPLETED = "completed"
    FAILED = "failed"
    REUSED = "reused"
    CACHED = "cached"
    SKIPPED = "skipped"

    @property
    def is_success(self) -> bool:
        """Whether what follows may use its outcome."""
        return self in _SUCCESSES

    @property
    def letter(self) -> str:
        """How it is written in the strip of a group."""
        return _LETTERS[self]


_TERMINAL: Final = frozenset({FlowStatus.CANCELLED, FlowStatus.COMPLETED, FlowStatus.FAILED, FlowStatus.LOST})
_SUCCESSES: Final = frozenset({StepStatus.COMPLETED, StepStatus.REUSED, StepStatus.CACHED})

_LETTERS: Final = dict(zip(StepStatus, "pyqrwzxkdfucs", strict=True))


class Move(StrEnum):
    """What may happen to a flow as a whole; each has its row in `MOVES`."""

    QUEUE = "queue"
    CLAIM = "claim"
    STEP = "step"
    COMPLETE = "complete"
    FAIL = "fail"
    STOP = "stop"
    FINISH_CANCEL = "finish_cancel"
    GIVE_UP = "give_up"
    HAND_OVER = "hand_over"
    RECOVER = "recover"
    WAKE = "wake"
    PAUSE = "pause"
    CANCEL = "cancel"
    RESUME = "resume"
    RETRY = "retry"


@dataclass(frozen=True)
class MoveRule:
    """One row of the table.

    Attributes:
        sources: States from which the move may be made.
        target: The state afterwards; None where it stays what it was.
        by_owner: Whether it is guarded by the owner's epoch, else by the version that the caller has seen.
        raises_epoch: Whether whoever owned the flow before is shut out by it.
    """

    sources: frozenset[FlowStatus]
    target: FlowStatus | None
    by_owner: bool
    raises_epoch: bool = False


_S = FlowStatus
MOVES: Final[Mapping[Move, MoveRule]] = {
    # An owner's moves.
    Move.STEP: MoveRule(frozenset({_S.RUNNING, _S.CANCELLING}), None, by_owner=True),
    Move.COMPLETE: MoveRule(frozenset({_S.RUNNING, _S.CANCELLING}), _S.COMPLETED, by_owner=True),
    Move.FAIL: MoveRule(frozenset({_S.RUNNING, _S.CANCELLING}), _S.FAILED, by_owner=True),
    Move.STOP: MoveRule(frozenset({_S.RUNNING}), _S.PAUSED, by_owner=True),
    Move.FINISH_CANCEL: MoveRule(frozenset({_S.RUNNING, _S.CANCELLING}), _S.CANCELLED, by_owner=True),
    Move.GIVE_UP: MoveRule(frozenset({_S.RUNNING}), _S.LOST, by_owner=True),
    Move.HAND_OVER: MoveRule(frozenset({_S.RUNNING}), _S.QUEUED, by_owner=True, raises_epoch=True),
    # A claim names the state, epoch and beat that it has seen; CANCELLING stays what it is.
    Move.CLAIM: MoveRule(
        frozenset({_S.PENDING, _S.QUEUED, _S.RUNNING, _S.CANCELLING}), _S.RUNNING, by_owner=False, raises_epoch=True
    ),
    # Moves of verbs and of recovery.
    Move.QUEUE: MoveRule(frozenset({_S.PENDING}), _S.QUEUED, by_owner=False),
    Move.RECOVER: MoveRule(frozenset({_S.RUNNING}), _S.QUEUED, by_owner=False, raises_epoch=True),
    Move.WAKE: MoveRule(frozenset({_S.QUEUED}), _S.QUEUED, by_owner=False),
    Move.PAUSE: MoveRule(frozenset({_S.PENDING, _S.QUEUED}), _S.PAUSED, by_owner=False, raises_epoch=True),
    Move.CANCEL: MoveRule(
        frozenset({_S.PENDING, _S.QUEUED, _S.PAUSED, _S.LOST}), _S.CANCELLED, by_owner=False, raises_epoch=True
    ),
    Move.RESUME: MoveRule(frozenset({_S.FAILED, _S.PAUSED, _S.LOST}), _S.QUEUED, by_owner=False, raises_epoch=True),
    Move.RETRY: MoveRule(
        frozenset({_S.FAILED, _S.PAUSED, _S.LOST, _S.COMPLETED}), _S.QUEUED, by_owner=False, raises_epoch=True
    ),
}
