"""`@flow`: functions that build workflows, by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
from typing import Any, Final, ParamSpec, TypeVar, overload

from graflow.core.durable.graph_fingerprint import graph_fingerprint
from graflow.core.graph import TaskGraph
from graflow.core.handler import TaskHandler
from graflow.core.nodes.executable import Executable
from graflow.core.nodes.options import CacheOption, checked_cache
from graflow.core.workflow import WorkflowContext
from graflow.durations import LONGEST
from graflow.encoding.shapes import is_name
from graflow.exceptions import ConfigError, FlowNotFoundError, GraphCompilationError
from graflow.flows.cache.whole import Keeping
from graflow.flows.inputs import InputModel
from graflow.state.models import FlowState

DEFAULT_MAX_RECOVERIES: Final = 10
_NEAR: Final = 5
_BEGINNING: Final = "Put a task before those that begin, as in begin >> load"
_NAMING: Final = (
    'The function of a flow names its tasks: load >> price, or load(task_id="load") >> price(task_id="price", rate=2); '
    "load() runs the task at once and gives its value"
)

OnFailure = Callable[[FlowState], object]
"""Hears of the end of a flow that did not complete."""

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class FlowDefinition:
    """A flow as it is registered.

    Attributes:
        name: Its name.
        function: Builds the graph and runs nothing.
        max_recoveries: How often in a row it is taken over at the same step before it is LOST.
        timeout: Seconds from its first claim after which it has FAILED.
        concurrency: How many flows of this name run at once, in all processes.
        on_failure: Called once with a flow that FAILED or is LOST.
        cache: Whether its outcome is kept; a function of its inputs gives what counts of them.
        ttl: Seconds after which a kept outcome is computed again.
        inputs: What it takes.
    """

    name: str
    function: Callable[..., Any]
    max_recoveries: int = DEFAULT_MAX_RECOVERIES
    timeout: float | None = None
    concurrency: int | None = None
    on_failure: OnFailure | None = None
    cache: CacheOption | None = None
    ttl: float | None = None
    inputs: InputModel = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs", InputModel(self.name, self.function))

    @property
    def keeping(self) -> Keeping | None:
        """How its outcome is kept; None where it is not."""
        return None if self.cache is None else Keeping(self.function, self.inputs, self.cache, self.ttl)

    @property
    def handlers(self) -> Mapping[str, TaskHandler]:
        """Handlers of its own: none."""
        return {}

    def build(self, stored: Mapping[str, Any]) -> tuple[TaskGraph, str]:
        """The graph for inputs in their stored form, and where a run of it starts.

        Raises:
            FlowInputError: When the inputs fit the signature no more.
            GraphCompilationError: When there are no tasks, or not exactly one start node.
        """
        positional, named = self.inputs.arguments(stored)
        with WorkflowContext(self.name) as made:
            try:
                returned = self.function(*positional, **named)
            except TypeError as error:
                if not _is_of_operator(error):
                    raise
                raise GraphCompilationError(f"Flow '{self.name}': {error}. {_NAMING}") from error
            if isinstance(returned, Executable) and made.graph.is_empty:
                returned.register_in(made.graph)  # a flow of one step, which no operator has recorded
        chosen = returned if isinstance(returned, WorkflowContext) else made
        if chosen.has_no_tasks:
            raise GraphCompilationError(f"Flow '{self.name}' has no tasks. {_NAMING}")
        return chosen.compiled(advice=_BEGINNING)

    def fingerprint(self, graph: TaskGraph) -> Mapping[str, Any]:
        """What the graph is compared by."""
        return graph_fingerprint(graph)

    def place(self) -> tuple[str, str]:
        """Where its function stands, which stays when a module is loaded again."""
        return self.function.__module__, self.function.__qualname__


def _is_of_operator(error: TypeError) -> bool:
    """Whether values were joined as tasks are; Python itself says so in its words."""
    return str(error).startswith(("unsupported operand type(s) for >>:", "unsupported operand type(s) for |:"))


class FlowRegistry:
    """Flows by name.

    Args:
        outer: Where else to look.
    """

    def __init__(self, outer: FlowRegistry | None = None) -> None:
        self._flows: dict[str, FlowDefinition] = {}
        self._outer = outer

    def add(self, definition: FlowDefinition) -> None:
        """Register a flow.

        Raises:
            ConfigError: When another function has the name.
        """
        earlier = self._flows.get(definition.name)
        if earlier is not None and earlier.place() != definition.place():
            raise ConfigError(
                f"Two flows are called '{definition.name}': {'.'.join(earlier.place())} and "
                f"{'.'.join(definition.place())}; give one of them another name"
            )
        self._flows[definition.name] = definition

    def find(self, name: str) -> FlowDefinition | None:
        found = self._flows.get(name)
        return self._outer.find(name) if found is None and self._outer is not None else found

    def get(self, name: str) -> FlowDefinition:
        """The flow of that name.

        Raises:
            FlowNotFoundError: When there is none; near names are told.
        """
        found = self.find(name)
        if found is None:
            raise FlowNotFoundError(f"Flow {name} not found: no flow has this name{near(name, self.names())}")
        return found

    def names(self) -> list[str]:
        return sorted({*self._flows, *(self._outer.names() if self._outer is not None else ())})


def near(name: str, known: list[str]) -> str:
    """The end of a sentence about an unknown name."""
    if not known:
        return "; none is registered: import the module that has its @flow; the command line has --flows for it"
    close = difflib.get_close_matches(str(name), known, _NEAR, cutoff=0.5)
    shown = close or known[:_NEAR]
    more = "" if close or len(known) <= _NEAR else ", …"
    return f"; {'near names' if close else 'known'}: {', '.join(shown)}{more}"


default_flows: Final = FlowRegistry()
"""Flows of this process, which `@flow` registers."""


def definition_of(
    function: Callable[..., Any],
    name: str | None,
    *,
    max_recoveries: int = DEFAULT_MAX_RECOVERIES,
    timeout: float | None = None,
    concurrency: int | None = None,
    on_failure: OnFailure | None = None,
    cache: CacheOption | None = None,
    ttl: float | None = None,
) -> FlowDefinition:
    """A definition, checked.

    Raises:
        ConfigError: For what is no function, no name, no count, or no time.
    """
    if not callable(function):
        raise ConfigError(f"A flow is a function that builds a workflow, not {function!r}")
    if any(is_one(function) for is_one in (iscoroutinefunction, isgeneratorfunction, isasyncgenfunction)):
        raise ConfigError(
            f"The function of a flow builds its graph and runs nothing: {function!r} has to be a plain `def` without "
            "`yield`; tasks may be `async def`"
        )
    if name is None:
        name = getattr(function, "__name__", None)
    if not is_name(name) or not name.strip():
        raise ConfigError(f"The name of a flow is a text of 1 to 200 characters, not {name!r}")
    if isinstance(max_recoveries, bool) or not isinstance(max_recoveries, int) or max_recoveries < 0:
        raise ConfigError(f"max_recoveries is a count of takeovers, not {max_recoveries!r}")
    if timeout is not None and (
        isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout <= LONGEST
    ):
        raise ConfigError(f"timeout of flow '{name}' is seconds above 0 and up to {LONGEST}, not {timeout!r}")
    if on_failure is not None and not callable(on_failure):
        raise ConfigError(f"on_failure of flow '{name}' is a function that takes a FlowState, not {on_failure!r}")
    if concurrency is not None and (
        isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1
    ):
        raise ConfigError(f"concurrency of flow '{name}' is a count of flows from 1, not {concurrency!r}")
    cache, ttl = checked_cache(f"Flow '{name}'", cache, ttl)
    return FlowDefinition(name, function, max_recoveries, timeout, concurrency, on_failure, cache, ttl)


@overload
def flow(name: Callable[P, R]) -> Callable[P, R]: ...
@overload
def flow(
    name: str | None = None,
    *,
    max_recoveries: int = DEFAULT_MAX_RECOVERIES,
    timeout: float | None = None,
    concurrency: int | None = None,
    on_failure: OnFailure | None = None,
    cache: CacheOption | None = None,
    ttl: float | None = None,
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
def flow(
    name: Any = None,
    *,
    max_recoveries: int = DEFAULT_MAX_RECOVERIES,
    timeout: float | None = None,
    concurrency: int | None = None,
    on_failure: OnFailure | None = None,
    cache: CacheOption | None = None,
    ttl: float | None = None,
) -> Any:
    """Register a function as a flow: `@flow("document_analysis")`.

    The function builds the graph, as inside `with workflow(...)`, and runs nothing; or it returns a workflow, or its
    only task. Its signature is the model of the inputs: they are validated, and converted to its types. It stays what
    it is.

    Args:
        name: The name of the flow; the function's own by default.
        max_recoveries: How often in a row it may be taken over from processes that died at the same step; then it is
            LOST.
        timeout: Seconds from its first claim, or from that after a verb, until it has FAILED with `FlowTimeoutError`
            at its next transition; sleeps and waits count.
        concurrency: How many flows of this name run at once, in all processes that share the store; the others wait in
            the state `queued`. One that sleeps or waits for a child does not count.
        on_failure: Called with the `FlowState` of a flow that FAILED or is LOST, once, by the process that ended it;
            what it raises is logged.
        cache: Keep the outcome, and give it again to a flow of the same code and inputs, which runs nothing then. A
            function of the inputs gives what counts of them instead; None from it means that this flow's is not kept.
        ttl: Seconds after which a kept outcome is computed again; never by default.

    Raises:
        ConfigError: When another function has the name, or the signature cannot be that of a flow.
    """

    def register(function: Callable[..., Any], given: str | None) -> Callable[..., Any]:
        default_flows.add(
            definition_of(
                function,
                given,
                max_recoveries=max_recoveries,
                timeout=timeout,
                concurrency=concurrency,
                on_failure=on_failure,
                cache=cache,
                ttl=ttl,
            )
        )
        return function

    if callable(name):
        return register(name, None)
    if name is not None and not isinstance(name, str):
        raise ConfigError(f'@flow takes a name, as in @flow("document_analysis"), not {name!r}')
    return lambda function: register(function, name)
