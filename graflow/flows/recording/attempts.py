"""How often the steps of a flow have run, and when those that failed run again."""

from __future__ import annotations

from typing import Any

from graflow.core.run.recorded.recorder import StepVisit
from graflow.flows.recording.journal import Past, Visit


class Attempts:
    """Counts the executions of steps over all executions of their flow.

    Args:
        past: What has been recorded of the flow.
        worker: The name of this process.

    Attributes:
        worker: The same.
        number: Which execution of the step that runs, or ran last, this one is, from 1.
        begun: When it began, seconds since the epoch.
        over: Those before it, as their row has them.
    """

    def __init__(self, past: Past, worker: str) -> None:
        self.worker = worker
        self.number = 1
        self.begun = 0.0
        self.over: list[dict[str, Any]] = []
        self._earlier = past.attempts
        self._retried = past.retried
        self._reset = past.reset
        self._due: dict[Visit, float] = {}

    def begin(self, step: StepVisit, now: float) -> bool:
        """Count one more; whether something has failed or was cut short, so that the run may have waited for it."""
        self.begun = now
        may_have_waited = bool(self._earlier)
        if may_have_waited:
            self.over = self._earlier.pop((step.step, step.visit), [])
            self._due.pop((step.step, step.visit), None)
        elif self.over:
            self.over = []
        self.number = len(self.over) + 1
        return may_have_waited

    def is_first(self, step: StepVisit) -> bool:
        """Whether the time of its step begins with it.

        It is the first, the first since the step failed or was reset, or the one before was cut short, unless workers
        may have gone on with the members of that.
        """
        if self._reset and (step.step, step.visit) in self._reset:
            self._reset.discard((step.step, step.visit))
            return True
        return self.number == 1 or (step.members is None and self.over[-1]["ended_at"] is None)

    def is_retried(self, step: StepVisit) -> bool:
        """Whether somebody asked that a step is run again."""
        return bool(self._retried) and (step.step, step.visit) in self._retried

    def end(self, now: float, error: str | None) -> list[dict[str, Any]]:
        """All of the step's, the one that has ended just now among them."""
        one = {"number": self.number, "started_at": self.begun, "ended_at": now, "worker": self.worker, "error": error}
        self.over.append(one)
        return list(self.over)

    def fail(self, step: StepVisit, due: float | None) -> None:
        """Keep those of a step that failed for its next one, which is made at a time, or when somebody asks for it."""
        self._earlier[step.step, step.visit] = self.over
        if due is not None:
            self._due[step.step, step.visit] = due

    def next_due(self) -> float:
        """When the next one is made of a step that failed, seconds since the epoch; 0 when there is none."""
        return min(self._due.values(), default=0.0)
