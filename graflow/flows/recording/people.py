"""What steps and members of a flow ask people by `request_feedback`, as questions that the store of the flow keeps."""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic, sleep
from typing import Any, Final

from graflow.flows.recording.calls import LONGEST_NAP, NAP, Calls, Questions, Recorder
from graflow.flows.recording.stopping import FlowSuspended
from graflow.hitl.durable import FeedbackAsk, request_of, response_of
from graflow.hitl.handler import tell
from graflow.hitl.types import FeedbackCancelledError, FeedbackResponse, FeedbackTimeoutError
from graflow.questions.models import Question, wake_time

_MARK: Final = "feedback"


class People:
    """Asks people on behalf of one execution of a flow.

    Whoever asks waits in place for a moment, then the flow is put away. It goes on with the answer, or when the time
    for which the task waits is over. That is recorded, so that a task which catches the time-out does the same when it
    starts again; where it does not catch it, the flow waits for the answer after all.

    Args:
        recorder: Writes the flow down.
        questions: Puts questions to people.
        calls: What the steps of the flow have asked for.
    """

    def __init__(self, recorder: Recorder, questions: Questions, calls: Calls) -> None:
        self._recorder = recorder
        self._questions = questions
        self._calls = calls
        self._keys: dict[str, str] = {}  # of whoever asked, by question

    def ask_people(self, key: str, wait: FeedbackAsk, handler: Any, *, in_place: bool) -> FeedbackResponse:
        """The answer to a question.

        Args:
            key: Of the step or member that asks.
            wait: The question.
            handler: Told of question, answer and time-out, once each unless this process dies meanwhile.
            in_place: Whether this thread waits, as a member of a group cannot put the flow away.

        Raises:
            FeedbackTimeoutError: Nobody has answered in time.
            FeedbackCancelledError: The question was withdrawn.
            FlowStopped: The flow is put away, or stops.
        """
        (question,) = self._questions.ask([wait], [self._calls.place(key, str(wait.key))], any_of=False)
        self._keys[question.id] = key
        known = self._calls.noted(key, f"{_MARK} {question.id}")
        if known is None:
            tell(handler, "on_request_created", request_of(question, self._recorder.now()))
            self._note(key, question, is_over=False)
        elif known["is_over"]:
            raise FeedbackTimeoutError(question.id, wait.request.timeout)
        question = self._settled(key, question, wait, handler, in_place=in_place)
        response = response_of(question)
        if response is None:
            raise FeedbackCancelledError(question.id)
        if question.taken_at is None:
            tell(handler, "on_response_received", request_of(question, self._recorder.now()), response)
            self._questions.take([question], self._recorder.attempt)
        return response

    def _settled(self, key: str, question: Question, wait: FeedbackAsk, handler: Any, *, in_place: bool) -> Question:
        hold, nap = monotonic() + wait.hold, NAP
        while question.is_open:
            is_over = not question.is_awaited(self._recorder.now())
            if is_over or (in_place and question.patience is None):
                self._note(key, question, is_over=True)
                tell(handler, "on_request_timeout", request_of(question, self._recorder.now()))
                raise FeedbackTimeoutError(question.id, wait.request.timeout)
            if not in_place and monotonic() >= hold:
                self._suspend([question])
            sleep(nap)
            nap = min(2 * nap, LONGEST_NAP)
            self._recorder.check()
            (question,) = self._questions.read([question.id])
        return question

    def has_asked(self, ids: Sequence[str]) -> bool:
        """Whether the store keeps all of these questions."""
        return len(self._questions.read(ids)) == len(set(ids))

    def await_people(self, ids: Sequence[str]) -> None:
        """Have the step that runs wait until these are answered, however long that takes.

        Raises:
            FlowSuspended: Always.
        """
        for question in self._questions.read(ids):
            self._note(self._keys[question.id], question, is_over=False)
        self._suspend(self._questions.await_for_ever(ids))

    def _suspend(self, questions: Sequence[Question]) -> None:
        ids = [question.id for question in questions]
        suspended = FlowSuspended(f"waits for {', '.join(ids)}", wake_time(questions), asks=ids)
        self._recorder.suspend(suspended)
        raise suspended

    def _note(self, key: str, question: Question, *, is_over: bool) -> None:
        self._calls.note(key, f"{_MARK} {question.id}", {"call": _MARK, "is_over": is_over})
