"""What a task may ask people: `request_feedback` and its shorter forms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from graflow.core.run.frame import Frame
from graflow.core.run.parts import RunParts
from graflow.exceptions import TaskError

if TYPE_CHECKING:
    from graflow.hitl.types import FeedbackResponse, FeedbackType


class FeedbackCalls(Frame):
    """The part of a task's context that asks people."""

    execution_context: RunParts

    def request_feedback(
        self,
        feedback_type: FeedbackType | str,
        prompt: str,
        options: list[str] | None = None,
        metadata: Mapping[str, Any] | None = None,
        timeout: float = 180.0,
        channel_key: str | None = None,
        write_to_channel: bool = False,
        handler: Any = None,
    ) -> FeedbackResponse:
        """Ask people something, and wait for the answer.

        When nobody answers in time and the task does not catch the error, the whole run waits: it is saved, and when it
        is resumed, this task runs again from its beginning and finds the answers that there are. Each call of an
        execution is a question of its own, the first, the second, and so on.

        In a step of a durable flow the flow is put away after two seconds, and goes on by itself with the answer. After
        `timeout` it goes on with the error; where the task does not catch that, it waits for the answer after all.

        Args:
            feedback_type: `approval`, `text`, `selection`, `multi_selection` or `custom`, or a `FeedbackType`.
            prompt: The question.
            options: What can be selected.
            metadata: Shown with it; anything that JSON holds.
            timeout: Seconds to wait here.
            channel_key: The key of the channel that gets the bare answer; `<key>.__feedback_response__` gets all of it.
            write_to_channel: Whether they do.
            handler: Told of question, answer and time-out; a `FeedbackHandler`, or what has its methods.

        Raises:
            FeedbackTimeoutError: Nobody has answered in time.
            FeedbackCancelledError: The question was cancelled.
            ConfigError: It cannot be asked as it is.
        """
        from graflow.core.run.people import ask_people  # noqa: PLC0415 - a run that asks nobody brings no pydantic

        asked = {
            "feedback_type": feedback_type,
            "prompt": prompt,
            "options": options,
            "metadata": metadata,
            "timeout": timeout,
            "channel_key": channel_key,
            "write_to_channel": write_to_channel,
            "handler": handler,
        }
        response: FeedbackResponse = ask_people(self._run_of("request_feedback"), self, asked)
        return response

    def request_approval(
        self,
        prompt: str,
        metadata: Mapping[str, Any] | None = None,
        timeout: float = 180.0,
        channel_key: str | None = None,
        write_to_channel: bool = False,
    ) -> bool:
        """Whether people approve; see `request_feedback`."""
        written = channel_key, write_to_channel
        return bool(self.request_feedback("approval", prompt, None, metadata, timeout, *written).approved)

    def request_text_input(
        self,
        prompt: str,
        metadata: Mapping[str, Any] | None = None,
        timeout: float = 180.0,
        channel_key: str | None = None,
        write_to_channel: bool = False,
    ) -> str:
        """A text that somebody writes; see `request_feedback`."""
        written = channel_key, write_to_channel
        return self.request_feedback("text", prompt, None, metadata, timeout, *written).text or ""

    def request_selection(
        self,
        prompt: str,
        options: list[str],
        metadata: Mapping[str, Any] | None = None,
        timeout: float = 180.0,
        channel_key: str | None = None,
        write_to_channel: bool = False,
    ) -> str:
        """The option that somebody selects; see `request_feedback`."""
        written = channel_key, write_to_channel
        return self.request_feedback("selection", prompt, options, metadata, timeout, *written).selected or ""

    def _run_of(self, request: str) -> RunParts:
        """The run, unless it has gone on without this execution."""
        if self.is_abandoned:
            raise TaskError(self.task_id, f"{request}() comes too late: the task is over its time and was abandoned")
        return self.execution_context
