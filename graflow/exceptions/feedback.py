"""Errors of questions that tasks ask people."""

from __future__ import annotations

from graflow.exceptions.base import GraflowRuntimeError
from graflow.exceptions.refused import ConfigError


class FeedbackTimeoutError(Exception):
    """Nobody has answered a question in time.

    A task may catch it and go on. When it does not, its run waits: it is saved, and is no failure.

    Attributes:
        feedback_id: The question, which can still be answered.
        timeout: Seconds that were waited.
    """

    def __init__(self, feedback_id: str, timeout: float) -> None:
        super().__init__(f"Feedback request {feedback_id} timed out after {timeout} seconds")
        self.feedback_id = feedback_id
        self.timeout = timeout

    def __reduce__(self) -> tuple[type[FeedbackTimeoutError], tuple[str, float]]:
        return type(self), (self.feedback_id, self.timeout)


class FeedbackCancelledError(GraflowRuntimeError):
    """A question was cancelled: nobody will answer it any more.

    Attributes:
        feedback_id: The question.
    """

    def __init__(self, feedback_id: str) -> None:
        super().__init__(f"Feedback request {feedback_id} was cancelled; nobody can answer it any more")
        self.feedback_id = feedback_id


class FeedbackAnswerError(ConfigError):
    """An answer does not fit its question; nothing was stored.

    Attributes:
        field: The field of the answer that is wrong.
        why: What is wrong with it.
    """

    def __init__(self, field: str, why: str) -> None:
        super().__init__(f"The answer does not fit the question: {field} {why}")
        self.field = field
        self.why = why
