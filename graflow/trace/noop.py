"""The default listener: silent, and remembers just enough to draw what ran."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import time
from typing import Any

from graflow.protocols import Node, Run
from graflow.trace.base import Tracer, task_around
from graflow.trace.record import END, GIVEN, MEMBERS, SPAN, failure_of


class NoopTracer(Tracer):
    """Does what `Tracer` does without output; of a task it notes the object, whose facts are asked for on request."""

    def __init__(self, enable_runtime_graph: bool = True) -> None:
        super().__init__(enable_runtime_graph)
        self._short = self._runtime_record.short
        self._is_dynamic = False  # whether tasks were added that belong to the run alone

    def on_workflow_end(
        self, workflow_name: str, context: Run, result: object = None, error: BaseException | None = None
    ) -> None:
        super().on_workflow_end(workflow_name, context, result, error)
        if self._is_dynamic:
            self._runtime_record.let_go_of_tasks()

    def on_dynamic_task_added(
        self,
        task_id: str,
        parent_task_id: str | None = None,
        is_iteration: bool = False,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self._is_dynamic = True
        super().on_dynamic_task_added(task_id, parent_task_id, is_iteration, metadata)

    def on_task_start(self, task: Node, context: Run) -> None:
        """Called for every task, so it does no more than it must: see `RuntimeRecord`."""
        if self.enable_runtime_graph:
            short, stack = self._short, context._task_execution_stack
            if len(stack) == 1 and context.parent_context is None:
                short += task, stack[0].start_time
            else:
                short.append((SPAN, task, stack[-1].start_time, task_around(context), None))

    def on_task_end(self, task: Node, context: Run, result: object = None, error: BaseException | None = None) -> None:
        if self.enable_runtime_graph:
            short = self._short
            if error is None:
                short += time(), task
            else:
                short.append((END, task, time(), None, failure_of(error)))

    def on_parallel_group_start(self, group_id: str, member_ids: Sequence[str], context: Run) -> None:
        if type(self) is not NoopTracer:
            super().on_parallel_group_start(group_id, member_ids, context)
        else:  # the ids as they are: those of a fan-out are made when somebody draws them
            self._note(MEMBERS, group_id, member_ids)

    def note_members(self, group_id: str, member_ids: Sequence[str]) -> None:
        """Members of a group have succeeded in another process."""
        if self.enable_runtime_graph:
            self._short.append((GIVEN, group_id, time(), member_ids, None))

    def take_part_in(self, original: Tracer) -> None:
        if self.__dict__ is not original.__dict__:
            super().take_part_in(original)
            self._short = self._runtime_record.short

    def get_current_span_id(self) -> str | None:
        return self._runtime_record.innermost()
