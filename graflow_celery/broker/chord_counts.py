"""The Redis client with which Celery counts the messages of a chord: it takes no connection of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import methodcaller
from types import TracebackType
from typing import Any, Self

import redis

from graflow.redis.kept_connections import kept_connection

_Command = Callable[[Any], Any]


class ChordClient(redis.Redis):
    """Sends each command over the connection that is kept for the record.

    Args:
        shared: The client of the record.
    """

    def __init__(self, shared: redis.Redis) -> None:
        super().__init__(connection_pool=shared.connection_pool)
        self._shared = shared

    def execute_command(self, *parts: Any, **options: Any) -> Any:
        return kept_connection(self._shared).execute_command(self._shared, *parts, **options)

    def pipeline(self, *_: object, **__: object) -> Any:
        """Celery reads a chord by a pipeline of one command, for which another connection would be opened."""
        return _Pipeline(self)

    def run(self, commands: Sequence[_Command]) -> list[Any]:
        """The answers of commands that belong together, in order."""
        if len(commands) == 1:
            return [command(self) for command in commands]
        with self._shared.pipeline() as pipeline:
            for command in commands:
                command(pipeline)
            return pipeline.execute()


class _Pipeline:
    """What Celery does with a pipeline for chords: note commands, and have their answers in a list."""

    def __init__(self, client: ChordClient) -> None:
        self._client = client
        self._noted: list[_Command] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._noted.clear()

    def __getattr__(self, name: str) -> Any:
        def note(*arguments: Any, **options: Any) -> _Pipeline:
            self._noted.append(methodcaller(name, *arguments, **options))
            return self

        return note

    def execute(self) -> list[Any]:
        noted, self._noted = self._noted, []
        return self._client.run(noted)
