"""What the engine notes of one execution of one task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from graflow.channels.attempt import AttemptChannel
from graflow.protocols import Node
from graflow.queue.base import TaskSpec


class Control(IntEnum):
    """What a task asked of the engine, weakest first."""

    NORMAL = 0
    GOTO = 1
    TERMINATE = 2
    CANCEL = 3


@dataclass
class Interrupted:
    """What an execution that was cut short had asked for; its entries are in the saved queue.

    Attributes:
        queued: Ids of the tasks that it had queued.
        born: Those of them that it had added to the graph.
    """

    queued: list[str]
    born: list[str]


class Frame:
    """One execution of one task, as far as the run has to know.

    Attributes:
        task: The task itself.
        task_result: Its value.
        birth_mark: The age of the graph when the execution began.
        control: The strongest request that it has made of the engine.
        is_iterating: Whether it asked for another pass of itself.
        is_abandoned: Whether nobody waits for this execution any more, although it still runs.
        queued: Entries that it queued, withdrawn when it fails.
        born: Tasks that it added to the graph of its run, removed when it fails.
        repeats: What an interrupted execution that this one repeats had asked for.
        exits: For a group, edges out of its members' branches to follow.
        jumped: For a group, nodes that its members jumped to.
        depth: How many tasks of the run called one another around this execution; None before and after it runs.
        layer: What it wrote to the channel, once it has asked for that.
        keeps_given: Whether the arguments of the call are kept, for whoever writes the run down.
        given: These, by name.
        asked: Questions that it has asked people.
    """

    task: Any = None
    task_result: Any = None
    control: int = 0
    is_iterating: bool = False
    is_abandoned: bool = False
    queued: list[TaskSpec] | None = None
    born: list[Node] | None = None
    repeats: Interrupted | None = None
    exits: list[tuple[str, str]] | None = None
    jumped: set[str] | None = None
    depth: int | None = None
    layer: AttemptChannel | None = None
    keeps_given: bool = False
    given: Mapping[str, Any] | None = None
    asked: int = 0

    def __init__(self, task_id: str, birth_mark: int = 0) -> None:
        self.task_id = task_id
        self.birth_mark = birth_mark

    def abandon(self) -> None:
        """Nobody waits for this execution any more, although it still runs: what it asks and writes does not count."""
        self.is_abandoned = True
        if self.layer is not None:
            self.layer.close()

    def note_born(self, task: Node) -> None:
        """Remember a task that this execution added to the graph of its run."""
        if self.born is None:
            self.born = []
        self.born.append(task)

    def note_queued(self, spec: TaskSpec) -> None:
        """Remember an entry that this execution queued."""
        if self.queued is None:
            self.queued = []
        self.queued.append(spec)

    def adopt(self, inner: Frame) -> None:
        """Make the requests of a task that this one called its own."""
        self.control = max(self.control, inner.control)
        if inner.queued:
            self.queued = [*(self.queued or ()), *inner.queued]
        if inner.born:
            self.born = [*(self.born or ()), *inner.born]
