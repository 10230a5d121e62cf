"""The questions of flows as `FeedbackManager` sees them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from graflow.exceptions import (
    AnswerInvalidError,
    AnswerRefusedError,
    ConfigError,
    FeedbackAnswerError,
    FlowConflictError,
    NotAskedError,
    QuestionNotFoundError,
)
from graflow.flows.waiting.questions import Questions
from graflow.hitl.backend.base import Decide, IndexedFeedbackBackend
from graflow.hitl.checks import check_answer
from graflow.hitl.durable import SOMEBODY, request_of, response_of
from graflow.hitl.types import ANSWERABLE, FIELD_OF, FeedbackRequest, FeedbackResponse
from graflow.questions.drafts import Ballot
from graflow.questions.models import Question, WaitKind
from graflow.state.questions import LISTED, QuestionQuery
from graflow.state.store import StateStore


class FlowFeedbackBackend(IndexedFeedbackBackend):
    """Lists and answers what steps of flows ask; it is they who ask, not whoever has this.

    Args:
        store: The flows.
        questions: Their questions.
        via: By what way answers come, for the logs of questions.
        verified: Whether somebody has made sure that `responded_by` of an answer is who has answered.
    """

    def __init__(self, store: Callable[[], StateStore], questions: Questions, via: str, *, verified: bool) -> None:
        self._opened = store
        self._questions = questions
        self._via = via
        self._verified = verified

    def store_request(self, request: FeedbackRequest) -> None:
        raise ConfigError(f"Question {request.feedback_id} cannot be written: steps of flows ask, by request_feedback")

    def get_request(self, feedback_id: str) -> FeedbackRequest | None:
        found = self._find(feedback_id)
        return None if found is None else request_of(found, self._opened().now())

    def store_response(self, response: FeedbackResponse) -> None:
        self._count(response)

    def answer(self, response: FeedbackResponse) -> tuple[FeedbackRequest | None, bool]:
        request = self.get_request(response.feedback_id)
        if request is None:
            return None, False
        if request.status in ANSWERABLE:
            try:
                check_answer(request, response)
            except FeedbackAnswerError as error:
                self._questions.refuse(response.feedback_id, self._ballot(response), error)
                raise
        try:
            is_first = self._count(response)
        except (AnswerRefusedError, FlowConflictError):
            is_first = False
        return self.get_request(response.feedback_id), is_first

    def _count(self, response: FeedbackResponse) -> bool:
        """Whether an answer was counted now."""
        try:
            _, is_replay = self._questions.answer(response.feedback_id, self._ballot(response))
        except NotAskedError as error:
            raise FeedbackAnswerError("responded_by", f"may not answer: {error}") from error
        except AnswerInvalidError as error:
            raise FeedbackAnswerError(FIELD_OF[response.response_type], f"does not fit: {error}") from error
        return not is_replay

    def _ballot(self, response: FeedbackResponse) -> Ballot:
        return Ballot(
            response.responded_by or SOMEBODY,
            response.value,
            response.reason,
            self._via,
            verified=self._verified and response.responded_by is not None,
        )

    def get_response(self, feedback_id: str) -> FeedbackResponse | None:
        found = self._find(feedback_id)
        return None if found is None else response_of(found)

    def list_answerable_requests(self, session_id: str | None = None) -> list[FeedbackRequest]:
        found = self._list(is_open=True, session_id=session_id)
        return [each for each in found if each.status in ANSWERABLE]

    def list_requests(self, session_id: str | None = None, n_recent: int = 100) -> list[FeedbackRequest]:
        found: list[FeedbackRequest] = []
        for request in self._list(is_open=None, session_id=session_id):
            if len(found) >= n_recent:
                break
            found.append(request)
        return found

    def revise(self, feedback_id: str, decide: Decide) -> FeedbackRequest | None:
        while True:
            found = self._find(feedback_id)
            request = None if found is None else request_of(found, self._opened().now())
            revision = decide(request, None if found is None else response_of(found))
            if revision is None:
                return request
            try:
                if revision.request.status == "cancelled":
                    self._questions.withdraw(feedback_id, SOMEBODY, "cancelled", self._via)
                return self.get_request(feedback_id)
            except (AnswerRefusedError, FlowConflictError):
                continue  # somebody was first, or its flow has ended, which is looked at now

    def _find(self, feedback_id: str) -> Question | None:
        self._opened()
        try:
            found = self._questions.question(feedback_id)
        except QuestionNotFoundError:
            return None
        return found if found.kind is WaitKind.ASK else None

    def _list(self, *, is_open: bool | None, session_id: str | None) -> Iterator[FeedbackRequest]:
        store, cursor = self._opened(), None
        while True:
            page = store.list_questions(QuestionQuery(is_open=is_open, cursor=cursor, limit=LISTED))
            for question in map(Question.of_row, page):
                if question.kind is WaitKind.ASK:
                    request = request_of(question, store.now())
                    if session_id in {None, request.session_id, question.flow_id}:
                        yield request
            cursor = page.next_cursor
            if cursor is None:
                return
