"""Where operators record: the graph of the workflow that is being written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from graflow.core.graph import TaskGraph
from graflow.protocols import upward


class GraphScope:
    """Where operators record: a graph, and whether tasks enter it as soon as they are created.

    Args:
        graph: The graph.
        registers_on_creation: Whether tasks enter it at once, or when an operator uses them.
        unused: Takes groups over data, which wait for an operator in any case.
        is_implicit: Whether an operator outside any workflow made the graph, and nobody has asked for it yet.
    """

    __slots__ = ("graph", "is_implicit", "registers_on_creation", "unused")

    def __init__(
        self,
        graph: TaskGraph,
        *,
        registers_on_creation: bool,
        unused: list[Any] | None = None,
        is_implicit: bool = False,
    ) -> None:
        self.graph = graph
        self.registers_on_creation = registers_on_creation
        self.unused = [] if unused is None else unused
        self.is_implicit = is_implicit


_scope: ContextVar[GraphScope | None] = ContextVar("graflow_scope", default=None)


def current_scope() -> GraphScope | None:
    """The scope that operators record into now, or None."""
    return _scope.get()


def ensure_scope() -> GraphScope:
    """The current scope; an anonymous workflow becomes current when there is none."""
    scope = _scope.get()
    if scope is None:
        made: GraphScope = upward.scope()
        return made
    return scope


def set_scope(scope: GraphScope | None) -> None:
    _scope.set(scope)


@contextmanager
def recording_into(scope: GraphScope | None) -> Iterator[None]:
    """Make `scope` the current one for the length of the block; none when None."""
    token = _scope.set(scope)
    try:
        yield
    finally:
        _scope.reset(token)
