"""What is asked, and what is answered: records that are plain JSON."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Final, Self

from pydantic import BaseModel, Field

from graflow.exceptions import ConfigError
from graflow.exceptions.feedback import FeedbackCancelledError, FeedbackTimeoutError

__all__ = [
    "ANSWERABLE",
    "SETTLED",
    "FeedbackCancelledError",
    "FeedbackRequest",
    "FeedbackResponse",
    "FeedbackTimeoutError",
    "FeedbackType",
]

ANSWERABLE: Final = ("pending", "timeout")
"""States of a question that takes an answer: somebody waits in place, or no longer does."""
SETTLED: Final = ("completed", "cancelled")
"""States that nothing changes any more."""


class FeedbackType(Enum):
    """What kind of answer a question wants."""

    APPROVAL = "approval"
    TEXT = "text"
    SELECTION = "selection"
    MULTI_SELECTION = "multi_selection"
    CUSTOM = "custom"

    @classmethod
    def of(cls, given: FeedbackType | str) -> FeedbackType:
        """The kind of that name.

        Raises:
            ConfigError: It is none; lists those that there are.
        """
        try:
            return cls(given)
        except ValueError:
            known = ", ".join(kind.value for kind in cls)
            raise ConfigError(f"Unknown feedback type {given!r}; known are {known}") from None


def _now() -> str:
    return datetime.now(UTC).isoformat()


class _Record(BaseModel):
    def to_dict(self) -> dict[str, Any]:
        """The fields by name; the kind as its text."""
        fields = self.model_dump()
        return {name: value.value if isinstance(value, Enum) else value for name, value in fields.items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The record that `to_dict` described; the kind may also be a `FeedbackType`."""
        return cls(**data)


class FeedbackRequest(_Record):
    """A question.

    Attributes:
        feedback_id: Whoever knows it may answer.
        task_id: The task that asks.
        session_id: The run, or the branch of it, that the task is in.
        feedback_type: The kind of answer.
        prompt: The question itself.
        options: What can be selected.
        metadata: What belongs to the question, as JSON.
        created_at: When it was asked first, ISO 8601.
        timeout: Seconds that the task waits in place.
        status: `pending`, `completed`, `timeout` (nobody waits in place, and it can still be answered) or `cancelled`.
        channel_key: The key of the channel that gets the answer.
        write_to_channel: Whether it does.
    """

    feedback_id: str
    task_id: str
    session_id: str
    feedback_type: FeedbackType
    prompt: str
    options: list[str] | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)
    created_at: str = Field(default_factory=_now)
    timeout: float = 180.0
    status: str = "pending"
    channel_key: str | None = None
    write_to_channel: bool = False


class FeedbackResponse(_Record):
    """An answer; which of its fields counts is told by its kind.

    Attributes:
        feedback_id: The question.
        response_type: The kind of answer.
        approved: For an approval.
        reason: Why, for any kind.
        text: For a text.
        selected: For a selection, one of the options.
        selected_multiple: For a multi-selection, some of the options.
        custom_data: For a custom answer, anything that JSON holds.
        responded_at: When, ISO 8601.
        responded_by: Who, as whoever answered says.
    """

    feedback_id: str
    response_type: FeedbackType
    approved: bool | None = None
    reason: str | None = None
    text: str | None = None
    selected: str | None = None
    selected_multiple: list[str] | None = None
    custom_data: Any = None
    responded_at: str = Field(default_factory=_now)
    responded_by: str | None = None

    @property
    def value(self) -> Any:
        """The bare answer."""
        return getattr(self, FIELD_OF[self.response_type])


FIELD_OF: Final[Mapping[FeedbackType, str]] = {
    FeedbackType.APPROVAL: "approved",
    FeedbackType.TEXT: "text",
    FeedbackType.SELECTION: "selected",
    FeedbackType.MULTI_SELECTION: "selected_multiple",
    FeedbackType.CUSTOM: "custom_data",
}
"""Where a kind of answer stands in a response."""
