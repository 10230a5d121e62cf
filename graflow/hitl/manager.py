"""`FeedbackManager`: asks, waits, and takes answers, over a backend that keeps them."""

from __future__ import annotations

import secrets
import string
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from graflow.exceptions import ConfigError
from graflow.foreign import attempt
from graflow.hitl.backend.base import FeedbackBackend, Revision
from graflow.hitl.backend.filesystem import FilesystemFeedbackBackend
from graflow.hitl.backend.redis import RedisFeedbackBackend
from graflow.hitl.checks import check_question
from graflow.hitl.handler import tell
from graflow.hitl.types import (
    ANSWERABLE,
    FeedbackCancelledError,
    FeedbackRequest,
    FeedbackResponse,
    FeedbackTimeoutError,
    FeedbackType,
)
from graflow.redis.config import normalize_redis_config
from graflow.text.shown import get_logger

_log = get_logger(__name__)

_SHORTEST_LOOK: Final = 0.02  # seconds between looks at a question that is waited for: first, and in the end
_LONGEST_LOOK: Final = 0.25
_ALPHABET: Final = string.ascii_letters + string.digits
RESPONSE_SUFFIX: Final = ".__feedback_response__"


def new_feedback_id() -> str:
    """16 random letters and digits; whoever knows them may answer."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(16))


class FeedbackManager:
    """Asks questions and takes answers.

    Args:
        backend: Where they are kept: a `FeedbackBackend`, `"filesystem"` or `"redis"`.
        backend_config: For files `data_dir`; for Redis any connection settings, and `expiration_days`.
        channel_manager: The channel that answers are written to, for questions that say so.

    Raises:
        ConfigError: The backend is none of these.
    """

    def __init__(
        self,
        backend: FeedbackBackend | str = "filesystem",
        backend_config: Mapping[str, Any] | None = None,
        channel_manager: Any = None,
    ) -> None:
        self._backend = _backend_of(backend, dict(backend_config or {}))
        self.channel_manager = channel_manager
        self._changed = threading.Condition()

    # -- asking ----------------------------------------------------------------------------------------------------

    def request_feedback(
        self,
        task_id: str,
        session_id: str,
        feedback_type: FeedbackType | str,
        prompt: str,
        options: list[str] | None = None,
        metadata: Mapping[str, Any] | None = None,
        timeout: float = 180.0,
        channel_key: str | None = None,
        write_to_channel: bool = False,
        feedback_id: str | None = None,
        handler: Any = None,
    ) -> FeedbackResponse:
        """Ask, and wait for the answer.

        A question that was asked under its id before is that question: it is stored, and told to the handler, once.

        Args:
            task_id: The task that asks.
            session_id: Its run, or branch.
            feedback_type: The kind of answer.
            prompt: The question.
            options: What can be selected.
            metadata: Shown with it; anything that JSON holds.
            timeout: Seconds to wait here.
            channel_key: The key of the channel that gets the bare answer; `<key>.__feedback_response__` gets all of it.
            write_to_channel: Whether they do.
            feedback_id: Its id; a new one when None.
            handler: Told of question, answer and time-out; a `FeedbackHandler`, or what has its methods.

        Raises:
            FeedbackTimeoutError: Nobody has answered; the question can still be answered.
            FeedbackCancelledError: It was cancelled.
            ConfigError: It cannot be asked as it is.
        """
        request = FeedbackRequest(
            feedback_id=feedback_id or new_feedback_id(),
            task_id=task_id,
            session_id=session_id,
            feedback_type=FeedbackType.of(feedback_type),
            prompt=prompt,
            options=options,
            metadata=dict(metadata or {}),
            timeout=timeout,
            channel_key=channel_key,
            write_to_channel=write_to_channel,
        )
        check_question(request)
        return self._ask(request, handler)

    def _ask(self, request: FeedbackRequest, handler: Any) -> FeedbackResponse:
        deadline = time.monotonic() + request.timeout
        asking = _Asking(request)
        stored = self._backend.revise(request.feedback_id, asking.ask)
        response = asking.response
        if response is None:
            if asking.is_new:
                tell(handler, "on_request_created", request)
            response = self._wait(stored or request, deadline, handler)
        self._write_to_channel(request, response)
        tell(handler, "on_response_received", stored or request, response)
        return response

    def _wait(self, request: FeedbackRequest, deadline: float, handler: Any) -> FeedbackResponse:
        feedback_id, pause, hint = request.feedback_id, _SHORTEST_LOOK, threading.Event()
        listener = self._backend.start_listener(feedback_id, hint)
        while (response := self._answer_to(feedback_id)) is None:
            left = deadline - time.monotonic()
            if left <= 0:
                return self._give_up(request, handler)
            pause = min(pause * 1.5, _LONGEST_LOOK)
            if listener is None:
                with self._changed:
                    self._changed.wait(min(pause, left))
            elif hint.wait(min(pause, left)):
                hint.clear()
        return response

    def _answer_to(self, feedback_id: str) -> FeedbackResponse | None:
        """Raises `FeedbackCancelledError` when there will be none."""
        response = self._backend.get_response(feedback_id)
        if response is None:
            request = self._backend.get_request(feedback_id)
            if request is not None and request.status == "cancelled":
                raise FeedbackCancelledError(feedback_id)
            if request is not None and request.status == "completed":
                return self._backend.get_response(feedback_id)
        return response

    def _give_up(self, request: FeedbackRequest, handler: Any) -> FeedbackResponse:
        """Note that nobody waits any more, unless the answer came in the last moment."""
        last: list[FeedbackResponse | None] = [None]

        def decide(held: FeedbackRequest | None, response: FeedbackResponse | None) -> Revision | None:
            last[0] = response
            if held is None or response is not None or held.status != "pending":
                return None
            return Revision(held.model_copy(update={"status": "timeout"}))

        held = self._backend.revise(request.feedback_id, decide)
        if last[0] is not None:
            return last[0]
        if held is not None and held.status == "cancelled":
            raise FeedbackCancelledError(request.feedback_id)
        tell(handler, "on_request_timeout", held or request)
        raise FeedbackTimeoutError(request.feedback_id, request.timeout)

    def _write_to_channel(self, request: FeedbackRequest, response: FeedbackResponse) -> None:
        if self.channel_manager is not None and request.write_to_channel and request.channel_key:
            write_answer(self.channel_manager, request.channel_key, response)

    # -- answering -------------------------------------------------------------------------------------------------

    def provide_feedback(self, feedback_id: str, response: FeedbackResponse) -> bool:
        """Answer a question; the first answer counts.

        Returns:
            False when the question is unknown or settled.

        Raises:
            FeedbackAnswerError: The answer does not fit the question.
        """
        given = response.model_copy(update={"feedback_id": feedback_id})
        request, is_first = self._backend.answer(given)
        if is_first and request is not None:
            self._write_to_channel(request, given)
            self._tell_waiters(feedback_id)
        return is_first

    def cancel_request(self, feedback_id: str) -> bool:
        """Withdraw a question; whoever waits for it hears of it at once.

        Returns:
            False when it is unknown or settled.
        """
        is_done = False

        def decide(held: FeedbackRequest | None, answer: FeedbackResponse | None) -> Revision | None:
            nonlocal is_done
            is_done = held is not None and answer is None and held.status in ANSWERABLE
            return None if held is None or not is_done else Revision(held.model_copy(update={"status": "cancelled"}))

        self._backend.revise(feedback_id, decide)
        if is_done:
            self._tell_waiters(feedback_id)
        return is_done

    def _tell_waiters(self, feedback_id: str) -> None:
        with self._changed:
            self._changed.notify_all()
        attempt(lambda: self._backend.publish(feedback_id), lambda error: _log.warning("A hint got lost: %s", error))

    def annotate(self, feedback_id: str, metadata: Mapping[str, Any]) -> None:
        """Add to the metadata of a question; its state is left alone."""

        def decide(held: FeedbackRequest | None, _: FeedbackResponse | None) -> Revision | None:
            if held is None:
                return None
            return Revision(held.model_copy(update={"metadata": {**held.metadata, **metadata}}))

        self._backend.revise(feedback_id, decide)

    # -- looking ---------------------------------------------------------------------------------------------------

    def list_pending_requests(self, session_id: str | None = None) -> list[FeedbackRequest]:
        """Questions that somebody waits for in place, the newest first."""
        return self._backend.list_pending_requests(session_id)

    def list_answerable_requests(self, session_id: str | None = None) -> list[FeedbackRequest]:
        """Questions that take an answer, also those of runs that wait elsewhere; the newest first."""
        return self._backend.list_answerable_requests(session_id)

    def list_requests(self, session_id: str | None = None, n_recent: int = 100) -> list[FeedbackRequest]:
        """Questions of any status, the newest first."""
        return self._backend.list_requests(session_id, n_recent)

    def get_request(self, feedback_id: str) -> FeedbackRequest | None:
        """A question; None when it is unknown."""
        return self._backend.get_request(feedback_id)

    def get_response(self, feedback_id: str) -> FeedbackResponse | None:
        """The answer to a question; None when there is none."""
        return self._backend.get_response(feedback_id)

    def store_request(self, request: FeedbackRequest) -> None:
        """Write a question as it is given, for tools."""
        self._backend.store_request(request)

    def store_response(self, response: FeedbackResponse) -> None:
        """Write an answer as it is given, for tools."""
        self._backend.store_response(response)

    def close(self) -> None:
        """Let go of connections."""
        self._backend.close()


@dataclass
class _Asking:
    """One question on its way to the backend.

    Attributes:
        request: The question.
        is_new: Whether it was not asked before.
        response: Its answer, when there was one already.
    """

    request: FeedbackRequest
    is_new: bool = False
    response: FeedbackResponse | None = None

    def ask(self, held: FeedbackRequest | None, response: FeedbackResponse | None) -> Revision | None:
        self.is_new, self.response = held is None, response
        asked = self.request
        kind = held.feedback_type if held is not None else None
        if kind is not None and kind is not asked.feedback_type:
            raise ConfigError(
                f"Feedback request {asked.feedback_id} was asked as {kind.value}, and is now asked as "
                f"{asked.feedback_type.value}; give it another id"
            )
        if response is not None:
            return None
        if held is None:
            return Revision(asked)
        if held.status == "cancelled":
            raise FeedbackCancelledError(asked.feedback_id)
        return None if held.status == "pending" else Revision(held.model_copy(update={"status": "pending"}))


def write_answer(channel: Any, key: str, response: FeedbackResponse) -> None:
    """Give a channel the bare answer under a key, and all of it beside that."""
    channel.set(key, response.value)
    channel.set(key + RESPONSE_SUFFIX, response.to_dict())


def _backend_of(given: FeedbackBackend | str, config: dict[str, Any]) -> FeedbackBackend:
    if isinstance(given, FeedbackBackend):
        return given
    if given == "filesystem":
        return FilesystemFeedbackBackend(config.get("data_dir") or "feedback_data")
    if given == "redis":
        client = config.get("redis_client")
        return RedisFeedbackBackend.from_config(config if client is not None else normalize_redis_config(config))
    raise ConfigError(f"Unknown feedback backend {given!r}; known are 'filesystem' and 'redis', or a FeedbackBackend")
