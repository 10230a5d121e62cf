"""`request_feedback` where a store of flows keeps the questions, as it keeps those of `context.ask`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from graflow.hitl.checks import check_question
from graflow.hitl.types import FIELD_OF, FeedbackRequest, FeedbackResponse, FeedbackType
from graflow.questions.asks import Ask, Place
from graflow.questions.models import Feedback, Question, QuestionState, iso

SOMEBODY = "somebody"
"""Who has answered, where nobody said who."""

_TEXT = {"type": "string"}


@dataclass(frozen=True)
class FeedbackAsk(Ask):
    """The question of `request_feedback`, for which its step waits so long, and which is answered afterwards as well.

    Args:
        request: The question; its id and its times are given to it when it is asked.
    """

    request: FeedbackRequest = field(kw_only=True)

    @classmethod
    def asking(cls, request: FeedbackRequest, key: str, hold: float) -> FeedbackAsk:
        """What asks it, under a key of its step, after so many seconds in place.

        Raises:
            ConfigError: It cannot be asked as it is.
        """
        check_question(request)
        return cls(request.prompt, _schema_of(request), request=request, key=key, hold=hold)

    def draft(self, place: Place, number: int, at: float) -> Question:
        asked, made = self.request, super().draft(place, number, at)
        feedback = Feedback(
            task_id=asked.task_id,
            session_id=asked.session_id,
            type=asked.feedback_type.value,
            options=asked.options,
            metadata=asked.metadata,
            timeout=asked.timeout,
            channel_key=asked.channel_key,
            write_to_channel=asked.write_to_channel,
        )
        return made.model_copy(update={"patience": at + asked.timeout, "feedback": feedback})


def request_of(question: Question, at: float) -> FeedbackRequest:
    """A question as `FeedbackManager` shows it, also one that was asked otherwise."""
    said = question.feedback or _feedback_of(question)
    return FeedbackRequest(
        feedback_id=question.id,
        task_id=said.task_id,
        session_id=said.session_id,
        feedback_type=FeedbackType(said.type),
        prompt=question.prompt,
        options=said.options,
        metadata=said.metadata,
        created_at=iso(question.asked_at) or "",
        timeout=said.timeout,
        status=_status_of(question, at),
        channel_key=said.channel_key,
        write_to_channel=said.write_to_channel,
    )


def response_of(question: Question) -> FeedbackResponse | None:
    """The answer to a question as `FeedbackManager` shows it; None where there is none."""
    if question.state not in {QuestionState.ANSWERED, QuestionState.DEFAULTED}:
        return None
    kind = FeedbackType((question.feedback or _feedback_of(question)).type)
    return FeedbackResponse(
        feedback_id=question.id,
        response_type=kind,
        reason=question.reason,
        responded_at=iso(question.settled_at) or "",
        responded_by=None if question.settled_by == SOMEBODY else question.settled_by,
        **{FIELD_OF[kind]: question.value},
    )


def _schema_of(request: FeedbackRequest) -> dict[str, Any]:
    option = _TEXT if request.options is None else {**_TEXT, "enum": request.options}
    match request.feedback_type:
        case FeedbackType.APPROVAL:
            return {"type": "boolean"}
        case FeedbackType.TEXT:
            return dict(_TEXT)
        case FeedbackType.SELECTION:
            return option
        case FeedbackType.MULTI_SELECTION:
            return {"type": "array", "items": option, "uniqueItems": True}
        case FeedbackType.CUSTOM:
            return {}


def _feedback_of(question: Question) -> Feedback:
    """What `request_feedback` would have said of a question that was asked by `ask`."""
    schema = question.answer_schema
    options = schema.get("enum") if schema.get("type") == "string" else None
    kind = FeedbackType.CUSTOM
    if question.needs == 1 or question.is_boolean:
        kind = {"boolean": FeedbackType.APPROVAL, "string": FeedbackType.TEXT}.get(str(schema.get("type")), kind)
    if options is not None and kind is FeedbackType.TEXT:
        kind = FeedbackType.SELECTION
    waits = max((question.deadline or question.asked_at) - question.asked_at, 0.0)
    return Feedback(task_id=question.step, session_id=question.flow_id, type=kind.value, options=options, timeout=waits)


def _status_of(question: Question, at: float) -> str:
    if not question.is_open:
        return "cancelled" if response_of(question) is None else "completed"
    is_left = question.feedback is not None and not (question.patience is not None and question.is_awaited(at))
    return "timeout" if is_left else "pending"
