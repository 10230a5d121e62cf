"""The parts of a run, as the modules see it that work on several of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, Self

from graflow.channels.base import Channel
from graflow.core.branches.outcome import Requests
from graflow.core.cycle import CycleController
from graflow.core.graph import TaskGraph
from graflow.core.retry import RetryController
from graflow.core.run.agenda import Agenda
from graflow.core.run.frame import Frame
from graflow.core.run.groups import Groups
from graflow.core.run.holdings import Holdings
from graflow.core.run.ledger import Ledger
from graflow.core.run.questions import Questions
from graflow.protocols import MemberInfo, Run
from graflow.trace.base import Tracer


class RunParts(Run, Protocol):
    """A run and what it is made of.

    Attributes:
        agenda: What it has yet to do.
        ledger: What it has done.
        requests: What its tasks asked for that somebody else has to do.
        groups: Its executions of groups.
        holdings: What it holds until its execution ends.
        recording: Where it is written down step by step.
        flow: What its tasks may ask about the flow that it is a run of.
        frames: The executions of tasks that run in it now, the innermost last.
        facts: What is to be recorded of executions besides what they did, by node.
        member: What its tasks may ask about their member, when it is a branch.
        questions: What it knows of the questions that its tasks ask people; None as long as none does.
        called_by: The execution of a task of another run that it runs inside of.
    """

    agenda: Agenda
    ledger: Ledger
    requests: Requests
    groups: Groups[Any]
    holdings: Holdings
    graph: TaskGraph
    tracer: Tracer
    engine: Any
    member: MemberInfo | None
    parent_context: Self | None
    recording: Any
    flow: Any
    frames: list[Any]
    questions: Questions | None
    called_by: Any
    checkpoint_metadata: dict[str, Any]

    @property
    def feedback_manager(self) -> Any: ...

    facts: dict[str, Mapping[str, Any]] | None

    @property
    def channel_backend(self) -> str: ...

    @property
    def channel(self) -> Channel: ...

    @property
    def cycle_controller(self) -> CycleController: ...

    @property
    def retry_controller(self) -> RetryController: ...

    @property
    def current_task_context(self) -> Frame | None: ...
