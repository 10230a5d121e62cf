"""Bodies of the REST interface for questions."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel


class FeedbackResponseRequest(BaseModel):
    """An answer; the kind of the question says which field is needed."""

    approved: bool | None = None
    reason: str | None = None
    text: str | None = None
    selected: str | None = None
    selected_multiple: list[str] | None = None
    custom_data: Any = None
    responded_by: str | None = None


class FeedbackRequestResponse(BaseModel):
    """A question."""

    feedback_id: str
    task_id: str
    session_id: str
    feedback_type: str
    prompt: str
    options: list[str] | None
    metadata: dict[str, Any]
    created_at: str
    timeout: float
    status: str
    channel_key: str | None
    write_to_channel: bool


class FeedbackResponseDetails(BaseModel):
    """An answer as it is stored."""

    feedback_id: str
    response_type: str
    approved: bool | None
    reason: str | None
    text: str | None
    selected: str | None
    selected_multiple: list[str] | None
    custom_data: Any
    responded_at: str
    responded_by: str | None


class FeedbackDetailResponse(BaseModel):
    """A question with its answer, if there is one."""

    request: FeedbackRequestResponse
    response: FeedbackResponseDetails | None = None


class MessageResponse(BaseModel):
    """What has been done."""

    message: str
    feedback_id: str | None = None


class PendingFeedbackListResponse(BaseModel):
    """Questions that somebody waits for in place, the newest first."""

    count: int
    requests: list[FeedbackRequestResponse]
