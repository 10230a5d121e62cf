"""Several listeners to one run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Self

import networkx as nx

from graflow.exceptions import ConfigError
from graflow.foreign import attempt
from graflow.protocols import Node, Run
from graflow.trace.base import Tracer, branch_listener
from graflow.trace.noop import NoopTracer
from graflow.trace.notify import end_workflow


class CompositeTracer(Tracer):
    """Passes every call to each of its listeners in order.

    A listener that raises does not silence the ones after it; its error is raised when all have been called (an
    `ExceptionGroup` when there are several).
    """

    def __init__(self, tracers: Iterable[Tracer]) -> None:
        self.tracers: tuple[Tracer, ...] = tuple(tracers)

    def _tell(self, call: Callable[[Tracer], None]) -> None:
        errors: list[Exception] = []
        for tracer in self.tracers:
            attempt(partial(call, tracer), errors.append)
        if len(errors) == 1:
            raise errors[0]
        if errors:
            raise ExceptionGroup("Several listeners failed", errors)

    def on_workflow_start(self, workflow_name: str, context: Run) -> None:
        self._tell(lambda tracer: tracer.on_workflow_start(workflow_name, context))

    def on_workflow_end(
        self, workflow_name: str, context: Run, result: object = None, error: BaseException | None = None
    ) -> None:
        self._tell(lambda tracer: end_workflow(tracer, workflow_name, context, result, error))

    def on_task_queued(self, task: Any, context: Any) -> None:
        self._tell(lambda tracer: tracer.on_task_queued(task, context))

    def on_task_start(self, task: Node, context: Run) -> None:
        self._tell(lambda tracer: tracer.on_task_start(task, context))

    def on_task_end(self, task: Node, context: Run, result: object = None, error: BaseException | None = None) -> None:
        self._tell(lambda tracer: tracer.on_task_end(task, context, result=result, error=error))

    def on_parallel_group_start(self, group_id: str, member_ids: Sequence[str], context: Run) -> None:
        self._tell(lambda tracer: tracer.on_parallel_group_start(group_id, member_ids, context))

    def on_member_end(
        self,
        group_id: str,
        member_id: str,
        context: Run,
        error: BaseException | None = None,
        ran: Mapping[str, bool] | None = None,
    ) -> None:
        self._tell(lambda tracer: tracer.on_member_end(group_id, member_id, context, error=error, ran=ran))

    def on_parallel_group_end(
        self, group_id: str, member_ids: Sequence[str], context: Run, results: Mapping[str, Any] | None = None
    ) -> None:
        self._tell(lambda tracer: tracer.on_parallel_group_end(group_id, member_ids, context, results=results))

    def on_dynamic_task_added(
        self,
        task_id: str,
        parent_task_id: str | None = None,
        is_iteration: bool = False,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self._tell(
            lambda tracer: tracer.on_dynamic_task_added(
                task_id, parent_task_id=parent_task_id, is_iteration=is_iteration, metadata=metadata
            )
        )

    def trace_start(self, name: str, trace_id: str | None = None, metadata: Mapping[str, Any] | None = None) -> None:
        self._tell(lambda tracer: tracer.trace_start(name, trace_id, metadata))

    def trace_end(self, name: str, output: object = None, metadata: Mapping[str, Any] | None = None) -> None:
        self._tell(lambda tracer: tracer.trace_end(name, output, metadata))

    def span_start(self, name: str, parent_name: str | None = None, metadata: Mapping[str, Any] | None = None) -> None:
        self._tell(lambda tracer: tracer.span_start(name, parent_name, metadata))

    def span_end(self, name: str, output: object = None, metadata: Mapping[str, Any] | None = None) -> None:
        self._tell(lambda tracer: tracer.span_end(name, output, metadata))

    def event(self, name: str, parent_span: str | None = None, metadata: Mapping[str, Any] | None = None) -> None:
        self._tell(lambda tracer: tracer.event(name, parent_span, metadata))

    def attach_to_trace(self, trace_id: str, parent_span_id: str | None = None) -> None:
        self._tell(lambda tracer: tracer.attach_to_trace(trace_id, parent_span_id))

    def get_current_span_id(self) -> str | None:
        """The span of the first listener that has one."""
        return next((span for tracer in self.tracers if (span := tracer.get_current_span_id()) is not None), None)

    def clone(self, trace_id: str) -> Self:
        return type(self)(branch_listener(tracer, trace_id) for tracer in self.tracers)

    def flush(self) -> None:
        self._tell(lambda tracer: tracer.flush())

    def shutdown(self) -> None:
        self._tell(lambda tracer: tracer.shutdown())

    def get_runtime_graph(self) -> nx.DiGraph[str] | None:
        """The graph of the first listener that recorded one."""
        graphs = (tracer.get_runtime_graph() for tracer in self.tracers)
        return next((graph for graph in graphs if graph is not None), None)

    def get_execution_order(self) -> list[str]:
        """The order of the first listener that recorded one."""
        return next((order for tracer in self.tracers if (order := tracer.get_execution_order())), [])


def _checked(tracer: Any) -> Tracer:
    if not isinstance(tracer, type) and any(
        hasattr(tracer, hook) for hook in ("on_workflow_start", "on_task_start", "on_task_end")
    ):
        made: Tracer = tracer
        return made
    raise ConfigError(f"A tracer is a Tracer, such as ConsoleTracer(), not {tracer!r}")


def combine(tracer: Tracer | Sequence[Tracer] | None) -> Tracer:
    """One tracer out of none (the default one), one (itself) or several.

    Raises:
        ConfigError: For what is none.
    """
    if tracer is None:
        return NoopTracer()
    if not isinstance(tracer, Sequence):
        return _checked(tracer)
    flat = [
        inner
        for listener in tracer
        for inner in (listener.tracers if type(listener) is CompositeTracer else [_checked(listener)])
    ]
    if not flat:
        return NoopTracer()
    return flat[0] if len(flat) == 1 else CompositeTracer(flat)
