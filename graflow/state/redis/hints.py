"""Hints between processes that have a store in one Redis: a message to all that listen."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Any

from graflow.exceptions import StoreError
from graflow.processes.per_process import PerProcess
from graflow.redis.clients import load_redis
from graflow.state.hints import Hints, until_heard
from graflow.state.redis.server import Server


class RedisHints(Hints):
    """Hints by publishing; whoever listens has one connection for that, and asks the server nothing.

    Args:
        server: Where.
        channel: The name under which they are published.
    """

    def __init__(self, server: Server, channel: str) -> None:
        self._server = server
        self._channel = channel
        self._subscriptions: PerProcess[None, Any] = PerProcess()
        self._listening: PerProcess[None, threading.Lock] = PerProcess()

    def tell(self) -> None:
        with suppress(StoreError):
            self._server.call("PUBLISH", self._channel, "")

    def wait(self, seconds: float, is_over: threading.Event) -> None:
        try:
            until_heard(seconds, is_over, self._heard)
        except (load_redis().exceptions.RedisError, OSError):
            self.close()
            is_over.wait(seconds)

    def close(self) -> None:
        with self._lock():
            for subscription in self._subscriptions.take_all():
                subscription.close()

    def _heard(self, seconds: float, is_over: threading.Event) -> bool:
        with self._lock():
            if is_over.is_set():  # and the store perhaps closed
                return False
            subscription = self._subscriptions.get(None, lambda: self._server.subscription(self._channel))
            is_hint = _is_hint(subscription.get_message(timeout=seconds))
            while subscription.get_message(timeout=0.0) is not None:
                is_hint = True
            return is_hint

    def _lock(self) -> threading.Lock:
        """Held while somebody listens, so that nobody closes what is listened to."""
        return self._listening.get(None, threading.Lock)


def _is_hint(message: Any) -> bool:
    return message is not None and message["type"] == "message"
