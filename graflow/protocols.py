"""The shapes that lower floors need of higher ones, and the one table through which they look upwards."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    import networkx as nx


MISSING: Final[Any] = type("Missing", (), {"__repr__": lambda _: "MISSING"})()
"""What an argument is when it was not given, where None is a value like others."""


class Unit(Protocol):
    """Something with an id that can be run: all that coordination and policies know of a task."""

    @property
    def task_id(self) -> str: ...


class Node(Unit, Protocol):
    """A node of a graph as handlers, listeners and resolvers see it: a task, a group, or an `Executable` of a user."""

    handler_type: str

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Run it once."""

    def set_execution_context(self, context: Any) -> None:
        """Tell it the run that it belongs to."""


class MemberInfo(Protocol):
    """What a member of a group may ask about its own execution."""

    run_id: str
    index: int
    attempt: int

    def is_cancelled(self) -> bool: ...

    def progress(self, done: float, total: float | None = None, message: str | None = None) -> None: ...


class GroupRunLike(Protocol):
    """One execution of a group, as coordinators see it."""

    group_id: str
    members: Sequence[Any]

    @property
    def canceled(self) -> bool:
        """Whether no further member may be started."""

    @property
    def has_enough(self) -> bool:
        """Whether members that run are not waited for any more."""

    def judge_by(self, policy: object) -> None:
        """Ask this policy after each member that ends whether it has seen enough."""

    def pending(self) -> list[int]:
        """Indices of the members that have not ended."""

    def run(self, index: int) -> Any:
        """Run a member here and record its outcome; its own failure raises nothing."""

    recalled: set[int]

    def recall(self) -> None:
        """Give members that are to be sent elsewhere what is kept of them."""

    def can_start(self, index: int) -> bool:
        """Whether a member is a coroutine that needs no thread, and `start` can run it."""

    def start(self, index: int, ended: Callable[[BaseException | None], None]) -> None:
        """As `run`, on the event loop of the run; returns at once, and `ended` is called there."""

    def finished_count(self) -> int:
        """How many members have ended."""

    def close(self, policy: object) -> None:
        """Take over what the members did, and apply the policy."""


class GroupContext(Protocol):
    """The part of an execution context that coordination uses."""

    def open_group(self, group_id: str, tasks: Sequence[Any]) -> GroupRunLike:
        """Begin an execution of a group, or go on with an interrupted one."""


class HasGraph(Protocol):
    """The part of a run that a queue in memory looks at."""

    @property
    def graph(self) -> Any: ...


class Run(GroupContext, HasGraph, Protocol):
    """A run, or the branch of one, as tasks, handlers, listeners and the members of groups see it.

    What lies on higher floors (graph, channel, tracer, engine) is left open here.
    """

    max_steps: int
    _task_execution_stack: list[Any]

    @property
    def session_id(self) -> str: ...

    @property
    def trace_id(self) -> str: ...

    @property
    def workflow_name(self) -> str | None: ...

    @property
    def start_node(self) -> str | None: ...

    @property
    def steps(self) -> int: ...

    @property
    def config(self) -> Mapping[str, Any]: ...

    @property
    def channel(self) -> Any: ...

    @property
    def channel_for_reading(self) -> Any: ...

    @property
    def tracer(self) -> Any: ...

    @property
    def engine(self) -> Any:
        """What runs it now; None outside an execution."""

    @property
    def cycle_controller(self) -> Any: ...

    @property
    def retry_controller(self) -> Any: ...

    @property
    def parent_context(self) -> Run | None: ...

    @property
    def root(self) -> Run: ...

    @property
    def member(self) -> MemberInfo | None: ...

    @property
    def flow(self) -> Any:
        """What its tasks may ask about the flow that it is a run of."""

    @property
    def current_task_context(self) -> Any: ...

    @property
    def completed_tasks(self) -> list[str]: ...

    def has_completed(self, task_id: str) -> bool:
        """Whether the task has completed in this run, or in the run this one is a branch of."""

    def set_result(self, task_id: str, result: Any) -> None:
        """Store the value of a task, or the exception it failed with."""

    def get_result(self, task_id: str, default: Any = None) -> Any:
        """What `set_result` stored last; `default` when there is nothing."""

    def get_results(self, task_ids: Sequence[str]) -> list[Any]:
        """As `get_result` for many tasks; None where there is nothing."""

    def executing_task(self, task: Any) -> AbstractContextManager[Any]:
        """A block in which `task` is the running one; yields its task context."""


class Holding(Protocol):
    """Something that a run came to hold, such as a lock, and keeps until its execution ends.

    Attributes:
        error: Why the run must not go on, once that is known.
    """

    error: Exception | None

    def check(self) -> None:
        """Raise `error` when the run must not take another step; called before each one."""

    def release(self) -> None:
        """Give it up; raises nothing that depends on others."""


class DataNode(NamedTuple):
    """A kind of node that is data only, and therefore travels without a reference and without a signature.

    Attributes:
        types: The exact classes it stands for.
        take: Makes the payload from a node; its second argument puts an inner task into an envelope (as a dict).
        make: Makes the node from a payload; its second argument resolves an inner envelope.
    """

    types: tuple[type, ...]
    take: Callable[[Any, Callable[[Any], dict[str, Any]]], Mapping[str, Any]]
    make: Callable[[Mapping[str, Any], Callable[[Mapping[str, Any]], Any]], Any]


class Upward:
    """What lower floors need of higher ones, by contract; filled when `graflow` is imported.

    Attributes:
        context: Makes a temporary in-memory execution context (a task that runs on its own).
        engine: Makes a workflow engine (`ExecutionContext.execute`).
        scope: Makes an anonymous workflow and returns its graph scope (operators outside any workflow).
        checkpoint: Writes a checkpoint of a context.
        draw: Draws a `DiGraph` as text (`str(graph)`).
        registry: The process-wide resolver registry (`TaskSpec.serialized`).
        group_executor: What runs the members of a group: `graflow.core.task.GroupExecutor`, where tests replace it.
        data_nodes: The kinds of nodes that are data only, by the strategy that their envelopes name.
    """

    context: Callable[[], Any]
    engine: Callable[[], Any]
    scope: Callable[[], Any]
    checkpoint: Callable[..., Any]
    draw: Callable[[nx.DiGraph[str]], str]
    registry: Callable[[], Any]
    group_executor: Callable[[], Any]
    data_nodes: Mapping[str, DataNode]


upward = Upward()
