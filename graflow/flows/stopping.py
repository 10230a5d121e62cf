"""How the execution of a flow ends before the flow does."""

from __future__ import annotations

from enum import StrEnum


class Stop(StrEnum):
    """Why this process goes no further with a flow."""

    PAUSE = "pause"
    CANCEL = "cancel"
    HAND_OVER = "hand_over"
    PUT_AWAY = "put_away"
    NOT_OURS = "not_ours"
    STORE_LOST = "store_lost"
    BROKEN = "broken"
    ALONE = "alone"

    @property
    def interrupts(self) -> bool:
        """Whether a group that runs is left where it is; what only pauses lets running steps end."""
        return self is not Stop.PAUSE


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
