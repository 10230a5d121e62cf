"""A flow that is run without being recorded: `durability="off"`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from graflow.core.durable.runs import value_of
from graflow.core.engine import WorkflowEngine
from graflow.core.flow_context import FlowContext, RunningFlow
from graflow.core.run.context import ExecutionContext
from graflow.encoding.errors_as_data import describe_error
from graflow.exceptions import GraflowWorkflowCanceledError, TaskFailedError, named
from graflow.flows.inputs import checked_metadata
from graflow.flows.running.execution import Means, Program
from graflow.state.models import FlowState, FlowStepState
from graflow.state.statuses import FlowStatus, StepStatus


class _Position:
    def position(self) -> tuple[str, int, int]:
        return "", 1, 1


def run_unrecorded(
    program: Program, stored: Mapping[str, Any], flow: FlowContext, means: Means, metadata: Mapping[str, Any] | None
) -> FlowState:
    """Run a flow in memory alone; its values may be anything, and nothing of it survives.

    Returns:
        The flow as it ended. Its steps have no times, as nobody took them.
    """
    kept = checked_metadata(metadata)
    graph, start = program.build(stored)
    context = ExecutionContext(
        graph, start, means.max_steps, config=means.config, tracer=means.tracer, session_id=flow.flow_id
    )
    context.workflow_name, context.flow = flow.flow_name, RunningFlow(flow, _Position())
    state = FlowState(
        flow_id=flow.flow_id,
        flow_name=flow.flow_name,
        status=FlowStatus.COMPLETED,
        inputs=dict(stored),
        metadata=kept,
        durability="off",
        started_at=datetime.now(UTC),
    )
    try:
        state.outputs = value_of(context, WorkflowEngine(means.handlers).execute(context))
    except Exception as error:  # noqa: BLE001 - whatever a task raises is how the flow ended
        cause = error.cause if isinstance(error, TaskFailedError) and error.cause is not None else error
        is_cancelled = isinstance(error, GraflowWorkflowCanceledError)
        state.status = FlowStatus.CANCELLED if is_cancelled else FlowStatus.FAILED
        state.error, state.error_data = named(cause), describe_error(cause).to_dict()
    state.completed_at = datetime.now(UTC)
    state.total_execution_time = (state.completed_at - (state.started_at or state.completed_at)).total_seconds()
    ended = {**dict.fromkeys(context.completed_tasks, StepStatus.COMPLETED)}
    ended.update(dict.fromkeys(context.ledger.failed, StepStatus.FAILED))
    members = {member for node in graph.nodes for member in graph.get_parallel_group_members(node)}
    state.steps = [
        FlowStepState(step_name=task_id, status=status, attempts=1)
        for task_id, status in ended.items()
        if task_id not in members
    ]
    return state
