"""What a question may be, and which answers fit it."""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final

from graflow.exceptions import ConfigError
from graflow.exceptions.feedback import FeedbackAnswerError
from graflow.hitl.types import FIELD_OF, FeedbackRequest, FeedbackResponse, FeedbackType

LONGEST_PROMPT: Final = 16 * 1024  # bytes
LONGEST_ANSWER: Final = 256 * 1024
LONGEST_METADATA: Final = 256 * 1024
MOST_OPTIONS: Final = 100
LONGEST_NAME: Final = 200  # characters

_ID: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
_SELECTIONS: Final = (FeedbackType.SELECTION, FeedbackType.MULTI_SELECTION)


def is_id(text: str) -> bool:
    """Whether a text can be the id of a question: it is also the name of a file."""
    return _ID.fullmatch(text) is not None


def check_question(request: FeedbackRequest) -> None:
    """Refuse a question that cannot be asked.

    Raises:
        ConfigError: Naming what is wrong.
    """
    if not is_id(request.feedback_id):
        raise ConfigError(
            f"feedback_id {request.feedback_id!r} cannot be used: it is up to 200 letters, digits, '_', '-' and '.', "
            "and begins with none of the last two"
        )
    if _size(request.prompt) > LONGEST_PROMPT:
        raise ConfigError(f"The prompt of a question is at most {LONGEST_PROMPT} bytes, not {_size(request.prompt)}")
    if not math.isfinite(request.timeout) or request.timeout < 0:
        raise ConfigError(f"timeout= of a question is a number of seconds from 0, not {request.timeout!r}")
    options = request.options or []
    if len(options) > MOST_OPTIONS or sum(map(_size, options)) > LONGEST_ANSWER:
        raise ConfigError(f"A question has at most {MOST_OPTIONS} options, of {LONGEST_ANSWER} bytes in all")
    if request.feedback_type in _SELECTIONS and request.options is not None and not options:
        raise ConfigError("A selection needs options to select from")
    if request.write_to_channel and not request.channel_key:
        raise ConfigError("write_to_channel=True needs a channel_key")
    if len(_json(request.metadata, "The metadata of a question")) > LONGEST_METADATA:
        raise ConfigError(f"The metadata of a question is at most {LONGEST_METADATA} bytes of JSON")


def check_answer(request: FeedbackRequest, response: FeedbackResponse) -> None:
    """Refuse an answer that does not fit.

    Raises:
        FeedbackAnswerError: Naming the field.
    """
    kind = request.feedback_type
    if response.response_type is not kind:
        raise FeedbackAnswerError("response_type", f"is {response.response_type.value}; {kind.value} was asked for")
    field, value = FIELD_OF[kind], response.value
    if value is None:
        raise FeedbackAnswerError(field, f"is missing; it is what answers a question of type {kind.value}")
    if kind in _SELECTIONS:
        _check_selected(field, [value] if kind is FeedbackType.SELECTION else value, request.options)
    if len(_json(value, f"The answer's {field}")) > LONGEST_ANSWER:
        raise FeedbackAnswerError(field, f"is longer than {LONGEST_ANSWER} bytes")
    if _size(response.reason or "") > LONGEST_PROMPT:
        raise FeedbackAnswerError("reason", f"is longer than {LONGEST_PROMPT} bytes")
    if len(response.responded_by or "") > LONGEST_NAME:
        raise FeedbackAnswerError("responded_by", f"is longer than {LONGEST_NAME} characters")


def _check_selected(field: str, selected: list[str], options: list[str] | None) -> None:
    if options is None:
        return
    for option in selected:
        if option not in options:
            offered = ", ".join(repr(known) for known in options[:10])
            raise FeedbackAnswerError(field, f"holds {option[:LONGEST_NAME]!r}, which is none of {offered}")
    if len(set(selected)) < len(selected):
        raise FeedbackAnswerError(field, "holds an option twice")


def _size(text: str) -> int:
    return len(text.encode(errors="replace"))


def _json(value: Any, what: str) -> str:
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"{what} cannot be kept as JSON: {error}") from error
