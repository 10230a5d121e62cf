"""Human in the loop: tasks ask people, and go on with their answers; what flows ask is in `graflow.questions`."""

from __future__ import annotations

import importlib
from typing import Any

from graflow.exceptions.feedback import FeedbackAnswerError, FeedbackCancelledError
from graflow.hitl.backend.base import FeedbackBackend
from graflow.hitl.handler import FeedbackHandler, SlackFeedbackHandler, WebhookFeedbackHandler
from graflow.hitl.manager import FeedbackManager
from graflow.hitl.types import FeedbackRequest, FeedbackResponse, FeedbackTimeoutError, FeedbackType
from graflow.questions.outcomes import Approval

__all__ = [
    "Approval",
    "FeedbackAnswerError",
    "FeedbackBackend",
    "FeedbackCancelledError",
    "FeedbackHandler",
    "FeedbackManager",
    "FeedbackRequest",
    "FeedbackResponse",
    "FeedbackTimeoutError",
    "FeedbackType",
    "SlackFeedbackHandler",
    "WebhookFeedbackHandler",
    "question",
]


def __getattr__(name: str) -> Any:
    if name == "question":  # a node, which stands on a higher floor than what tasks ask by
        return importlib.import_module("graflow.core.decorators").question
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
