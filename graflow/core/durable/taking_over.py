"""Bring a fresh run to where a recorded one was: by its own books, joins and groups, without running any task."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from graflow.channels.recording import Operation, RecordingChannel
from graflow.codec import from_jsonable
from graflow.core.branches.outcome import BranchOutcome
from graflow.core.branches.outcome_data import outcome_from_data
from graflow.core.memberships import is_group
from graflow.core.nodes.arguments import RESULT_SUFFIX
from graflow.core.nodes.iteration import IterationTask, base_id_of
from graflow.core.run.context import ExecutionContext
from graflow.core.run.frame import Control
from graflow.core.run.recorded.added_tasks import task_from_data
from graflow.core.run.steps.completing import complete
from graflow.core.run.steps.task_context import TaskExecutionContext
from graflow.encoding.errors_as_data import ErrorData, rebuild_error
from graflow.encoding.member_blocks import told_members
from graflow.exceptions import GraflowError, TakeOverError
from graflow.queue.base import TaskSpec
from graflow.trace.noop import NoopTracer

STARTED = "step.started"
COMPLETED = "step.completed"
FAILED = "step.failed"
MEMBERS = "group.members"

Data = Mapping[str, Any]


class Line(Protocol):
    """One line of a journal."""

    kind: str
    step: str | None
    visit: int | None
    attempt: int | None
    data: Data


def take_over(context: ExecutionContext, lines: Iterable[Line], execute: Callable[[Any], Any]) -> None:
    """Take over what a recorded run has done.

    Args:
        context: The run, fresh, with a `RecordingChannel` and its start node queued.
        lines: Its journal in order; lines of other kinds than those above are passed over.
        execute: Runs a group whose members are all over already, so that its coordinator has nothing to do.

    Raises:
        TakeOverError: A step is not to be had where the record has it.
        TaskResolutionError: A task that a step added cannot be had again; the step is named.
    """
    tracer, context.tracer = context.tracer, NoopTracer()  # listeners have heard of it, when it happened
    try:
        _TakingOver(context, execute).take(lines)
    finally:
        context.tracer = tracer


class _TakingOver:
    def __init__(self, context: ExecutionContext, execute: Callable[[Any], Any]) -> None:
        self._run = context
        self._execute = execute
        channel = context.ledger.channel
        if not isinstance(channel, RecordingChannel):
            raise TypeError("A run takes over what is recorded into a RecordingChannel")
        self._channel = channel
        self._members: dict[str, dict[int, BranchOutcome]] = {}  # of the group that was running
        self._begun: dict[tuple[str, int], int] = {}

    def take(self, lines: Iterable[Line]) -> None:
        for line in lines:
            if line.kind == COMPLETED:
                self._completed(line)
            elif line.kind == FAILED:
                self._failed(line)
            elif line.kind == MEMBERS:
                self._ended(line)
            elif line.kind == STARTED:
                self._begun[_visit_of(line)] = self._begun.get(_visit_of(line), 0) + 1
        groups, session_id = self._run.groups, self._run.session_id
        for group_id, outcomes in self._members.items():
            groups.recorded[groups.key_of(session_id, group_id)] = outcomes
        if self._run.recording is not None:
            self._run.recording.interrupted = self._begun

    # -- lines -----------------------------------------------------------------------------------------------------

    def _completed(self, line: Line) -> None:
        run, outcome = self._run, line.data["outcome"]
        spec = self._entry_of(line)
        task, node = spec.executable, spec.task_id
        self._begun.pop(_visit_of(line), None)
        self._channel.replay(operations_from_data(outcome.get("channel", ()), node))
        if is_group(task):
            frame = self._group_completed(task)
        else:
            frame = TaskExecutionContext(node, run)
            frame.task = task
            self._count(task, node)
            self._add_to_graph(outcome, node)
        self._follow(outcome, frame)
        if "value" in outcome:
            frame.task_result = from_jsonable(outcome["value"])
        else:
            frame.task_result = self._channel.view(node + RESULT_SUFFIX)
        run.groups.set_visits(outcome.get("visits", {}))
        run.ledger.last, run.ledger.carried_value = task, frame.task_result
        if node in run.ledger.retries.retry_counts:
            run.ledger.retried.add(node)
        with self._channel.derived():
            complete(run, task, frame)
        if frame.control == Control.TERMINATE:
            run.requests.terminated = outcome.get("message", "")
            run.agenda.clear()
            run.agenda.joins.waiting.clear()

    def _failed(self, line: Line) -> None:
        """An attempt failed: it is to be made again, at its time, or by whoever resumes the run."""
        run, data = self._run, line.data
        outcome = data.get("outcome", {})
        spec = self._entry_of(line)
        task, node = spec.executable, spec.task_id
        self._begun.pop(_visit_of(line), None)
        self._channel.replay(operations_from_data(outcome.get("channel", ()), node))
        if is_group(task):
            self._group_failed(task)
        else:
            self._count(task, node)
        ledger, agenda, retry_at = run.ledger, run.agenda, data.get("retry_at")
        ledger.failed.add(node)
        if retry_at is None:
            ledger.retried.add(node)
            agenda.requeue(spec)
            return
        ledger.retries.increment(node)
        left = retry_at - time.time()
        if left > 0:
            agenda.retry_later(spec, left)
        else:
            agenda.requeue(spec)

    def _ended(self, line: Line) -> None:
        outcomes = self._members.setdefault(str(line.step), {})
        for member in told_members(line.data):
            task_id = member["task_id"]
            self._channel.replay(operations_from_data(member.get("channel", ()), task_id))
            outcomes[member["index"]] = outcome_from_data(member["outcome"], task_id)

    # -- groups ----------------------------------------------------------------------------------------------------

    def _group_completed(self, group: Any) -> TaskExecutionContext:
        self._seed(group)
        with self._channel.derived(), self._run.executing_task(group) as frame:
            self._execute(group)
        return frame

    def _group_failed(self, group: Any) -> None:
        outcomes = self._members.get(group.task_id, {})
        run, key = self._run, self._run.groups.key_of(self._run.session_id, group.task_id)
        if len(outcomes) < len(group.tasks):  # it was given up before its end: what succeeded counts all the same
            self._members.pop(group.task_id, None)
            self._count(group, group.task_id)
            run.groups.finished[key] = outcomes
            return
        self._seed(group)
        try:
            with self._channel.derived(), run.executing_task(group):
                self._execute(group)
        except GraflowError:
            return
        raise TakeOverError(
            f"Group '{group.task_id}' failed when it was recorded, and its policy accepts the same outcomes now"
        )

    def _seed(self, group: Any) -> None:
        groups = self._run.groups
        outcomes = self._members.pop(group.task_id, {})
        groups.recorded[groups.key_of(self._run.session_id, group.task_id)] = outcomes
        if len(outcomes) != len(group.tasks):
            raise TakeOverError(
                f"Group '{group.task_id}' has {len(group.tasks)} members, and {len(outcomes)} are recorded"
            )

    # -- parts -----------------------------------------------------------------------------------------------------

    def _entry_of(self, line: Line) -> TaskSpec:
        """The entry of a step, which leaves the agenda."""
        node, agenda = str(line.data.get("node", line.step)), self._run.agenda
        if agenda.awaits_start or (self._run.ledger.is_blank and not agenda.has_work()):
            agenda.start(is_fresh=True)
        while True:
            spec = agenda.take(node)
            if spec is not None:
                return spec
            # Joins that waited for each other only are released when nothing else is left.
            if not (agenda.joins.waiting and agenda.joins.release_oldest(agenda)):
                raise TakeOverError(
                    f"The record has step '{node}' next, visit {line.visit}, and the graph does not lead there"
                )

    def _count(self, task: Any, node: str) -> None:
        self._run.ledger.count_execution(node, base_id_of(task, node))

    def _add_to_graph(self, outcome: Data, adding: str) -> None:
        run, graph = self._run, self._run.graph
        made: dict[str, Any] = {}
        for node in sorted(outcome.get("nodes", ()), key=lambda node: "pass_of" in node):
            if "pass_of" in node:
                task: Any = IterationTask(node["id"], node["pass_of"], from_jsonable(node["data"]), node["handler"])
                run.requests.passes[node["id"]] = node["pass_of"]
            else:
                task = task_from_data(node, run.session_id, adding)
            _note_members(task, made)
            made[node["id"]] = made.get(node["id"], task)
        for node in outcome.get("nodes", ()):
            if graph.lacks(node["id"]):
                graph.add_node(made[node["id"]], node["id"])
            if node.get("dynamic", True):
                graph.growth.mark_dynamic(node["id"])
        for source, target in outcome.get("edges", ()):
            graph.add_edge(source, target)

    def _follow(self, outcome: Data, frame: TaskExecutionContext) -> None:
        """Do what the step asked of the engine."""
        run = self._run
        control = outcome.get("control")
        if control:
            frame.control = control
            run.requests.message = outcome.get("message", run.requests.message)
        frame.is_iterating = bool(outcome.get("iterating"))
        if is_group(frame.task):
            return  # its outcomes have asked for the same
        for task_id in outcome.get("queued", ()):
            run.agenda.joins.forget(task_id)
            run.agenda.add(run.graph.get_node(task_id))


def _note_members(task: Any, made: dict[str, Any]) -> None:
    if is_group(task):
        for member in task.tasks:
            made[member.task_id] = member
            _note_members(member, made)


def _visit_of(line: Line) -> tuple[str, int]:
    return str(line.step), line.visit or 1


def operations_from_data(data: Sequence[Sequence[Any]], task_id: str) -> list[Operation]:
    """The channel operations that `operations_to_data` wrote."""
    found = []
    for kind, key, *rest in data:
        value: Any = rest[0] if rest else None
        if kind.endswith("_error"):
            kind = kind.removesuffix("_error")  # noqa: PLW2901 - the kind itself
            value = rebuild_error(ErrorData.from_dict(value), task_id)
        else:
            value = from_jsonable(value)
        found.append(Operation(kind, key, value, rest[1] if len(rest) > 1 else None))
    return found
