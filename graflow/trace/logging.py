"""A listener that writes a run into the log."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

from graflow.protocols import Node, Run
from graflow.text.shown import argument, get_logger
from graflow.trace.base import Tracer

_Key = tuple[str, str]


class LoggingTracer(Tracer):
    """Logs starts and ends with durations; values of tasks are never logged.

    Runs, groups and ends of tasks go out at `level` (default INFO), starts and queueing at DEBUG, failures at WARNING,
    to the logger `graflow.run` when none is given.
    """

    enable_runtime_graph = False

    def __init__(self, logger: logging.Logger | None = None, *, level: int = logging.INFO) -> None:
        self.logger = logger or get_logger("graflow.run")
        self.level = level
        self._begun: dict[_Key, float] = {}

    def on_workflow_start(self, workflow_name: str, context: Run) -> None:
        self._begun[context.session_id, ""] = time.perf_counter()
        self._say(self.level, "Workflow %s started (session %s)", workflow_name, context.session_id)

    def on_workflow_end(
        self, workflow_name: str, context: Run, result: object = None, error: BaseException | None = None
    ) -> None:
        seconds = self._elapsed((context.session_id, ""))
        if error is None:
            self._say(
                self.level, "Workflow %s ended after %.3f s (session %s)", workflow_name, seconds, context.session_id
            )
        else:
            self._say(
                logging.WARNING,
                "Workflow %s failed after %.3f s (session %s): %r",
                workflow_name,
                seconds,
                context.session_id,
                error,
            )

    def on_task_queued(self, task: Any, context: Any) -> None:
        self._say(logging.DEBUG, "Task %s queued (session %s)", task.task_id, context.session_id)

    def on_task_start(self, task: Node, context: Run) -> None:
        self._begun[context.session_id, task.task_id] = time.perf_counter()
        self._say(logging.DEBUG, "Task %s started (session %s)", task.task_id, context.session_id)

    def on_task_end(self, task: Node, context: Run, result: object = None, error: BaseException | None = None) -> None:
        seconds = self._elapsed((context.session_id, task.task_id))
        if error is None:
            self._say(self.level, "Task %s ended after %.3f s (session %s)", task.task_id, seconds, context.session_id)
        else:
            self._say(
                logging.WARNING,
                "Task %s failed after %.3f s (session %s): %r",
                task.task_id,
                seconds,
                context.session_id,
                error,
            )

    def on_parallel_group_start(self, group_id: str, member_ids: Sequence[str], context: Run) -> None:
        self._say(
            self.level, "Group %s of %d members started (session %s)", group_id, len(member_ids), context.session_id
        )

    def on_parallel_group_end(
        self, group_id: str, member_ids: Sequence[str], context: Run, results: Mapping[str, Any] | None = None
    ) -> None:
        failed = sum(not result.success for result in (results or {}).values())
        self._say(
            logging.WARNING if failed else self.level,
            "Group %s of %d members ended, %d failed (session %s)",
            group_id,
            len(member_ids),
            failed,
            context.session_id,
        )

    def on_dynamic_task_added(
        self,
        task_id: str,
        parent_task_id: str | None = None,
        is_iteration: bool = False,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self._say(logging.DEBUG, "%s %s added by %s", "Iteration" if is_iteration else "Task", task_id, parent_task_id)

    def _say(self, level: int, text: str, *told: object) -> None:
        """Log a line, which stays one in a logger of anybody's."""
        if self.logger.isEnabledFor(level):
            self.logger.log(level, text, *map(argument, told), stacklevel=2)

    def _elapsed(self, key: _Key) -> float:
        now = time.perf_counter()
        return now - self._begun.pop(key, now)
