"""A lock in Redis: a key with its holder's token, which ends by itself when the holder's process has died."""

from __future__ import annotations

import logging
import random
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

from graflow.channels.leases import lease_keeper
from graflow.channels.scripts import Script
from graflow.redis.clients import load_redis

_log = logging.getLogger(__name__)

_acquire = Script("acquire_lock")
_extend = Script("extend_lock")
_release = Script("release_lock")

_SHORTEST_NAP, _LONGEST_NAP = 0.001, 0.025  # seconds between two attempts at a lock that somebody else holds


class RedisLock:
    """One attempt to hold one lock.

    Args:
        client: Gives the client of the calling process.
        key: The key in Redis.
        lease: Seconds after which the lock ends unless it is renewed.
    """

    def __init__(self, client: Callable[[], Any], key: str, lease: float) -> None:
        self._client = client
        self._key = key
        self._lease = lease
        self._token = secrets.token_hex(16)

    @contextmanager
    def held(self, deadline: float) -> Iterator[bool]:
        """Hold the lock for the length of a `with` block, renewing it; yields whether it was free in time.

        Args:
            deadline: When to give up waiting, by the monotonic clock.
        """
        if not self._wait(deadline):
            yield False
            return
        try:
            with lease_keeper.keep(self._lease / 3, self._renew):
                yield True
        finally:
            self._let_go()

    @property
    def _milliseconds(self) -> int:
        return max(1, round(self._lease * 1000))

    def _wait(self, deadline: float) -> bool:
        for attempt in count():
            if _acquire.run(self._client(), (self._key,), self._token, self._milliseconds):
                return True
            left = deadline - time.monotonic()
            if left <= 0:
                break
            longest = min(_SHORTEST_NAP * 2 ** min(attempt, 10), _LONGEST_NAP)
            # Uneven, so that those who wait do not come in step.
            time.sleep(min(left, longest * random.uniform(0.5, 1)))  # noqa: S311 - nothing secret
        return False

    def _renew(self) -> bool:
        try:
            held = _extend.run(self._client(), (self._key,), self._token, self._milliseconds)
        except load_redis().RedisError as error:
            _log.warning("The lock %s could not be extended and is tried again: %s", self._key, error)
            return True
        if not held:
            _log.warning("The lock %s was lost while it was held: it expired or was removed", self._key)
        return bool(held)

    def _let_go(self) -> None:
        try:
            held = _release.run(self._client(), (self._key,), self._token)
        except load_redis().RedisError as error:
            # What it protected is done; the lock ends by itself.
            _log.warning("The lock %s could not be released and ends within %s s: %s", self._key, self._lease, error)
            return
        if not held:
            _log.warning("The lock %s was no longer held when it was released", self._key)
