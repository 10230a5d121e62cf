"""After every test with a server: each key that is left has a time to live, or is on the list below."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import redis

from graflow_celery.record.keys import GLOBAL_KEYS, RUN_KEYS

LIST: Final = {
    "a deployment's own keys": rf".+:({'|'.join(GLOBAL_KEYS)})",
    "what Celery's broker keeps: bindings of its queues, and messages that nobody has taken": r".+:broker:.+",
    "values that a test puts into a channel of its own, with a short name": r"graflow:channel:[^:]{1,9}:[^:]+",
    "the time of clocked scripts": r"test:now",
}
"""Why a key may stay, and what it looks like. A run that is open has its keys as well."""

_ALLOWED: Final = re.compile("|".join(LIST.values()))


def lasting_keys(client: redis.Redis) -> list[str]:
    """Keys without a time to live that are not on the list."""
    keys: Any = [key for key in client.scan_iter(count=1000) if client.pttl(key) == -1]
    allowed = set(_of_open_runs(client, keys))
    names = [key.decode(errors="replace") for key in keys]
    return sorted(name for name in names if name not in allowed and not _ALLOWED.fullmatch(name))


def _of_open_runs(client: redis.Redis, keys: list[bytes]) -> Iterator[str]:
    for key in keys:
        prefix, _, name = key.decode(errors="replace").rpartition(":")
        if name == "open" and client.type(key) == b"zset":
            runs: Any = client.zrange(key, 0, -1)
            yield from (f"{prefix}:{run.decode()}:{kind}" for run in runs for kind in RUN_KEYS)
