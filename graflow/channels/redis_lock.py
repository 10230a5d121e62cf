"""A lock in Redis: a key with its holder's token, which ends by itself when the holder's process has died."""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable
from contextlib import ExitStack
from itertools import count
from typing import Any

from graflow.channels.leases import lease_keeper
from graflow.channels.locks import KeyLocks, LockBlock
from graflow.redis.clients import load_redis
from graflow.redis.scripts import Script
from graflow.text.shown import get_logger

_log = get_logger(__name__)

_acquire = Script.of(__package__, "acquire_lock")
_extend = Script.of(__package__, "extend_lock")
_release = Script.of(__package__, "release_lock")

_SHORTEST_NAP, _LONGEST_NAP = 0.001, 0.025  # seconds between two attempts at a lock that somebody else holds


class RedisLock:
    """One attempt to hold one lock.

    Args:
        execute: Sends one command with the client of the calling process.
        key: The key in Redis.
        lease: Seconds after which the lock ends unless it is renewed.
    """

    def __init__(self, execute: Callable[..., Any], key: str, lease: float) -> None:
        self._execute = execute
        self._key = key
        self._lease = lease
        self._token = secrets.token_hex(16)
        self._kept = ExitStack()

    def take(self) -> bool:
        """Take the lock if it is free, and renew it from then on."""
        if not _acquire.run(self._execute, (self._key,), self._token, self._milliseconds):
            return False
        self._kept.enter_context(lease_keeper.keep(self._lease / 3, self._renew))
        return True

    def wait(self, deadline: float) -> bool:
        """Take the lock, waiting for it until `deadline` on the monotonic clock; whether it was had."""
        for attempt in count():
            if self.take():
                return True
            left = deadline - time.monotonic()
            if left <= 0:
                break
            longest = min(_SHORTEST_NAP * 2 ** min(attempt, 10), _LONGEST_NAP)
            # Uneven, so that those who wait do not come in step.
            time.sleep(min(left, longest * random.uniform(0.5, 1)))  # noqa: S311 - nothing secret
        return False

    def release(self) -> None:
        """Stop renewing and give it back."""
        self._kept.close()
        try:
            held = _release.run(self._execute, (self._key,), self._token)
        except load_redis().RedisError as error:
            # What it protected is done; the lock ends by itself.
            _log.warning("The lock %s could not be released and ends within %s s: %s", self._key, self._lease, error)
            return
        if not held:
            _log.warning("The lock %s was no longer held when it was released", self._key)

    @property
    def _milliseconds(self) -> int:
        return max(1, round(self._lease * 1000))

    def _renew(self) -> bool:
        try:
            held = _extend.run(self._execute, (self._key,), self._token, self._milliseconds)
        except load_redis().RedisError as error:
            _log.warning("The lock %s could not be extended and is tried again: %s", self._key, error)
            return True
        if not held:
            _log.warning("The lock %s was lost while it was held: it expired or was removed", self._key)
        return bool(held)


class RedisLockBlock(LockBlock):
    """A block under a lock in Redis; within one process its waiters queue here, so that one of them asks the server."""

    def __init__(self, lock: RedisLock, locks: KeyLocks, owner: str, key: str, timeout: float) -> None:
        super().__init__(owner, key, timeout)
        self._lock = lock
        self._locks = locks
        self._is_outermost = False

    def wait(self, deadline: float) -> bool:
        return self._confirmed(self._locks.wait(self.key, deadline), lambda: self._lock.wait(deadline))

    def take(self) -> bool:
        return self._confirmed(self._locks.take(self.key), self._lock.take)

    def _confirmed(self, depth: int, ask: Callable[[], bool]) -> bool:
        """Whether the lock is had, after the one of this process is (`depth` times)."""
        if depth != 1:
            return depth > 1
        is_had = False
        try:
            is_had = self._is_outermost = ask()
        finally:
            if not is_had:
                self._locks.release(self.key)
        return is_had

    def release(self) -> None:
        try:
            if self._is_outermost:
                self._is_outermost = False
                self._lock.release()
        finally:
            self._locks.release(self.key)
