"""Queues by name."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

from graflow.core.graph import TaskGraph
from graflow.exceptions import ConfigError
from graflow.queue.base import TaskQueue
from graflow.queue.memory import InMemoryTaskQueue

_PLUG_INS = "graflow.queues"


class TaskQueueFactory:
    """Makes queues for coordinators, workers and tests; an execution context never asks it."""

    @staticmethod
    def create(backend: str, **config: Any) -> TaskQueue:
        """A queue by backend name: `in_memory`, or `redis` where graflow-celery is installed.

        Raises:
            ConfigError: Naming the known backends, or the install line of a missing one.
        """
        name = str(getattr(backend, "value", backend)).lower()
        if name == "in_memory":
            return InMemoryTaskQueue(config.pop("execution_context", None), **config)
        found = entry_points(group=_PLUG_INS, name=name)
        if found:
            made: TaskQueue = next(iter(found)).load()(**config)
            return made
        if name == "redis":
            raise ConfigError("The 'redis' queue comes with graflow-celery: pip install graflow-celery")
        known = ["in_memory", *sorted(entry_points(group=_PLUG_INS).names)]
        raise ConfigError(f"Unknown queue backend {backend!r}; known are {', '.join(known)}")

    @staticmethod
    def in_memory(graph: TaskGraph | None = None) -> InMemoryTaskQueue:
        """An in-memory queue over a graph, for tests."""
        return InMemoryTaskQueue(_GraphOnly(graph))


class _GraphOnly:
    """The part of an execution context that an in-memory queue looks at."""

    def __init__(self, graph: TaskGraph | None) -> None:
        self.graph = graph
