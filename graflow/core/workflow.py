"""`with workflow(...)`: the definition of a workflow, and the current one."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Final, Literal, Self, overload

import networkx as nx

from graflow.core.building.scopes import GraphScope, current_scope, set_scope
from graflow.core.engine import WorkflowEngine
from graflow.core.graph import TaskGraph
from graflow.core.handler import TaskHandler, require_handler
from graflow.core.nodes.executable import Executable
from graflow.core.nodes.templates import starting_steps
from graflow.core.run.context import ExecutionContext
from graflow.core.run.ledger import DEFAULT_MAX_STEPS
from graflow.core.task import ParallelGroup
from graflow.drawing.info import show_graph_info, visualize_dependencies
from graflow.encoding.sharing import require_rereadable
from graflow.exceptions import ConfigError, GraflowError, GraflowRuntimeError, GraphCompilationError
from graflow.text.shown import listed, one_line
from graflow.trace.base import Tracer
from graflow.trace.composite import combine

_NAME_ONE: Final = "Name one with execute(start_node=...)"
_current: ContextVar[WorkflowContext | None] = ContextVar("graflow_workflow", default=None)
# What each open `with` block restores, innermost last; blocks of other threads are not seen.
_entered: ContextVar[tuple[tuple[WorkflowContext | None, GraphScope | None], ...]] = ContextVar(
    "graflow_entered", default=()
)


class WorkflowContext:
    """A named graph that tasks and operators are recorded into while it is current.

    Args:
        name: The name of the workflow.
        tracer: A listener, or several.

    Attributes:
        handlers: Handlers by type, beside `"direct"`; see `register_handler`.
        last_context: The context of the last execution, where that failed or was interrupted, else None.
    """

    def __init__(self, name: str, tracer: Tracer | Sequence[Tracer] | None = None) -> None:
        if not isinstance(name, str) or not name.strip():
            raise ConfigError(f'The name of a workflow must be text, not {name!r}; write `with workflow("name"):`')
        self.name = name
        self.tracer = combine(tracer)
        self.graph = TaskGraph()
        self.handlers: dict[str, TaskHandler] = {}
        self.last_context: ExecutionContext | None = None
        self._unused: list[Executable] = []  # groups made here that no operator has used yet

    def __enter__(self) -> Self:
        _entered.set((*_entered.get(), (_current.get(), current_scope())))
        _make_current(self)
        return self

    def __exit__(self, *_: object) -> None:
        *outer, (workflow_before, scope_before) = _entered.get() or ((None, None),)
        _entered.set(tuple(outer))
        _current.set(workflow_before)
        set_scope(scope_before)

    def add_node(self, name: str, task: Any, skip_if_exists: bool = False) -> None:
        self.graph.add_node(task, name, skip_if_exists)

    def add_edge(self, from_node: str, to_node: str) -> None:
        self.graph.add_edge(from_node, to_node)

    def rename_node(self, old_task_id: str, new_task_id: str) -> None:
        self.graph.rename_node(old_task_id, new_task_id)

    def get_next_group_name(self) -> str:
        """`ParallelGroup_<n>`, consumed by the call."""
        return self.graph.next_group_name()

    def clear(self) -> None:
        """Forget all nodes and edges."""
        self.graph.clear()

    def show_info(self) -> None:
        """Print the name, and what `show_graph_info` prints of the graph."""
        print(f"Workflow: {one_line(self.name)}")  # noqa: T201 - what it is asked for
        show_graph_info(self.graph)

    def visualize_dependencies(self) -> None:
        """Print a drawing of the graph."""
        visualize_dependencies(self.graph)

    @overload
    def execute(
        self,
        start_node: str | None = None,
        max_steps: int = DEFAULT_MAX_STEPS,
        ret_context: Literal[False] = False,
        initial_channel: Mapping[str, Any] | None = None,
    ) -> Any: ...
    @overload
    def execute(
        self,
        start_node: str | None = None,
        max_steps: int = DEFAULT_MAX_STEPS,
        *,
        ret_context: Literal[True],
        initial_channel: Mapping[str, Any] | None = None,
    ) -> tuple[Any, ExecutionContext]: ...
    @overload
    def execute(
        self,
        start_node: str | None = None,
        max_steps: int = DEFAULT_MAX_STEPS,
        *,
        ret_context: bool,
        initial_channel: Mapping[str, Any] | None = None,
    ) -> Any: ...
    def execute(
        self,
        start_node: str | None = None,
        max_steps: int = DEFAULT_MAX_STEPS,
        ret_context: bool = False,
        initial_channel: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run the workflow on a copy of its graph.

        Args:
            start_node: Id of the first task; the only node without predecessors when not given.
            max_steps: Tasks that may complete. The default is for loops: first executions are free, others count.
            ret_context: Return `(value, context)`.
            initial_channel: Written to the channel before the first task.

        Returns:
            The value of the last task that ran; of a group, the list of its members' values in member order, None at
            the places of those that failed. None when the run waits for people; `last_context` says for what.

        Raises:
            GraphCompilationError: When no start node is given and there is none, or several.
            ValueError: For an unknown start node.
            GraflowRuntimeError: When a task fails, is cancelled, or a limit is reached. `CheckpointManager` saves its
                `context`, so that a resume runs what had not succeeded.
        """
        if initial_channel is not None and not isinstance(initial_channel, Mapping):
            raise ConfigError(f"initial_channel must be a mapping of keys to values, not {initial_channel!r}")
        if (wrong := next((key for key in initial_channel or () if not isinstance(key, str)), None)) is not None:
            raise ConfigError(f"The keys of initial_channel are text, not {wrong!r}")
        require_rereadable("The value for initial_channel key", initial_channel or {})
        graph, start_node = self.compiled(start_node)
        context = ExecutionContext.create(graph, start_node, max_steps, tracer=self.tracer)
        context.workflow_name = self.name
        for key, value in (initial_channel or {}).items():
            context.channel.set(key, value)
        self.last_context = context  # stays after an interruption as well: the run can be saved
        try:
            value = WorkflowEngine(self.handlers).execute(context)
        except GraflowError as error:
            error.context = context
            error.__traceback__ = None  # what the engine did tells nobody anything
            raise
        if context.stop_reason == "waiting":
            return (None, context) if ret_context else None  # and `last_context` stays, which says what it waits for
        self.last_context = None
        last = context.ledger.last
        if value is None and isinstance(last, ParallelGroup):
            value = last.values_in(context)
        return (value, context) if ret_context else value

    @property
    def has_no_tasks(self) -> bool:
        """Whether neither an operator nor a single task has put anything into the graph."""
        return self.graph.is_empty and len(self._unused) != 1

    def compiled(self, start_node: str | None = None, *, advice: str = _NAME_ONE) -> tuple[TaskGraph, str]:
        """A copy of the graph for one run, and the id of its first task, which is found when not given.

        Args:
            start_node: That id.
            advice: What an error says that its reader may do where it is not found.

        Raises:
            GraphCompilationError: When no start node is given and there is none, or several.
        """
        if self.graph.is_empty and len(self._unused) == 1:
            self._unused[0].register_in(self.graph)
        graph = self.graph.copy()
        return graph, _only_start_node(self.name, graph, advice) if start_node is None else start_node

    def register_handler(self, handler_type: str, handler: TaskHandler) -> None:
        """Run tasks of this `handler_type` with `handler` in each execution from now on."""
        require_handler("register_handler()", handler_type, handler)
        self.handlers[handler_type] = handler

    def __repr__(self) -> str:
        return f"WorkflowContext({self.name!r}, {len(self.graph.nodes)} nodes)"


