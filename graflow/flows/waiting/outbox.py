"""Tells channels of questions: each notice once, unless a process dies between telling a channel and noting that."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from graflow.exceptions import ConfigError, named
from graflow.foreign import attempt
from graflow.hitl.durable import request_of, response_of
from graflow.hitl.handler import NOTICE, FeedbackHandler
from graflow.questions import notices
from graflow.questions.drafts import Draft
from graflow.questions.models import Notice, Question
from graflow.text.shown import get_logger

_log = get_logger(__name__)

Notify = Callable[[Notice, Question], object]

Channel = Notify | FeedbackHandler
"""What is told of questions; what it raises is tried again."""

Change = Callable[[str, Callable[..., Draft]], Draft]
"""Decides on a question and writes that."""


class Outbox:
    """Delivers the notices of questions to the channels that this process has.

    Args:
        channels: By name: what is called with a notice and its question, or a handler with the three methods.
        now: The time by which notices are due.
        change: Writes what changes nothing for whoever waits.

    Raises:
        ConfigError: A channel is neither.
    """

    def __init__(self, channels: Mapping[str, Channel], now: Callable[[], float], change: Change) -> None:
        self._channels = {name: _notify_of(name, channel) for name, channel in channels.items()}
        self._now = now
        self._change = change

    def deliver(self, question: Question) -> None:
        """Tell of a question what is due."""
        now = self._now()
        for notice in question.notices:
            if notice.due is None or notice.due > now:
                continue
            notify = self._channels.get(notice.to)
            if notify is None:
                self._change(question.id, partial(notices.put_off, notice_id=notice.id))
                continue
            begun = self._change(question.id, partial(notices.begun, notice_id=notice.id))
            claimed = notices.to_tell(begun, notice.id)
            if claimed is None:
                continue
            error = _error_of(notify, claimed, begun.question)
            self._change(question.id, partial(notices.delivered, notice_id=notice.id, error=error))


def _error_of(notify: Notify, notice: Notice, question: Question) -> str | None:
    """What a channel raises when it is told."""

    def tell() -> None:
        notify(notice, question)

    def untold(raised: Exception) -> str:
        _log.warning("Channel %s was not told of question %s: %s", notice.to, question.id, named(raised))
        return named(raised)

    return attempt(tell, untold)


def _notify_of(name: str, channel: Any) -> Notify:
    if callable(channel):
        return channel  # type: ignore[no-any-return]  # the user says what it takes
    if hasattr(channel, "on_request_created"):
        return partial(_tell_handler, channel)
    raise ConfigError(f"Channel {name!r} is a function of a notice and its question, or a handler, not {channel!r}")


def _tell_handler(handler: Any, notice: Notice, question: Question) -> None:
    """Tell a handler by one of its three methods; the metadata of what it gets names the notice."""
    request = request_of(question, question.asked_at)
    request.metadata = {**request.metadata, NOTICE: notice.id}
    if notice.kind != "settled":
        handler.on_request_created(request)
    elif (response := response_of(question)) is not None:
        handler.on_response_received(request, response)
