"""Errors of questions that flows ask people, and of the answers to them."""

from __future__ import annotations

from collections.abc import Sequence

from graflow.exceptions.base import GraflowError, GraflowRuntimeError


class QuestionNotFoundError(GraflowError, ValueError):
    """No question has this id."""


class QuestionExpiredError(GraflowRuntimeError, TimeoutError):
    """Nobody answered a question before its deadline, and it has no default."""

    def __init__(self, question_id: str, prompt: str) -> None:
        super().__init__(f"Question {question_id} was not answered before its deadline: {prompt}")
        self.question_id, self.prompt = question_id, prompt


class QuestionWithdrawnError(GraflowRuntimeError):
    """A question was taken back before it was answered."""

    def __init__(self, question_id: str, by: str, reason: str) -> None:
        super().__init__(f"Question {question_id} was withdrawn by {by}{f': {reason}' if reason else ''}")
        self.question_id, self.by, self.reason = question_id, by, reason


class QuestionChangedError(GraflowRuntimeError):
    """What a step asks in this place is not what it asked there before: an answer to that is none to this."""

    def __init__(self, question_id: str, asked: str, asks: str) -> None:
        super().__init__(
            f"Question {question_id} was {asked}, and is {asks} now: an answer to the first is none to the second. "
            "Give the other question another key, or ask anew with reask()"
        )
        self.question_id, self.asked, self.asks = question_id, asked, asks


class AnswerRefusedError(GraflowError):
    """A question takes this answer no more: somebody was first, or it was withdrawn or has expired.

    Attributes:
        question_id: The question.
        state: What it is: `"answered"`, `"defaulted"`, `"expired"`, `"withdrawn"`; `"open"` where a vote stands.
        by: Who settled it, or voted.
        at: When, seconds since the epoch.
        via: By what way: `"link"`, `"rest"`, `"cli"`, `"page"`, `"python"`.
    """

    def __init__(self, question_id: str, state: str, by: str, at: float | None, via: str) -> None:
        how = {
            "answered": f"was answered by {by} ({via})",
            "defaulted": "has its default, since its deadline is over",
            "expired": "has expired",
            "withdrawn": f"was withdrawn by {by}",
        }.get(state, f"has an answer of {by} already ({via})")
        super().__init__(f"Question {question_id} {how}; it takes no other answer")
        self.question_id, self.state, self.by, self.at, self.via = question_id, state, by, at, via


class NotAskedError(GraflowError):
    """Whoever answers is not among those who are asked, or cannot show who they are."""


class AnswerInvalidError(GraflowError, ValueError):
    """An answer is not of the type that was asked for.

    Attributes:
        errors: What is wrong, each with its place.
    """

    def __init__(self, question_id: str, errors: Sequence[str]) -> None:
        super().__init__(f"The answer to question {question_id} does not fit: {'; '.join(errors)}")
        self.question_id, self.errors = question_id, list(errors)
