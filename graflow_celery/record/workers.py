"""The table of worker processes that beat."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from graflow.spells import is_news
from graflow.text.shown import get_logger
from graflow_celery.record.data.sweeps import WorkerBeat, WorkerInfo
from graflow_celery.record.keys import Keys
from graflow_celery.record.scripts import Scripts

_log = get_logger(__name__)

_TASKS: Final = "#tasks"  # behind the name of an entry: what that worker can run


class LiveWorkers:
    """Which worker processes are there, with their slots, queues and modules; all times on the clock of Redis.

    Nothing keeps two workers from having one name, so an entry is a name, a space, and what tells the two apart.
    """

    def __init__(self, scripts: Scripts, keys: Keys) -> None:
        self._scripts = scripts
        self._keys = [keys.deployment(name) for name in ("workers", "workers:info", "runs", "clock")]
        self._told: dict[str, str] = {}  # what each entry of this process was last entered with

    def beat(self, worker_id: str, info: Mapping[str, Any], *, ttl: float = 30.0, rest: float = 0.0) -> WorkerBeat:
        """Enter or refresh one entry, and drop all that have been silent for `ttl` seconds.

        Where no group is open the entry counts for `rest` seconds more than otherwise, unless one opens meanwhile.
        `info["tasks"]`, references of what the worker can run, is kept apart and sent once.
        """
        tasks = "\n".join(info.get("tasks", ())) or "-"
        rest_of_it = {name: value for name, value in info.items() if name != "tasks"}
        text = json.dumps(rest_of_it, separators=(",", ":"), default=str)
        is_other = self._told.get(worker_id) != text
        times = [round(ttl * 1000), round(rest * 1000)]
        call = ["beat", worker_id, text, *times, int(is_other)]
        score, rests, dropped, lacks_tasks = self._scripts.run("workers", self._keys, [*call, ""])
        if lacks_tasks:
            score, rests, _, _ = self._scripts.run("workers", self._keys, [*call, tasks])
        self._told[worker_id] = text
        return WorkerBeat(float(score), rests == 1, [silent.decode(errors="backslashreplace") for silent in dropped])

    def tasks(self, worker_ids: Sequence[str]) -> list[frozenset[str]]:
        """What each of these workers can run, as references."""
        if not worker_ids:
            return []
        fields = [worker_id + _TASKS for worker_id in worker_ids]
        found: Any = self._scripts.execute("HMGET", self._keys[1], *fields)
        return [frozenset((text or b"").decode(errors="replace").split("\n")) - {""} for text in found]

    def score(self, worker_id: str) -> float | None:
        """As the last beat answered it, unless a group has opened since then; None when the entry is gone."""
        found: Any = self._scripts.execute("ZSCORE", self._keys[0], worker_id)
        return None if found is None else float(found)

    def forget(self, worker_id: str) -> None:
        self._scripts.run("workers", self._keys, ["forget", worker_id])

    def seen(self, within: float = 30.0) -> list[WorkerInfo]:
        """Workers whose last beat is at most `within` seconds old, or that rest, the most silent first."""
        entries = self._scripts.run("workers", self._keys, ["list", round(within * 1000)])
        return [worker for entry in entries if (worker := _worker_of(*entry)) is not None]


def _worker_of(entry: bytes, seen_at: bytes, now: int, info: bytes) -> WorkerInfo | None:
    """One entry; None for what no worker has entered, which harms none of the others."""
    name = entry.decode(errors="backslashreplace").partition(" ")[0]
    try:
        found = json.loads(info)
        slots, lists = found.get("slots", 1), [found.get(key, []) for key in ("queues", "modules", "keys", "flows")]
        is_sound = isinstance(slots, int) and all(isinstance(one, list) for one in lists)
        is_sound = is_sound and all(isinstance(item, str) for one in lists for item in one)
    except (ValueError, AttributeError, RecursionError):
        is_sound = False
    if not is_sound:
        if is_news(("no worker", entry)):
            _log.warning("What worker %s tells of itself cannot be read: it is not counted", name)
        return None
    return WorkerInfo(
        worker_id=name,
        entry=entry.decode(errors="backslashreplace"),
        seen_at=min(now, float(seen_at)) / 1000,
        age=max(0.0, now - float(seen_at)) / 1000,
        info=found,
    )
