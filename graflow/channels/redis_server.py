"""The server behind a channel in Redis: its client in this process, and how long and over what it is waited for."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from inspect import iscoroutinefunction
from typing import Any, TypeVar

from graflow.redis.clients import load_redis
from graflow.redis.config import shared_client
from graflow.redis.diagnosis import told
from graflow.redis.refusals import RefusedForNowError, for_now
from graflow.runtime import persistently, this_runtime

Command = tuple[str | bytes | int, ...]
_T = TypeVar("_T")


class ChannelServer:
    """Sends commands to the server of one channel, again while it refuses them for now.

    Args:
        what: Whose server it is, for the log.
        config: The connection keys.
        client: One that the caller has, for this process; one for asyncio is of no use here.

    Attributes:
        patience: Seconds that a command waits for the server.
        waits_for: The errors that are waited out for that long.
    """

    def __init__(self, what: str, config: Mapping[str, Any], client: object = None) -> None:
        self.patience = 30.0
        self.waits_for: tuple[type[Exception], ...] = (RefusedForNowError,)
        self._what = what
        self._config = config
        self._client: Any = None if iscoroutinefunction(getattr(client, "execute_command", None)) else client
        self._process = os.getpid()

    @property
    def client(self) -> Any:
        """The client of this process, opened when it is first needed."""
        if self._client is None or self._process != os.getpid():
            self._client = shared_client(self._config, decode_responses=False)
            self._process = os.getpid()
        return self._client

    def let_go(self) -> None:
        """Drop the client, whose connections belong to others too; the next command opens one again."""
        self._client = None

    def execute(self, *command: Any, **options: Any) -> Any:
        """The reply to one command.

        Raises:
            RedisError: The server refuses it, or does not answer for longer than the patience; of redis-py's own type.
        """
        return self.granted(lambda: self.client.execute_command(*command, **options))

    def execute_all(self, commands: Sequence[Command]) -> None:
        """Send several commands in one round trip; errors as those of `execute`."""

        def send() -> None:
            pipeline = self.client.pipeline(transaction=False)
            for command in commands:
                pipeline.execute_command(*command)
            pipeline.execute()

        self.granted(send)

    def granted(self, call: Callable[[], _T]) -> _T:
        """What a call of the server gives; it is made again while the server refuses it for now."""

        def attempt() -> _T:
            try:
                return call()
            except load_redis().RedisError as error:
                if (refusal := for_now(error)) is None or refusal is error:
                    raise
                raise refusal from error  # of a client that is not ours

        try:
            return persistently(this_runtime(), attempt, patience=self.patience, over=self.waits_for, what=self._what)
        except _unreachable() as error:
            raise told(error, self._config) from error


def _unreachable() -> tuple[type[Exception], ...]:
    """What is raised for a server that does not answer, or refuses us."""
    module = load_redis().exceptions
    return module.ConnectionError, module.TimeoutError, module.InvalidResponse, RefusedForNowError
