"""What comes of waits for whoever waited: values, or errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from graflow.exceptions import QuestionExpiredError, QuestionWithdrawnError
from graflow.questions.asks import Wait
from graflow.questions.models import Question, QuestionState, Vote

_GIVEN = frozenset({QuestionState.ANSWERED, QuestionState.DEFAULTED})


@dataclass(frozen=True)
class Approval:
    """Whether something may be done; it counts as true when it may.

    Attributes:
        id: Of the question: a name for what is done because of it, the same each time.
        approved: Whether enough people said yes.
        reason: The last words about it.
        votes: What each of them said.
    """

    id: str
    approved: bool
    reason: str | None = None
    votes: tuple[Vote, ...] = ()

    def __bool__(self) -> bool:
        return self.approved

    @classmethod
    def of(cls, question: Question) -> Approval:
        """What a settled question has come to."""
        return cls(question.id, question.value is True, question.reason, tuple(question.votes))


@dataclass(frozen=True)
class Winner:
    """Which of several waits came first.

    Attributes:
        place: Its place among them, from 0.
        value: What it gave; None for a time.
    """

    place: int
    value: Any


def value_of(wait: Wait, question: Question) -> Any:
    """What a settled wait gives.

    Raises:
        QuestionExpiredError: Nobody answered in time.
        QuestionWithdrawnError: It was taken back.
        AnswerInvalidError: The answer is not of the asker's type.
    """
    if question.state in _GIVEN:
        return wait.read(question)
    if question.state is QuestionState.EXPIRED:
        raise QuestionExpiredError(question.id, question.prompt)
    raise QuestionWithdrawnError(question.id, question.settled_by or "", question.reason or "")


def winner_of(waits: Sequence[Wait], questions: Sequence[Question]) -> Winner:
    """The one of several waits that was settled first.

    Raises:
        QuestionExpiredError: That was a deadline.
        QuestionWithdrawnError: All were taken back.
    """
    for place, (wait, question) in enumerate(zip(waits, questions, strict=True)):
        if question.state is not QuestionState.WITHDRAWN:
            return Winner(place, value_of(wait, question))
    return Winner(0, value_of(waits[0], questions[0]))
