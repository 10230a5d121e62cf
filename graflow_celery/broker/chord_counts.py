"""The Redis client with which Celery counts the messages of a chord: it takes no connection of its own."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

import redis

from graflow.redis.kept_connections import kept_connection


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
        """Commands one after the other: a pipeline would take a second connection for the one command of a chord."""
        return _OneByOne(self)


class _OneByOne:
    """What Celery does with a pipeline for chords: note commands, and have their answers in a list."""

    def __init__(self, client: ChordClient) -> None:
        self._client = client
        self._answers: list[Any] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._answers.clear()

    def __getattr__(self, name: str) -> Any:
        def send(*arguments: Any, **options: Any) -> _OneByOne:
            self._answers.append(getattr(self._client, name)(*arguments, **options))
            return self

        return send

    def execute(self) -> list[Any]:
        answers, self._answers = self._answers, []
        return answers
