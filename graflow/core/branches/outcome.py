"""What a member drags along, what its tasks ask of the run, and what came of it: plain data for every border."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from graflow.channels.branch import ChannelWrite
from graflow.core.handler import TaskResult
from graflow.core.nodes.executable import Executable
from graflow.encoding.errors_as_data import message_of
from graflow.hearing.words import Line


@dataclass(frozen=True)
class OpenQuestion:
    """A question that nobody has answered in time.

    Attributes:
        feedback_id: Its id.
        task_id: The task that asked.
        timeout: Seconds that it waited.
    """

    feedback_id: str
    task_id: str
    timeout: float

    def to_dict(self) -> dict[str, Any]:
        """Its parts as JSON data."""
        return dict(vars(self))


@dataclass
class Requests:
    """What the tasks of a run, or of a branch, have asked for that somebody else has to do.

    Attributes:
        nodes: Nodes that tasks added, each with the task that asked for it, if one did.
        passes: Those of them that are passes of loops, with the task that each is a pass of.
        exits: Edges that were followed to nodes of an outer run.
        jumps: Nodes of an outer run that tasks jumped to.
        message: The text of the last request to end the run.
        terminated: The message of a task that ended the workflow normally.
        checkpoint: Metadata and path of a checkpoint that was asked for and is not written yet.
        waiting: Questions to people that have no answer, and that a task waits for: id, task, and seconds waited.
    """

    nodes: list[tuple[str, list[str]]] = field(default_factory=list)
    passes: dict[str, str] = field(default_factory=dict)
    exits: list[tuple[str, str]] = field(default_factory=list)
    jumps: list[str] = field(default_factory=list)
    message: str | None = None
    terminated: str | None = None
    checkpoint: dict[str, Any] | None = None
    waiting: list[OpenQuestion] = field(default_factory=list)

    def is_empty(self) -> bool:
        """Whether nothing is left to do for others."""
        return not (self.nodes or self.exits or self.jumps or self.waiting or self.checkpoint is not None)

    def withdraw_nodes(self, task_ids: list[str]) -> None:
        """Forget nodes that a failed execution added."""
        self.nodes = [node for node in self.nodes if node[0] not in task_ids]

    def __getstate__(self) -> dict[str, Any]:
        # Copies, since other threads may go on changing what they write into.
        return {name: value.copy() if type(value) in (list, dict) else value for name, value in self.__dict__.items()}


@dataclass
class BranchOutcome:
    """What the branch of one member, here or on a worker, tells the run around it; plain data.

    Attributes:
        task_id: The member.
        success: Whether the member and everything in its branch succeeded.
        value: The member's own value.
        error: Why the branch failed.
        duration: Seconds.
        timestamp: When the branch ended, in seconds since the epoch.
        results: Value or exception of every task of the branch, in order of completion.
        completed: Ids of the tasks that completed, in order.
        steps: How many tasks completed.
        cycle_counts: Executions of each task of the branch.
        retry_counts: Retries of each task of the branch.
        writes: What the branch wrote to the channel, results aside; taken over when it succeeded.
        canceled: Whether a task of the branch cancelled the workflow.
        cancel_message: The message of that task.
        cancel_task_id: The id of that task.
        retry_in: Seconds after which the member is to be run again from its beginning, since it failed and its wait is
            left to whoever ran it; this is no outcome yet then.
        requests: What the branch asked of the run.
        facts: What is to be recorded of the member besides what it did; stays in this process.
        losses: Executions of the member before this one that were lost with their worker.
        said: What it printed and logged, where that is kept: on workers.
        ended: When the branch ended, on the steady clock of this process and as far as it knows: what lives for a while
            ages by it, since the wall clocks of two machines differ.
    """

    task_id: str
    success: bool
    value: Any = None
    error: BaseException | None = None
    duration: float = 0.0
    timestamp: float = 0.0
    results: list[tuple[str, Any]] = field(default_factory=list)
    completed: list[str] = field(default_factory=list)
    steps: int = 0
    cycle_counts: dict[str, int] = field(default_factory=dict)
    retry_counts: dict[str, int] = field(default_factory=dict)
    writes: list[ChannelWrite] = field(default_factory=list)
    canceled: bool = False
    cancel_message: str | None = None
    cancel_task_id: str | None = None
    retry_in: float | None = None
    requests: Requests = field(default_factory=Requests)
    losses: int = 0
    said: list[Line] = field(default_factory=list)
    facts: Mapping[str, Any] | None = None
    ended: float = field(default_factory=time.monotonic, compare=False, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "ended"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, ended=time.monotonic())

    def merged(self) -> BranchOutcome:
        """What is left to take over once results, counts and writes are in the books of the run."""
        requests = replace(self.requests, nodes=[])
        return replace(
            self, completed=[], steps=0, cycle_counts={}, retry_counts={}, writes=[], requests=requests, said=[]
        )

    def without_others(self, is_other: Callable[[str], bool]) -> BranchOutcome:
        """The same without what tasks of the branch's own making did under ids of other members, as in recursion.

        Args:
            is_other: Whether an id is that of another task; not asked of the member's own.
        """
        named = {task_id for task_id, _ in self.results}.union(self.completed, self.cycle_counts, self.retry_counts)
        others = {task_id for task_id in named - {self.task_id} if is_other(task_id)}
        if not others:
            return self
        return replace(
            self,
            results=[(task_id, value) for task_id, value in self.results if task_id not in others],
            completed=[task_id for task_id in self.completed if task_id not in others],
            cycle_counts={task_id: count for task_id, count in self.cycle_counts.items() if task_id not in others},
            retry_counts={task_id: count for task_id, count in self.retry_counts.items() if task_id not in others},
        )

    @property
    def over(self) -> set[str]:
        """Ids of the passes of loops that others followed: nothing is known of them but that they completed."""
        known = {task_id for task_id, _ in self.results}
        return {task_id for task_id in self.completed if task_id not in known and task_id in self.requests.passes}

    @property
    def failed(self) -> list[str]:
        """Ids of the tasks whose last execution failed."""
        errors = [task_id for task_id, value in self.results if isinstance(value, BaseException)]
        if not errors:
            return errors
        completed = {*self.completed}
        return [task_id for task_id in errors if task_id not in completed]

    def as_result(self) -> TaskResult:
        """What policies and listeners see of it."""
        result = TaskResult(
            self.task_id,
            self.success,
            error=self.error,
            error_message=None if self.error is None else message_of(self.error),
            duration=self.duration,
            timestamp=self.timestamp,
        )
        if self.error is not None:
            failed = self.failed
            result.failed_at = failed[-1] if failed and self.task_id not in failed else None
        return result


@dataclass(frozen=True)
class Branch:
    """What a member drags along.

    Attributes:
        member: The member itself.
        index: Its place in the group.
        tasks: All nodes that belong to its branch by id, the member first.
        edges: Edges that start in the branch, those that leave it included.
        cycle_counts: Executions so far of the tasks in the branch.
    """

    member: Executable
    index: int
    tasks: dict[str, Executable]
    edges: list[tuple[str, str]]
    cycle_counts: dict[str, int]
