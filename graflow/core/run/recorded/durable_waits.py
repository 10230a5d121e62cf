"""What a task of a durable flow may wait for: people, signals, times."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from graflow.core.flow_context import TaskFlow
from graflow.durations import Deadline, Duration
from graflow.exceptions import ConfigError
from graflow.protocols import MISSING

if TYPE_CHECKING:
    from graflow.questions.asks import Wait
    from graflow.questions.outcomes import Approval, Winner
    from graflow.questions.waits import Waits

T = TypeVar("T")


class DurableWaits:
    """The part of a task's context that waits, where the task belongs to a flow.

    A flow that waits holds no process, thread or connection; the step starts again from its beginning when what it
    waits for is settled, and what was asked is answered at once then. So a step that only asks is best; what comes
    before a question in its task belongs into `once`.
    """

    @property
    def flow(self) -> Any:
        raise NotImplementedError

    def ask(
        self,
        prompt: str,
        answer: Any = bool,
        *,
        key: str | None = None,
        about: Any = None,
        of: Sequence[str] = (),
        needs: int = 1,
        veto: bool = True,
        revisable: bool = False,
        deadline: Deadline | None = None,
        default: Any = MISSING,
        on_deadline: str | None = None,
        remind: Sequence[Duration] = (),
        escalate: tuple[Duration, Sequence[str]] | None = None,
        notify: Sequence[str] = (),
        hold: float = 0.0,
    ) -> Any:
        """Ask people, and return the answer; the arguments are those of `graflow.questions.Ask`.

        Raises:
            QuestionExpiredError: Nobody answered before the deadline, and there is no default.
            QuestionWithdrawnError: Somebody took the question back.
            QuestionChangedError: Something else was asked in this place before.
            AnswerInvalidError: The answer fits the schema, and not the type.
            ConfigError: For what cannot be right, outside of a flow, or in a member of a group.
        """
        return self._waits("ask").ask(
            prompt,
            answer,
            about=about,
            of=of,
            needs=needs,
            veto=veto,
            revisable=revisable,
            deadline=deadline,
            default=default,
            on_deadline=on_deadline,
            remind=remind,
            escalate=escalate,
            notify=notify,
            key=key,
            hold=hold,
        )

    def approve(self, prompt: str, *, key: str | None = None, **options: Any) -> Approval:
        """Ask people whether something may be done; the result is true when it may. Arguments as those of `ask`."""
        return self._waits("approve").approve(prompt, key=key, **options)

    def reask(self, prompt: str, answer: Any = bool, *, key: str | None = None, **options: Any) -> Any:
        """Ask anew in a place where something was asked before, whatever came of that. Arguments as those of `ask`."""
        return self._waits("reask").reask(prompt, answer, key=key, **options)

    def once(self, key: str, function: Callable[..., T], *args: Any) -> T:
        """Call a function, and record its value under a name; when the step runs again, it gets that value.

        Raises:
            PayloadError: The value cannot be kept.
        """
        flow = self._flow_for("once")
        return flow.calls.once(flow.idempotency_key, key, lambda: function(*args))

    def wait_for(
        self,
        name: str,
        model: Any = None,
        *,
        key: str | None = None,
        deadline: Deadline | None = None,
        default: Any = MISSING,
        hold: float = 0.0,
    ) -> Any:
        """Wait for a signal to this flow, which may have come already; each one is given to one wait, in order.

        Args:
            name: Of the signal.
            model: What its value is, as `answer` of `ask`; anything when None.
            key: What the wait is called in its step.
            deadline: Until when.
            default: What is returned when nothing has come by then.
            hold: Seconds to wait in place before the flow is put away.

        Raises:
            QuestionExpiredError: Nothing came in time.
            AnswerInvalidError: The value does not fit.
        """
        waits = self._waits("wait_for")
        return waits.signal(name, model, key=key, deadline=deadline, default=default, hold=hold)

    def wait_any(self, *waits: Wait) -> Winner:
        """Wait for the first of several `Ask`, `Signal` and `Moment`; the others are withdrawn with it."""
        return self._waits("wait_any").first(waits)

    def wait_all(self, *waits: Wait) -> list[Any]:
        """Wait for several `Ask`, `Signal` and `Moment` at once; their values in order."""
        return self._waits("wait_all").every(waits)

    def sleep_until(self, moment: datetime) -> None:
        """Go on at a time, for which the flow holds no process; see `context.flow.sleep`."""
        self._flow_for("sleep_until").sleep(until=moment)

    def _waits(self, what: str) -> Waits:
        """What makes waits of the flow, and gives what comes of them."""
        flow = self._flow_for(what)
        from graflow.questions.waits import Waits  # noqa: PLC0415 - a run that waits for nobody brings no pydantic

        return Waits(flow)

    def _flow_for(self, what: str) -> TaskFlow:
        flow: TaskFlow | None = self.flow
        if flow is None:
            raise ConfigError(
                f"context.{what}() needs a durable flow, whose answers outlive this process: run it by a FlowRunner; "
                "in a plain workflow ask by context.request_feedback()"
            )
        return flow
