"""One run that is written down: what each of its steps did, as plain data for a recorder."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any, Final

from graflow.channels.recording import Operation, RecordingChannel
from graflow.core.branches.given import Given
from graflow.core.branches.outcome import BranchOutcome
from graflow.core.branches.outcome_data import kept, outcome_to_data
from graflow.core.graph import TaskGraph
from graflow.core.memberships import is_group
from graflow.core.nodes.arguments import RESULT_SUFFIX
from graflow.core.nodes.columns import MemberIds
from graflow.core.nodes.iteration import IterationTask, base_id_of
from graflow.core.run.frame import Frame
from graflow.core.run.parts import RunParts
from graflow.core.run.recorded.added_tasks import task_to_data
from graflow.core.run.recorded.recorder import Recorder, StepVisit
from graflow.encoding.errors_as_data import describe_error
from graflow.exceptions import PayloadError
from graflow.hearing.words import Line, Words
from graflow.protocols import MemberInfo
from graflow.values.plain import is_immediate, is_plain

Data = dict[str, Any]

_WITHOUT_VALUE: Final = frozenset({"delete", "clear"})


class Recording:
    """Stands between the engine and a recorder: gathers what a step did to channel, queue and graph.

    Args:
        run: The root run; its channel has to be a `RecordingChannel`.
        recorder: Who writes it down.
        keeps_words: Whether what steps and members here print and log is a part of what they did.

    Attributes:
        interrupted: By step and visit, attempts that were begun and whose end nobody wrote down.
        step: The step that runs, or ran last.
        given: The arguments of the step that ended last, by name.
        facts: What else is to be recorded of it.
        refused: Why what a step did cannot be kept, which another attempt would not change.
    """

    def __init__(self, run: RunParts, recorder: Recorder, *, keeps_words: bool = False) -> None:
        channel = run.ledger.channel
        if not isinstance(channel, RecordingChannel):
            raise TypeError(f"A run that is recorded needs a RecordingChannel, not {type(channel).__name__}")
        self._run = run
        self._recorder = recorder
        self._channel = channel
        self.interrupted: dict[tuple[str, int], int] = {}
        self.step: StepVisit | None = None
        self.given: Mapping[str, Any] | None = None
        self.facts: Mapping[str, Any] | None = None
        self.refused: PayloadError | None = None
        self._words: dict[int | None, Words] | None = {} if keeps_words else None
        run.graph.additions = []

    # -- a step ----------------------------------------------------------------------------------------------------

    def begin(self, frame: Frame) -> None:
        """A step is about to run, and its execution is counted."""
        run, task, node = self._run, frame.task, frame.task_id
        frame.keeps_given = True
        step = base_id_of(task, node)
        visit = run.ledger.cycles.cycle_counts.get(step, 0)
        attempt = run.ledger.retries.retry_counts.get(node, 0) + 1
        if self.interrupted:
            attempt += self.interrupted.get((step, visit), 0)
        members = task.member_ids if is_group(task) else None
        self.step = visited = StepVisit(step, visit, node, attempt, members)
        self._channel.begin(may_undo=members is None)
        if run.graph.additions:
            run.graph.additions = []
        if run.groups.closed:
            run.groups.closed.clear()
        self._recorder.step_started(visited)

    def outcome_of(self, frame: Frame, value: object) -> Data:
        """What a step did, just before its own writes are given to the channel.

        Raises:
            PayloadError: Something that has to be kept cannot be kept.
        """
        operations = self._channel.take()
        if len(operations) == 1 and is_immediate(value) and self._did_nothing_else(frame):
            kind, key, noted, expires = operations[0]
            if noted is value and kind == "set" and expires is None and key == frame.task_id + RESULT_SUFFIX:
                return {"channel": [[kind, key, value]]}  # what follows, for the most frequent of all outcomes
        try:
            return self._outcome_of(frame, value, operations)
        except PayloadError as error:
            self.refused = error
            raise

    def _did_nothing_else(self, frame: Frame) -> bool:
        """Whether an execution has neither written to a layer of its own, nor asked anything of its run."""
        run = self._run
        return (
            frame.layer is None
            and not frame.control
            and not frame.is_iterating
            and not frame.queued
            and not run.graph.additions
            and not run.groups.closed
            and not self._words
        )

    def _outcome_of(self, frame: Frame, value: object, operations: list[Operation]) -> Data:
        run, node = self._run, frame.task_id
        if frame.layer is not None:
            now = time.time()
            operations += [
                Operation("delete" if write.deleted else "set", write.key, write.value, write.ttl and now + write.ttl)
                for write in frame.layer.writes()
            ]
        outcome: Data = {}
        result_key = node + RESULT_SUFFIX
        for kind, key, noted, _ in operations:
            if key == result_key and kind == "set" and noted is value:
                break  # the channel has it
        else:
            outcome["value"] = kept(value, f"the result of task '{node}'")
        if operations:
            outcome["channel"] = operations_to_data(operations, node)
        if frame.control:
            outcome["control"] = int(frame.control)
            if run.requests.message is not None:
                outcome["message"] = run.requests.message
        if frame.is_iterating:
            outcome["iterating"] = True
        if frame.queued:
            outcome["queued"] = [spec.task_id for spec in frame.queued]
        if run.graph.additions and not is_group(frame.task):
            outcome.update(self._additions(frame))
        if run.groups.closed:
            outcome["visits"] = {group_id: run.groups.visits_of(group_id) for group_id in run.groups.closed}
        if self._words:
            outcome["said"] = self.said()
        return outcome

    def completed(self, frame: Frame, outcome: Data, value: object) -> None:
        """The step has ended well, and what follows is queued."""
        if self.interrupted and self.step is not None:
            self.interrupted.pop((self.step.step, self.step.visit), None)
        step, facts = self.step, self._run.facts
        if step is None or step.node != frame.task_id:
            raise self._misplaced(frame)
        self.given, self.facts = frame.given, None if facts is None else facts.pop(frame.task_id, None)
        self._recorder.step_completed(step, outcome, value)

    def failed(self, frame: Frame, error: BaseException, retry_in: float | None) -> None:
        """An attempt has failed; what a step other than a group did to the channel is taken back."""
        step, channel, facts = self.step, self._channel, self._run.facts
        if step is None or step.node != frame.task_id:
            raise self._misplaced(frame)
        outcome: Data = {}
        if step.members is None:
            key = frame.task_id + RESULT_SUFFIX
            result = channel.view(key)
            channel.undo()
            with channel.derived():
                if isinstance(result, BaseException):
                    channel.set(key, result)
        else:
            outcome["channel"] = operations_to_data(channel.take(), frame.task_id)
        if self._words:
            outcome["said"] = self.said()
        self.given, self.facts = frame.given, None if facts is None else facts.pop(frame.task_id, None)
        self._recorder.step_failed(step, error, outcome, retry_in)

    def flush(self) -> None:
        """The run waits next."""
        self._recorder.flush()

    def _misplaced(self, frame: Frame) -> RuntimeError:
        return RuntimeError(f"Task '{frame.task_id}' ends, but the recording is at {self.step}")

    # -- members ---------------------------------------------------------------------------------------------------

    def records(self, group_id: str) -> bool:
        """Whether the members of this group are recorded: it is the step that runs, not a part of one."""
        return self.step is not None and self.step.node == group_id and self.step.members is not None

    def member_ended(self, index: int, outcome: BranchOutcome, worker: str | None, attempts: int) -> None:
        """A member of the group that runs has ended; a value that cannot be kept makes it one that failed."""
        if self.step is None:
            return
        try:
            data = outcome_to_data(outcome)
        except PayloadError as error:
            _refuse(outcome, error)
            data = outcome_to_data(outcome)
        if self._words and index in self._words:
            data["said"] = self._words.pop(index).lines()
        member: Data = {
            "index": index,
            "task_id": outcome.task_id,
            "success": outcome.success,
            "error": data.get("error"),
            "started_at": outcome.timestamp - outcome.duration if outcome.timestamp else None,
            "ended_at": outcome.timestamp or None,
            "worker": worker,
            "attempts": attempts,
            "outcome": data,
        }
        if outcome.facts:
            member["facts"] = outcome.facts
        operations = self._channel.take_of(outcome.task_id)
        if operations:
            member["channel"] = operations_to_data(operations, outcome.task_id)
        self._recorder.members_ended(self.step, [member])

    def block_ended(self, row: Given, worker: str | None, attempts: int) -> bool:
        """Members of the group that runs have ended in a row; whether they are told, else each has to be alone."""
        if self.step is None or not self._recorder.takes_blocks:
            return False
        values = list(row.values)
        if not is_plain(values, check_numbers=True):
            try:
                named = zip(row.ids, values, strict=True)
                values = [kept(value, f"the result of task '{task_id}'") for task_id, value in named]
            except PayloadError:
                return False
        members = self.step.members
        block: Data = {
            "first": row.first,
            "ids": members.name if isinstance(members, MemberIds) and members.keys is None else list(row.ids),
            "values": values,
            "base": row.base,
            "durations": list(row.durations),
            "ended": list(row.ended),
            "worker": worker,
            "attempts": attempts,
        }
        self._recorder.block_ended(self.step, block)
        return True

    # -- what they say ---------------------------------------------------------------------------------------------

    def words_of(self, member: MemberInfo | None) -> Words | None:
        """Those of the step that runs, or of a member of its group that runs here; None where they are not kept."""
        if self._words is None or self.step is None:
            return None
        return self._words.setdefault(None if member is None or self.step.members is None else member.index, Words())

    def said(self) -> list[Line]:
        """What the step has said, which is over; members that nobody waited for are heard no longer."""
        if self._words is None:
            return []
        words = self._words.pop(None, None)
        self._words.clear()
        return [] if words is None else words.lines()

    # -- the graph -------------------------------------------------------------------------------------------------

    def _additions(self, frame: Frame) -> Data:
        graph = self._run.graph
        nodes, edges = [], []
        for addition in dict.fromkeys(graph.additions or ()):
            if len(addition) == 1:
                if graph.has_node(addition[0]):
                    nodes.append(_node_to_data(graph, addition[0], self._run.session_id, frame.task_id))
            elif addition[1] in graph.succ.get(addition[0], ()):
                edges.append(list(addition))
        return {name: found for name, found in (("nodes", nodes), ("edges", edges)) if found}


def _refuse(outcome: BranchOutcome, error: PayloadError) -> None:
    outcome.success, outcome.value, outcome.error = False, None, error
    outcome.writes = []
    outcome.completed = [task_id for task_id in outcome.completed if task_id != outcome.task_id]
    outcome.results = [(outcome.task_id, error)]


def _node_to_data(graph: TaskGraph, task_id: str, session_id: str, adding: str) -> Data:
    task = graph.get_node(task_id)
    if isinstance(task, IterationTask):
        data = kept(task.data, f"what task '{adding}' gives its next pass")
        return {"id": task_id, "pass_of": task.base_id, "data": data, "handler": task.handler_type}
    made = task_to_data(task, task_id, session_id)
    return {"id": task_id, **made, "dynamic": task_id in graph.growth.dynamic}


# -- operations as data ------------------------------------------------------------------------------------------------


def operations_to_data(operations: Iterable[Operation], task_id: str) -> list[list[Any]]:
    """Channel operations as JSON data: `[kind, key, value, expires]`, shorter where the rest is nothing.

    Raises:
        PayloadError: A value has no form.
    """
    found: list[list[Any]] = []
    for kind, key, value, expires in operations:
        if kind in _WITHOUT_VALUE:
            found.append([kind, key])
            continue
        data = value
        if not is_immediate(value):
            if isinstance(value, BaseException):
                found.append([f"{kind}_error", key, describe_error(value).to_dict(), expires])
                continue
            where = f"the result of task '{task_id}'"
            if key != task_id + RESULT_SUFFIX:
                where = f"a channel value of task '{task_id}', key '{key}'"
            data = kept(value, where)
        found.append([kind, key, data] if expires is None else [kind, key, data, expires])
    return found
