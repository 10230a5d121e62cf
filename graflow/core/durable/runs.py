"""A run that is written down step by step, and goes on from what was written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from graflow.channels.recording import RecordingChannel
from graflow.core.durable.taking_over import Line, take_over
from graflow.core.engine import WorkflowEngine
from graflow.core.graph import TaskGraph
from graflow.core.nodes.templates import starting_steps
from graflow.core.run.context import ExecutionContext
from graflow.core.run.ledger import DEFAULT_MAX_STEPS
from graflow.core.run.recorded.recorder import Recorder
from graflow.core.run.recorded.recording import Recording
from graflow.core.task import ParallelGroup
from graflow.exceptions import GraphCompilationError
from graflow.trace.base import Tracer


def durable_run(
    graph: TaskGraph,
    *,
    session_id: str,
    recorder: Recorder,
    engine: WorkflowEngine,
    recorded: Iterable[Line] = (),
    start_node: str | None = None,
    max_steps: int = DEFAULT_MAX_STEPS,
    config: Mapping[str, Any] | None = None,
    tracer: Tracer | Sequence[Tracer] | None = None,
    name: str | None = None,
    flow: object = None,
    keeps_words: bool = False,
) -> ExecutionContext:
    """A run that stands where the record ends; `engine.execute` runs what is left of it.

    Args:
        graph: What the flow's function built; it is changed by the run, so no other run may have it.
        session_id: The same for each execution of one run: keys of groups on workers are made from it.
        recorder: Who writes down what happens from here on.
        engine: Runs groups whose members are over already, and the run afterwards.
        recorded: The journal so far, in order.
        start_node: Where the run begins; the only node without predecessors when None.
        max_steps: As in `workflow.execute`.
        config: Settings for the backends of groups.
        tracer: A listener, or several; steps of the record are not told again.
        name: The workflow's name.
        flow: What tasks see as `context.flow`.
        keeps_words: Whether what steps print and log is recorded too; somebody has to `hear` it.

    Raises:
        GraphCompilationError: There is no start node, or there are several, and none is named.
        TakeOverError: The record does not fit the graph.
    """
    start = _only_start(graph) if start_node is None else start_node
    channel = RecordingChannel(session_id)
    context = ExecutionContext(
        graph, start, max_steps, config=config, tracer=tracer, session_id=session_id, channel=channel
    )
    if name is not None:
        context.workflow_name = name
    context.flow = flow
    context.recording = Recording(context, recorder, keeps_words=keeps_words)
    before, context.engine = context.engine, engine
    try:
        take_over(context, recorded, lambda group: engine._execute_task(group, context))
    finally:
        context.engine = before
    return context


def _only_start(graph: TaskGraph) -> str:
    candidates = starting_steps(graph)
    if len(candidates) != 1:
        listed = ", ".join(candidates) or "none"
        raise GraphCompilationError(f"A flow needs one start node; there are: {listed}. Connect them")
    return candidates[0]


def value_of(context: ExecutionContext, value: object) -> Any:
    """The value of a run: that of its last step; of a group, the list of its members' values in member order."""
    last = context.ledger.last
    if value is None and isinstance(last, ParallelGroup):
        return last.values_in(context)
    return value
