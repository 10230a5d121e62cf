"""How the execution of a flow ends before the flow does, and when a flow rests."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from graflow.state.statuses import FlowStatus


class Stop(StrEnum):
    """Why this process goes no further with a flow."""

    PAUSE = "pause"
    CANCEL = "cancel"
    HAND_OVER = "hand_over"
    PUT_AWAY = "put_away"
    NOT_OURS = "not_ours"
    FULL = "full"
    STORE_LOST = "store_lost"
    BROKEN = "broken"
    ALONE = "alone"
    TIMED_OUT = "timed_out"

    @property
    def interrupts(self) -> bool:
        """Whether a group that runs is left where it is; what only pauses lets running steps end."""
        return self is not Stop.PAUSE

    @property
    def cancels(self) -> bool:
        """Whether groups that are open on workers end with the execution."""
        return self in {Stop.CANCEL, Stop.TIMED_OUT}


class FlowStopped(BaseException):
    """Ends the execution of a flow in this process, and fails no step.

    Attributes:
        why: The reason.
        wake_at: When the flow goes on by itself, seconds since the epoch.
        text: What there is to say about it.
        reached: Keys of group runs that were cancelled because of it.
    """

    def __init__(self, why: Stop, text: str = "", wake_at: float | None = None) -> None:
        super().__init__(why, text, wake_at)
        self.why = why
        self.text = text
        self.wake_at = wake_at
        self.reached: list[str] = []


class FlowSuspended(FlowStopped):
    """Ends an execution at a step that goes on later from its beginning, and uses no attempt of it.

    Attributes:
        awaits: The flow that is waited for, where it is one.
        asks: The questions whose answers are waited for.
    """

    def __init__(self, text: str, wake_at: float, awaits: str | None = None, asks: Sequence[str] = ()) -> None:
        super().__init__(Stop.PUT_AWAY, text, wake_at)
        self.awaits = awaits
        self.asks = list(asks)


def rests(status: FlowStatus) -> bool:
    """Whether nothing happens to a flow unless somebody asks for it."""
    return status.is_terminal or status is FlowStatus.PAUSED
