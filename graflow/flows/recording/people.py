"""What steps and members of a flow ask people by `request_feedback`, as questions that the store of the flow keeps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic, sleep
from typing import Any, Final

from graflow.flows.recording.calls import LONGEST_NAP, NAP, Calls, Questions, Recorder
from graflow.flows.recording.stopping import FlowSuspended
from graflow.hitl.durable import FeedbackAsk, request_of, response_of
from graflow.hitl.handler import tell
from graflow.hitl.manager import FeedbackManager
from graflow.hitl.types import FeedbackCancelledError, FeedbackResponse, FeedbackTimeoutError
from graflow.questions.models import Question, wake_time

_MARK: Final = "feedback"
_BESIDE: Final = "beside"  # what members on workers have asked, which do not reach the store

Manager = Callable[[], FeedbackManager]
"""Gives the manager by which members on workers ask."""


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
        self._beside = {told["feedback_id"]: told["question"] for told in calls.noted_as(_BESIDE)}

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

    def can_await(self, ids: Sequence[str], manager: Manager) -> bool:
        """Whether the store keeps these questions, or can: those of members on workers are known to the manager."""
        kept = {question.id for question in self._questions.read(ids)}
        return all(each in kept or manager().get_request(each) is not None for each in ids)

    def await_people(self, ids: Sequence[str], manager: Manager) -> None:
        """Have the step that runs wait until these are answered, however long that takes.

        Raises:
            FlowSuspended: Always.
        """
        kept = [self._kept(each, manager) for each in ids]
        for question in self._questions.read(kept):
            self._note(self._keys[question.id], question, is_over=False)
        self._suspend(self._questions.await_for_ever(kept))

    def hand_over(self, manager: Manager) -> None:
        """Give members on workers what was answered to their questions, before they run again and ask for it."""
        for feedback_id, question_id in self._beside.items():
            for question in self._questions.read([question_id]):
                if question.is_open or question.taken_at is not None:
                    continue
                response = response_of(question)
                if response is None:
                    manager().cancel_request(feedback_id)
                else:
                    manager().provide_feedback(feedback_id, response)
                self._questions.take([question], self._recorder.attempt)

    def _kept(self, feedback_id: str, manager: Manager) -> str:
        """The id under which the store keeps a question; one of a member on a worker is asked here as well."""
        request = None if self._questions.read([feedback_id]) else manager().get_request(feedback_id)
        if request is None:
            return feedback_id
        step, visit, _ = self._recorder.position()
        key, name = f"{self._calls.flow_id}/{step}/{visit}", f"{_BESIDE} {feedback_id}"
        wait = FeedbackAsk.asking(request, name, 0.0)
        (question,) = self._questions.ask([wait], [self._calls.place(key, name)], any_of=False)
        self._keys[question.id] = key
        if feedback_id not in self._beside:
            self._beside[feedback_id] = question.id
            self._calls.note(key, name, {"call": _BESIDE, "feedback_id": feedback_id, "question": question.id})
        return question.id

    def _suspend(self, questions: Sequence[Question]) -> None:
        ids = [question.id for question in questions]
        suspended = FlowSuspended(f"waits for {', '.join(ids)}", wake_time(questions), asks=ids)
        self._recorder.suspend(suspended)
        raise suspended

    def _note(self, key: str, question: Question, *, is_over: bool) -> None:
        self._calls.note(key, f"{_MARK} {question.id}", {"call": _MARK, "is_over": is_over})