def _only_start_node(name: str, graph: TaskGraph, advice: str) -> str:
    candidates = starting_steps(graph)
    if len(candidates) == 1:
        return candidates[0]
    if graph.is_empty:
        raise GraphCompilationError(
            f"Workflow '{name}' has no tasks: make them inside its block; a group of map() joins it with >> or |"
        )
    if not candidates:
        raise GraphCompilationError(
            f"Workflow '{name}' has no start node, because each of its nodes is on a cycle or behind one: "
            f"{_a_cycle(graph)}. {advice}, or take an edge of the cycle out; nodes are {listed(graph.nodes)}"
        )
    raise GraphCompilationError(
        f"Workflow '{name}' has several start nodes: {listed(candidates)}. {advice}, or connect them"
    )


def _a_cycle(graph: TaskGraph) -> str:
    """One cycle of a graph that has some, as `a >> b >> a`."""
    edges = nx.find_cycle(graph.nx_graph())
    return " >> ".join([edges[0][0], *(target for _, target, *_ in edges)])


def workflow(name: str, tracer: Tracer | Sequence[Tracer] | None = None) -> WorkflowContext:
    """A new workflow, which is the current one inside its `with` block: tasks that are made there are its own.

    Args:
        name: For people, tracers and checkpoints.
        tracer: A listener to its runs, or several.

    Raises:
        ConfigError: For a name that is no text.

    Example:
        >>> from graflow import task, workflow
        >>> with workflow("greeting") as wf:
        ...
        ...     @task
        ...     def name() -> str:
        ...         return "Ada"
        ...
        ...     @task
        ...     def greeting(name: str, word: str) -> str:
        ...         return f"{word}, {name}!"
        ...
        ...     name >> greeting
        SequentialTask([name >> greeting])
        >>> wf.execute(initial_channel={"word": "Hello"})
        'Hello, Ada!'
    """
    return WorkflowContext(name, tracer)


