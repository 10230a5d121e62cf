"""What may be asked of the questions of recorded flows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Final

from graflow.exceptions import ConfigError, NotAskedError, SignatureError
from graflow.flows.running.driving import Driver
from graflow.flows.waiting.feedback import FlowFeedbackBackend
from graflow.given import page_size
from graflow.hitl.manager import FeedbackManager
from graflow.ids import uuid7
from graflow.questions.asks import check_people
from graflow.questions.drafts import Ballot, whole_lines
from graflow.questions.links import Link, claimed_link, link_of, link_token, signed_link
from graflow.questions.models import Question, WaitKind
from graflow.signing import SigningKeys
from graflow.state.questions import LISTED, QuestionQuery
from graflow.state.store import StateStore

LINK_LIFE: Final = 30 * 86400.0
"""Seconds for which a link to a question without a deadline holds."""

_STATES: Final = {"open": True, "settled": False, None: None}


class QuestionList(list[Question]):
    """One page of questions, newest first.

    Attributes:
        next_cursor: Gives the next page; None on the last one.
    """

    def __init__(self, items: Sequence[Question], next_cursor: str | None = None) -> None:
        super().__init__(items)
        self.next_cursor = next_cursor


class Questioning(ABC):
    """The part of a runner that lists the questions of flows, and answers them."""

    store: StateStore
    _driver: Driver

    @abstractmethod
    def _open(self) -> None:
        """Connect, unless that is done."""

    def questions(
        self,
        state: str | None = "open",
        of: str | None = None,
        *,
        flow_id: str | None = None,
        roles: Sequence[str] = (),
        cursor: str | None = None,
        limit: int = 50,
    ) -> QuestionList:
        """Questions to people, newest first.

        Args:
            state: `"open"`, `"settled"`, or None for both.
            of: Those that this person may answer.
            flow_id: Those of this flow.
            roles: Of the person.
            cursor: `next_cursor` of the page before.
            limit: At most so many, up to 200.

        Raises:
            InvalidCursorError: The cursor is none of this list's.
        """
        if not isinstance(state, str | None) or state not in _STATES:
            raise ConfigError(f'state is "open", "settled" or None, not {state!r}')
        self._open()
        found: list[Question] = []
        limit = page_size(limit, LISTED)
        while True:
            query = QuestionQuery(flow_id, is_open=_STATES[state], cursor=cursor, limit=limit - len(found))
            page = self.store.list_questions(query)
            found += [
                question
                for question in map(Question.of_row, page)
                if question.kind is WaitKind.ASK and (of is None or question.asks(of, frozenset(roles)))
            ]
            cursor = page.next_cursor
            if cursor is None or len(found) >= limit:
                return QuestionList(found, cursor)

    def question(self, question_id: str) -> Question:
        """One question.

        Raises:
            QuestionNotFoundError: There is none of this id.
        """
        self._open()
        return self._driver.questions.question(question_id)

    def view(self, question_id: str, by: str, *, via: str = "python", verified: bool = True) -> Question:
        """One question for a person who looks at it: its log tells of the first time.

        Raises:
            QuestionNotFoundError: There is none of this id.
        """
        self._open()
        return self._driver.questions.view(question_id, by, via, verified=verified)

    def answer(
        self,
        question_id: str,
        value: Any,
        by: str,
        reason: str | None = None,
        *,
        roles: Sequence[str] = (),
        via: str = "python",
        verified: bool = True,
        token: str | None = None,
    ) -> Question:
        """Answer a question on behalf of a person; its flow goes on by itself when that settles it.

        The same answer of the same person again changes nothing, and is no error.

        Args:
            question_id: The question.
            value: Plain JSON of the type that was asked for.
            by: Who answers.
            reason: Their words.
            roles: Of the person.
            via: By what way, for the log.
            verified: Whether somebody has made sure that it is they; others are refused where several are needed.
            token: A name for this call, under which it may come again.

        Returns:
            The question afterwards; it is still open when more people have to answer.

        Raises:
            QuestionNotFoundError: There is none of this id.
            NotAskedError: It is not asked of them.
            AnswerInvalidError: The answer is not of the type.
            AnswerRefusedError: Somebody was first, or it is asked no more; tells who, when and by what way.
        """
        self._open()
        ballot = Ballot(by, value, reason, via, frozenset(roles), verified, token)
        question, _ = self._driver.questions.answer(question_id, ballot)
        return question

    def withdraw(self, question_id: str, reason: str = "", *, by: str = "python", via: str = "python") -> Question:
        """Take a question back: its step gets `QuestionWithdrawnError`.

        Raises:
            QuestionNotFoundError: There is none of this id.
            AnswerRefusedError: It is settled.
        """
        self._open()
        return self._driver.questions.withdraw(question_id, by, reason, via)

    def remind(self, question_id: str, *, by: str = "python", via: str = "python") -> Question:
        """Have the channels of an open question told once more."""
        self._open()
        return self._driver.questions.remind(question_id, by, via)

    def reassign(
        self, question_id: str, of: Sequence[str], reason: str = "", *, by: str = "python", via: str = "python"
    ) -> Question:
        """Ask other people instead; answers of those who are not asked any more do not count.

        Raises:
            QuestionNotFoundError: There is none of this id.
            AnswerRefusedError: It is settled.
            ConfigError: These people cannot be asked, or are too few.
        """
        check_people("of", of)
        self._open()
        return self._driver.questions.reassign(question_id, of, by, reason, via)

    def audit(self, question_id: str) -> list[dict[str, Any]]:
        """The log of a question: what happened to it, when, by whom and by what way; each line has the digest before.

        Raises:
            QuestionNotFoundError: There is none of this id.
        """
        self.question(question_id)
        return whole_lines(question_id, self.store.question_lines(question_id))

    def signal(
        self,
        flow_id: str,
        name: str,
        value: Any = None,
        *,
        id: str | None = None,  # noqa: A002 - as everybody who has such events calls it
        by: str = "python",
    ) -> bool:
        """Tell a flow of something; a step gets it by `context.wait_for(name)`, also one that waits later.

        Args:
            flow_id: The flow.
            name: Of the signal.
            value: Plain JSON.
            id: Of the signal; makes the call idempotent.
            by: Who tells.

        Returns:
            Whether it had not come before.

        Raises:
            FlowNotFoundError: There is no such flow.
            FlowConflictError: It has ended.
        """
        self._open()
        return self._driver.questions.mailboxes.signal(flow_id, name, value, id or uuid7(), by)

    def feedback_manager(self, *, via: str = "python", verified: bool = True) -> FeedbackManager:
        """What lists and answers the questions of flows as those of plain workflows are, `request_feedback` or `ask`.

        Args:
            via: By what way answers come, for the logs of questions.
            verified: Whether somebody has made sure that `responded_by` of an answer is who has answered.
        """

        def opened() -> StateStore:
            self._open()
            return self.store

        return FeedbackManager(FlowFeedbackBackend(opened, self._driver.questions, via, verified=verified))

    # -- links ---------------------------------------------------------------------------------------------------------

    def answer_link(self, question_id: str, for_: str) -> str:
        """The path of a link with which one person may answer one question, without any other login.

        It is signed with the keys of this process, holds until the deadline (30 days when there is none), and is of no
        use once the question is settled. Whoever has it may answer: give it to that person alone.

        Raises:
            QuestionNotFoundError: There is none of this id.
            NotAskedError: It is not asked of them.
        """
        question = self.question(question_id)
        roles = () if question.asks(for_) else tuple(question.roles)
        if not question.asks(for_, frozenset(roles)):
            raise NotAskedError(f"Question {question_id} is not asked of {for_}, but of {', '.join(question.of)}")
        until = question.deadline or self.store.now() + LINK_LIFE
        return f"/answer/{link_token(_keys(), Link(question.id, for_, until, roles))}"

    def linked(self, token: str) -> tuple[Question, Link]:
        """The question that a link is for, and what the link says; the log of the question tells of one that fails.

        Raises:
            SignatureError: It was not made with keys of this process, or its time is over.
            QuestionNotFoundError: The question is gone.
        """
        self._open()
        try:
            link = link_of(_keys(), token, self.store.now())
        except SignatureError:
            self._note_misuse(token)
            raise
        return self.question(link.question_id), link

    def _note_misuse(self, token: str) -> None:
        claimed = claimed_link(token)
        if claimed is None:
            return
        try:
            signed_link(_keys(), token)
        except SignatureError:
            why = "forged link"
        else:
            why = "expired link"
        self._driver.questions.misuse(claimed.question_id, claimed.person, why)


def _keys() -> SigningKeys:
    return SigningKeys.from_environment() or SigningKeys.user()
