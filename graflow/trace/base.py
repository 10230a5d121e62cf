"""The listener interface: hooks of the engine, which become traces and spans unless a subclass says otherwise."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Self

import networkx as nx

from graflow.protocols import Node, Run
from graflow.trace.record import (
    CHILD,
    END,
    MEMBERS,
    RESULTS,
    SPAN,
    TRACE,
    RuntimeRecord,
    exported,
    facts_of,
    failure_of,
)

_Metadata = Mapping[str, Any] | None


class Tracer:
    """Listens to runs. A subclass overrides hooks of the engine (`on_…`), or output of traces and spans (`_output_…`).

    Hooks are called on the thread that runs the task, those of group members on several threads at once. A hook that
    raises is logged by the caller and does not change the run.

    Args:
        enable_runtime_graph: Whether what ran is remembered for `get_runtime_graph`.
    """

    __slots__ = ("__dict__", "__weakref__", "_is_clone")

    _is_clone: bool
    enable_runtime_graph = True

    def __init__(self, enable_runtime_graph: bool = True) -> None:
        self.enable_runtime_graph = enable_runtime_graph

    # -- hooks of the engine ---------------------------------------------------------------------------------------

    def on_workflow_start(self, workflow_name: str, context: Run) -> None:
        """A run begins; not called for branches."""
        facts = {"start_node": context.start_node, "max_steps": context.max_steps, "session_id": context.session_id}
        self.trace_start(workflow_name, context.trace_id, facts)

    def on_workflow_end(
        self, workflow_name: str, context: Run, result: object = None, error: BaseException | None = None
    ) -> None:
        """A run has ended, with an error when it failed or was canceled."""
        self.trace_end(workflow_name, result, {"steps": context.steps, **failure_of(error)})

    def on_task_queued(self, task: Any, context: Any) -> None:
        """A task waits for its turn."""

    def on_task_start(self, task: Node, context: Run) -> None:
        """A task begins, once for each attempt."""
        self.span_start(task.task_id, task_around(context), facts_of(task))

    def on_task_end(self, task: Node, context: Run, result: object = None, error: BaseException | None = None) -> None:
        """A task has ended, with an error when it failed."""
        self.span_end(task.task_id, result, failure_of(error))

    def on_parallel_group_start(self, group_id: str, member_ids: Sequence[str], context: Run) -> None:
        """The members of a group are about to start."""
        self._note(MEMBERS, group_id, tuple(member_ids))
        self.event("parallel_group_start", group_id, {"group_id": group_id, "member_ids": list(member_ids)})

    def on_member_end(
        self,
        group_id: str,
        member_id: str,
        context: Run,
        error: BaseException | None = None,
        ran: Mapping[str, bool] | None = None,
    ) -> None:
        """The outcome of a member that runs in another process has arrived; `ran` tells which tasks succeeded there."""
        for task_id, succeeded in (ran or {}).items():
            self.span_start(task_id, group_id)
            failure = failure_of(error) or {"error": "failed elsewhere"}
            self.span_end(task_id, metadata={} if succeeded else failure)

    def on_parallel_group_end(
        self, group_id: str, member_ids: Sequence[str], context: Run, results: Mapping[str, Any] | None = None
    ) -> None:
        """All members of a group have ended; `results` maps their ids to `TaskResult`."""
        ended = {member: bool(result.success) for member, result in (results or {}).items()}
        self._note(RESULTS, group_id, ended)
        self.event("parallel_group_end", group_id, {"group_id": group_id, "succeeded": ended})

    def on_dynamic_task_added(
        self,
        task_id: str,
        parent_task_id: str | None = None,
        is_iteration: bool = False,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """A running task added a node to the graph."""
        self._note(CHILD, task_id, parent_task_id)
        facts = {"task_id": task_id, "is_iteration": is_iteration, **(metadata or {})}
        self.event("dynamic_task_added", parent_task_id, facts)

    # -- traces and spans ------------------------------------------------------------------------------------------

    def trace_start(self, name: str, trace_id: str | None = None, metadata: _Metadata = None) -> None:
        """A trace begins; one with another id than the one before starts a new runtime graph."""
        if self.enable_runtime_graph:
            self._runtime_record.begin(trace_id)
        self._note(TRACE, name, None, metadata)
        self._output_trace_start(name, trace_id, metadata)

    def trace_end(self, name: str, output: object = None, metadata: _Metadata = None) -> None:
        """A trace has ended; it failed when its metadata has `error`."""
        self._note(END, name, None, metadata)
        self._output_trace_end(name, output, metadata)

    def span_start(self, name: str, parent_name: str | None = None, metadata: _Metadata = None) -> None:
        """A span begins, inside another one when that is named."""
        self._note(SPAN, name, parent_name, metadata)
        self._open_spans.append(name)
        self._output_span_start(name, parent_name, metadata)

    def span_end(self, name: str, output: object = None, metadata: _Metadata = None) -> None:
        """A span has ended; it failed when its metadata has `error`."""
        self._note(END, name, None, metadata)
        if name in self._open_spans:
            self._open_spans.remove(name)
        self._output_span_end(name, output, metadata)

    def event(self, name: str, parent_span: str | None = None, metadata: _Metadata = None) -> None:
        """Something happened at one point in time."""
        self._output_event(name, parent_span, metadata)

    def attach_to_trace(self, trace_id: str, parent_span_id: str | None = None) -> None:
        """What follows belongs to a trace that began elsewhere, inside a span of it when that is given."""
        if parent_span_id is not None:
            self._open_spans.append(parent_span_id)
        self._output_attach_to_trace(trace_id, parent_span_id)

    def get_current_span_id(self) -> str | None:
        """The span that began last among those that have not ended."""
        spans = self._open_spans
        return spans[-1] if spans else None

    # -- output, for subclasses ------------------------------------------------------------------------------------

    def _output_trace_start(self, name: str, trace_id: str | None, metadata: _Metadata) -> None:
        """Put out the beginning of a trace."""

    def _output_trace_end(self, name: str, output: object, metadata: _Metadata) -> None:
        """Put out the end of a trace."""

    def _output_span_start(self, name: str, parent_name: str | None, metadata: _Metadata) -> None:
        """Put out the beginning of a span."""

    def _output_span_end(self, name: str, output: object, metadata: _Metadata) -> None:
        """Put out the end of a span."""

    def _output_event(self, name: str, parent_span: str | None, metadata: _Metadata) -> None:
        """Put out an event."""

    def _output_attach_to_trace(self, trace_id: str, parent_span_id: str | None) -> None:
        """Put out that a trace goes on here."""

    # -- a listener's life -----------------------------------------------------------------------------------------

    def clone(self, trace_id: str) -> Self:
        """The listener for a branch of the run `trace_id`: a new object with the same attributes, not copies of them.

        What it hears appears in the runtime graph of its original; it has none of its own.
        """
        twin = object.__new__(type(self))
        twin.__dict__ = self.__dict__
        twin._is_clone = True
        return twin

    def take_part_in(self, original: Tracer) -> None:
        """Have what is heard here appear in the runtime graph of another listener, as a clone does."""
        if self.__dict__ is not original.__dict__:
            self.enable_runtime_graph = original.enable_runtime_graph
            self.__dict__["_notes_of_run"] = original._runtime_record
            self._is_clone = True

    def flush(self) -> None:
        """Hand over what is buffered."""

    def shutdown(self) -> None:
        """Release what the listener holds; it is not used afterwards."""

    # -- what ran --------------------------------------------------------------------------------------------------

    def get_runtime_graph(self) -> nx.DiGraph[str] | None:
        """A graph of what ran, or None when it is not recorded here.

        A node for each name has `status` (`running`, `completed`, `failed`), `start_time` and `end_time` of its latest
        execution, the number of `executions`, and `metadata` (`type` is `trace` or `span`). The `relation` of an edge
        is `parent-child` or `parallel-member`.
        """
        if not self.enable_runtime_graph or getattr(self, "_is_clone", False):
            return None
        return self._runtime_record.graph()

    def get_execution_order(self) -> list[str]:
        """Names of the workflow and of tasks in the order in which they started, one entry for each execution."""
        return self._runtime_record.order()

    def export_runtime_graph(self, format: str = "dict") -> dict[str, Any] | str | None:  # noqa: A002 - public name
        """The runtime graph as `"dict"`, `"json"` (the same with ISO times) or `"graphml"` text; None without one.

        Raises:
            ValueError: any other format.
        """
        return exported(self.get_runtime_graph(), self.get_execution_order(), format)

    @property
    def _runtime_record(self) -> RuntimeRecord:
        """Made when it is needed: subclasses need not call `__init__`."""
        record: RuntimeRecord | None = self.__dict__.get("_notes_of_run")
        return self.__dict__.setdefault("_notes_of_run", RuntimeRecord()) if record is None else record

    @property
    def _open_spans(self) -> list[str]:
        spans: list[str] | None = self.__dict__.get("_spans_of_run")
        return self.__dict__.setdefault("_spans_of_run", []) if spans is None else spans

    def _note(self, what: str, name: str, told: Any, metadata: _Metadata = None) -> None:
        if self.enable_runtime_graph:
            self._runtime_record.short.append((what, name, time.time(), told, metadata))


def branch_listener(tracer: Any, trace_id: str) -> Any:
    """A clone for a branch; also one that a listener makes in a way of its own takes part in its runtime graph."""
    clone = tracer.clone(trace_id)
    if isinstance(clone, Tracer) and isinstance(tracer, Tracer) and clone.__dict__ is not tracer.__dict__:
        clone.take_part_in(tracer)
    return clone


def task_around(context: Run) -> str | None:
    """The id of the task inside which the innermost task of a context began: the one that called it, or its group."""
    running, outer = context._task_execution_stack, context.parent_context
    if len(running) > 1:
        around = running[-2]
    elif outer is not None and (running := outer._task_execution_stack):
        around = running[-1]
    else:
        return None
    task_id: str = around.task_id
    return task_id
