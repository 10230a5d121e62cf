"""The table of worker processes that beat."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from graflow_celery.record.data import WorkerInfo
from graflow_celery.record.keys import Keys
from graflow_celery.record.scripts import Scripts


class LiveWorkers:
    """Which worker processes are there, with their slots, queues and modules; all times on the clock of Redis.

    Nothing keeps two workers from having one name, so an entry is a name, a space, and what tells the two apart.
    """

    def __init__(self, scripts: Scripts, keys: Keys) -> None:
        self._scripts = scripts
        self._keys = [keys.deployment("workers"), keys.deployment("workers:info")]

    def beat(self, worker_id: str, info: Mapping[str, Any], *, ttl: float = 30.0) -> list[str]:
        """Enter or refresh one entry, and drop all that have been silent for `ttl` seconds; returns those."""
        text = json.dumps(dict(info), separators=(",", ":"), default=str)
        dropped: list[bytes] = self._scripts.run("workers", self._keys, ["beat", worker_id, text, round(ttl * 1000)])
        return [silent.decode() for silent in dropped]

    def forget(self, worker_id: str) -> None:
        self._scripts.run("workers", self._keys, ["forget", worker_id])

    def seen(self, within: float = 30.0) -> list[WorkerInfo]:
        """Workers whose last beat is at most `within` seconds old, the most silent first."""
        return [
            WorkerInfo(
                worker_id=worker_id.decode().partition(" ")[0],
                seen_at=float(seen_at) / 1000,
                age=(time - float(seen_at)) / 1000,
                info=json.loads(info),
            )
            for worker_id, seen_at, time, info in self._scripts.run(
                "workers", self._keys, ["list", round(within * 1000)]
            )
        ]
