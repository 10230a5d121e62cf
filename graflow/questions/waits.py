"""What a step of a flow waits for, and what comes of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from graflow.core.flow_context import TaskFlow
from graflow.exceptions import ConfigError
from graflow.questions.asks import Ask, Moment, Signal, Wait
from graflow.questions.models import Question
from graflow.questions.outcomes import Approval, Winner, value_of, winner_of

_MOST: Final = 100  # waits of one call


class Waits:
    """The waits of one step; each has its place, where the step finds what came of it when it starts again.

    Args:
        flow: As the step sees it.
    """

    def __init__(self, flow: TaskFlow) -> None:
        self._flow = flow

    def ask(self, prompt: str, answer: Any, **options: Any) -> Any:
        """The answer to a question."""
        return self._value(Ask(prompt, answer, **options))

    def approve(self, prompt: str, **options: Any) -> Approval:
        """Whether people say yes, and who did."""
        asked = Ask(prompt, bool, **options)
        (question,) = self._settled([asked])
        value_of(asked, question)
        return Approval.of(question)

    def reask(self, prompt: str, answer: Any, **options: Any) -> Any:
        """The answer to a question in the place of an earlier one."""
        asked = Ask(prompt, answer, **options)
        return value_of(asked, self._flow.calls.wait_anew(self._flow.idempotency_key, asked))

    def signal(self, name: str, model: Any, **options: Any) -> Any:
        """The value of a signal."""
        return self._value(Signal(name, model, **options))

    def first(self, waits: Sequence[Wait]) -> Winner:
        """The one that is settled first.

        Raises:
            ConfigError: There are none, too many, or others than waits.
        """
        return winner_of(waits, self._settled(_checked("wait_any", waits), any_of=True))

    def every(self, waits: Sequence[Wait]) -> list[Any]:
        """What each gives, in order.

        Raises:
            ConfigError: There are none, too many, or others than waits.
        """
        return [*map(value_of, waits, self._settled(_checked("wait_all", waits)))]

    def _value(self, wait: Wait) -> Any:
        (question,) = self._settled([wait])
        return value_of(wait, question)

    def _settled(self, waits: Sequence[Wait], *, any_of: bool = False) -> list[Question]:
        return self._flow.calls.wait(self._flow.idempotency_key, waits, any_of=any_of)


def _checked(what: str, waits: Sequence[Wait]) -> Sequence[Wait]:
    if not 0 < len(waits) <= _MOST or not all(isinstance(each, Ask | Signal | Moment) for each in waits):
        raise ConfigError(f"context.{what}() takes 1 to {_MOST} of Ask, Signal and Moment, not {waits!r}")
    return waits