def current_workflow_context() -> WorkflowContext:
    """The current workflow; an anonymous one becomes current when there is none."""
    current, scope = _current.get(), current_scope()
    if current is None:
        return _anonymous()
    if scope is not None and scope.is_implicit:
        _make_current(current)
    return current


def get_current_workflow_context(create_if_not_exist: bool = False) -> WorkflowContext | None:
    """The current workflow; None when there is none, unless an anonymous one may be made."""
    return current_workflow_context() if create_if_not_exist else _current.get()


def require_workflow_context() -> WorkflowContext:
    """The current workflow.

    Raises:
        GraflowRuntimeError: When there is none.
    """
    current = _current.get()
    if current is None:
        raise GraflowRuntimeError("No workflow is current; use `with workflow(name):`")
    return current


def set_current_workflow_context(context: WorkflowContext) -> None:
    """Make a workflow the current one, outside any `with` block.

    Raises:
        TypeError: It is none.
    """
    if not isinstance(context, WorkflowContext):
        raise TypeError(
            f"set_current_workflow_context() takes a WorkflowContext, not {context!r}; to forget the current one call "
            "clear_workflow_context()"
        )
    _make_current(context)


def clear_workflow_context() -> None:
    """Forget the current workflow."""
    _current.set(None)
    set_scope(None)


def _make_current(context: WorkflowContext) -> GraphScope:
    _current.set(context)
    scope = GraphScope(context.graph, registers_on_creation=True, unused=context._unused)
    set_scope(scope)
    return scope


def _anonymous() -> WorkflowContext:
    made = WorkflowContext(secrets.token_hex(4))
    _make_current(made)
    return made


def anonymous_scope() -> GraphScope:
    """The scope of the current workflow, or of a new anonymous one, which an operator makes without being asked for."""
    current, outer = _current.get(), current_scope()
    if current is not None and outer is None:
        return _make_current(current)
    made = WorkflowContext(secrets.token_hex(4))
    _current.set(made)
    scope = GraphScope(made.graph, registers_on_creation=True, unused=made._unused, is_implicit=True)
    set_scope(scope)
    return scope
