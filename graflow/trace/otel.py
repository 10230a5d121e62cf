"""A listener that makes OpenTelemetry spans: a run, its tasks, and what the tasks do, in one trace."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextvars import Token
from typing import Any, NamedTuple

from graflow.foreign import text_of
from graflow.protocols import Node, Run
from graflow.trace.base import Tracer

try:
    from opentelemetry import trace
    from opentelemetry.context import Context, attach, detach
    from opentelemetry.trace import Span, StatusCode, TracerProvider
except ImportError as error:
    raise ImportError(
        "graflow.trace.otel needs the OpenTelemetry API; install it with: pip install 'graflow-celery[otel]'"
    ) from error

_Key = tuple[str, str]
_NANOSECONDS = 1_000_000_000
_FAILURES = (Exception, KeyboardInterrupt, SystemExit)


class _Open(NamedTuple):
    """A span that is current on the thread that opened it."""

    span: Span
    token: Token[Context]
    thread: int


class OpenTelemetryTracer(Tracer):
    """Opens a span for each run and each attempt of a task, current while the task runs.

    Spans made inside a task, by a library say, hang below the task's span. Members of a group that ran in another
    process get a span from their recorded times. Without a `provider` the global one is used.
    """

    enable_runtime_graph = False

    def __init__(self, provider: TracerProvider | None = None, *, name: str = "graflow") -> None:
        self.name = name
        self._provider = provider
        self._reset()

    def _reset(self) -> None:
        self._tracer = trace.get_tracer(self.name, tracer_provider=self._provider)
        self._lock = threading.Lock()
        self._roots: dict[str, Span] = {}
        self._open: dict[_Key, list[_Open]] = {}
        self._seen: dict[str, set[str]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"name": self.name}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.name = state["name"]
        self._provider = None
        self._reset()

    def on_workflow_start(self, workflow_name: str, context: Run) -> None:
        attributes = {"graflow.workflow": workflow_name, "graflow.session_id": context.session_id}
        span = self._enter((context.session_id, ""), workflow_name, None, attributes)
        self._roots[context.trace_id] = span
        self._seen[context.trace_id] = set()

    def on_workflow_end(
        self, workflow_name: str, context: Run, result: object = None, error: BaseException | None = None
    ) -> None:
        self._leave((context.session_id, ""), error)
        self._roots.pop(context.trace_id, None)
        self._seen.pop(context.trace_id, None)

    def on_task_start(self, task: Node, context: Run) -> None:
        seen = self._seen.get(context.trace_id)
        if seen is not None:
            seen.add(task.task_id)
        attributes = {"graflow.task_id": task.task_id, "graflow.session_id": context.session_id}
        self._enter((context.session_id, task.task_id), task.task_id, self._parent(context), attributes)

    def on_task_end(self, task: Node, context: Run, result: object = None, error: BaseException | None = None) -> None:
        self._leave((context.session_id, task.task_id), error)

    def on_parallel_group_start(self, group_id: str, member_ids: Sequence[str], context: Run) -> None:
        if span := self._span_of((context.session_id, group_id)):
            span.set_attribute("graflow.group.size", len(member_ids))

    def on_parallel_group_end(
        self,
        group_id: str,
        member_ids: Sequence[str],
        context: Run,
        results: Mapping[str, Any] | None = None,
    ) -> None:
        results = results or {}
        if span := self._span_of((context.session_id, group_id)):
            span.set_attribute("graflow.group.failed", sum(not result.success for result in results.values()))
        seen = self._seen.get(context.trace_id, set())
        for member_id, result in results.items():
            if member_id not in seen and result.timestamp:
                self._record(member_id, result, self._parent(context))

    def flush(self) -> None:
        """Make the provider export what it holds, where it can."""
        force_flush = getattr(self._provider or trace.get_tracer_provider(), "force_flush", None)
        if force_flush is not None:
            force_flush()

    def shutdown(self) -> None:
        """End the spans that are still open; the provider belongs to the application."""
        with self._lock:
            left = [entry for entries in self._open.values() for entry in entries]
            self._open.clear()
        for entry in reversed(left):
            _end(entry)

    def _parent(self, context: Run) -> Context | None:
        """The current span when there is one, else the run's (a member thread without the run's ContextVars)."""
        root = self._roots.get(context.trace_id)
        if root is None or trace.get_current_span().get_span_context().is_valid:
            return None
        return trace.set_span_in_context(root)

    def _enter(self, key: _Key, name: str, parent: Context | None, attributes: Mapping[str, str]) -> Span:
        span = self._tracer.start_span(name, context=parent, attributes=attributes)
        entry = _Open(span, attach(trace.set_span_in_context(span)), threading.get_ident())
        with self._lock:
            self._open.setdefault(key, []).append(entry)
        return span

    def _leave(self, key: _Key, error: BaseException | None) -> None:
        with self._lock:
            entries = self._open.get(key)
            entry = entries.pop() if entries else None
            if not entries:
                self._open.pop(key, None)
        if entry is None:
            return
        if isinstance(error, _FAILURES):  # a flow that is put away, say to sleep, has not failed
            entry.span.record_exception(error)
            entry.span.set_status(StatusCode.ERROR, f"{type(error).__name__}: {text_of(error)}")
        _end(entry)

    def _record(self, member_id: str, result: Any, parent: Context | None) -> None:
        end = int(result.timestamp * _NANOSECONDS)
        start = end - int(result.duration * _NANOSECONDS)
        span = self._tracer.start_span(
            member_id, context=parent, attributes={"graflow.task_id": member_id}, start_time=start
        )
        if not result.success:
            span.set_status(StatusCode.ERROR, result.error_message or str(result.error))
        span.end(end_time=end)

    def _span_of(self, key: _Key) -> Span | None:
        with self._lock:
            entries = self._open.get(key)
            return entries[-1].span if entries else None


def _end(entry: _Open) -> None:
    """End a span, and have its thread go on with the one around it; another thread cannot do that."""
    if entry.thread == threading.get_ident():
        detach(entry.token)
    entry.span.end()
