"""`FeedbackBackend`: where questions and answers are kept."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from graflow.hitl.checks import check_answer
from graflow.hitl.types import ANSWERABLE, FeedbackRequest, FeedbackResponse

_REVISING: Final = threading.RLock()
_MANY: Final = 1_000_000


@dataclass(frozen=True)
class Revision:
    """What a question is to become, and its answer when it gets one now."""

    request: FeedbackRequest
    response: FeedbackResponse | None = None


Decide = Callable[[FeedbackRequest | None, FeedbackResponse | None], Revision | None]
"""Given a question and its answer as they stand (None: there is none), what is to be stored, or None for nothing."""


class FeedbackBackend(ABC):
    """Keeps questions and answers by id.

    A subclass has to have the six abstract methods. Where several processes answer, it also has `revise`, which is
    atomic between the threads of one process only, as it is here.
    """

    @abstractmethod
    def store_request(self, request: FeedbackRequest) -> None:
        """Write a question as it is given."""

    @abstractmethod
    def get_request(self, feedback_id: str) -> FeedbackRequest | None:
        """A question; None when it is unknown."""

    @abstractmethod
    def store_response(self, response: FeedbackResponse) -> None:
        """Write an answer as it is given."""

    @abstractmethod
    def get_response(self, feedback_id: str) -> FeedbackResponse | None:
        """The answer to a question; None when there is none."""

    @abstractmethod
    def list_pending_requests(self, session_id: str | None = None) -> list[FeedbackRequest]:
        """The questions in status `pending`, of all sessions or of one, the newest first."""

    @abstractmethod
    def list_requests(self, session_id: str | None = None, n_recent: int = 100) -> list[FeedbackRequest]:
        """Up to `n_recent` questions of any status, the newest first."""

    def list_answerable_requests(self, session_id: str | None = None) -> list[FeedbackRequest]:
        """The questions that take an answer, be it that nobody waits in place; the newest first."""
        return [each for each in self.list_requests(session_id, _MANY) if each.status in ANSWERABLE]

    def revise(self, feedback_id: str, decide: Decide) -> FeedbackRequest | None:
        """Change a question by what stands there, in one atomic step.

        Args:
            feedback_id: The question, which need not be there.
            decide: Says what it becomes; it may be asked again when others were faster.

        Returns:
            The question as it stands afterwards.
        """
        with _REVISING:
            request = self.get_request(feedback_id)
            revision = decide(request, self.get_response(feedback_id))
            if revision is None:
                return request
            if revision.response is not None:
                self.store_response(revision.response)
            self.store_request(revision.request)
            return revision.request

    def answer(self, response: FeedbackResponse) -> tuple[FeedbackRequest | None, bool]:
        """Settle a question with an answer, unless it is unknown or settled.

        Returns:
            The question as it stands afterwards, and whether this answer is the one that counts.

        Raises:
            FeedbackAnswerError: The answer does not fit the question.
        """
        is_first = False

        def decide(held: FeedbackRequest | None, answer: FeedbackResponse | None) -> Revision | None:
            nonlocal is_first
            is_first = held is not None and answer is None and held.status in ANSWERABLE
            if held is None or not is_first:
                return None
            check_answer(held, response)
            return Revision(held.model_copy(update={"status": "completed"}), response)

        return self.revise(response.feedback_id, decide), is_first

    def place(self) -> Mapping[str, Any] | None:
        """What another process needs to keep its questions here, as `backend` and its settings; None: it cannot."""
        return None

    def publish(self, feedback_id: str) -> None:  # noqa: B027 - optional to override
        """Hint to whoever waits elsewhere that a question has changed; a hint may get lost."""

    def start_listener(self, feedback_id: str, event: threading.Event) -> threading.Thread | None:  # noqa: ARG002
        """Set an event at each hint; the thread that does so, or None where there are no hints."""
        return None

    def close(self) -> None:  # noqa: B027 - optional to override
        """Let go of connections."""


class IndexedFeedbackBackend(FeedbackBackend):
    """One that finds the questions that take an answer without reading the others."""

    @abstractmethod
    def list_answerable_requests(self, session_id: str | None = None) -> list[FeedbackRequest]:
        """The questions that take an answer, be it that nobody waits in place; the newest first."""

    def list_pending_requests(self, session_id: str | None = None) -> list[FeedbackRequest]:
        return [request for request in self.list_answerable_requests(session_id) if request.status == "pending"]


def newest_first(requests: list[FeedbackRequest]) -> list[FeedbackRequest]:
    """The same, in the order in which lists show them."""
    return sorted(requests, key=lambda request: request.created_at, reverse=True)
