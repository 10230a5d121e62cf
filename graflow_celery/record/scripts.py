"""The Lua scripts of the group record, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import redis

from graflow.redis.kept_connections import kept_connection
from graflow.redis.scripts import Script
from graflow_celery.record.data.groups import FORMAT_VERSION

LUA = Path(__file__).parent / "lua"
FREE_STANDING = frozenset({"aside", "look", "now", "owner", "workers"})
"""Scripts that read no run and need nothing of what the others share."""

ALONE = frozenset({"claim", "complete"})
"""Scripts that begin with a short way for one member that nothing has happened to."""


@cache
def source(name: str) -> str:
    """Text of one script with the shared parts in front."""
    shared = [] if name in FREE_STANDING else ["blobs", "lib", "blocks", "endings"]
    short = [f"{name}_alone"] if name in ALONE else []
    text = "\n".join(_text(part) for part in ["time", *short, *shared, name])
    # Scripts of runs have `runs` as their second key, all others the clock as their last one.
    clock = "KEYS[#KEYS]" if name in FREE_STANDING else "string.gsub(KEYS[2], 'runs$', 'clock')"
    return f"local VERSION = '{FORMAT_VERSION}'\nlocal CLOCK = {clock}\n{text}"


@cache
def _text(name: str) -> str:
    return (LUA / f"{name}.lua").read_text(encoding="utf-8")


class Scripts:
    """The scripts on one client, over a connection that is kept.

    `load` gives the text of a script by name.
    """

    def __init__(self, client: redis.Redis, load: Callable[[str], str] = source) -> None:
        self._kept = kept_connection(client)
        self.execute = partial(self._kept.execute_command, client)
        """Sends one command over that connection."""
        self._load = load
        self._known: dict[str, Script] = {}
        self._told: set[str] = set()

    def run(self, name: str, keys: Sequence[str], args: Sequence[Any]) -> Any:
        """Run a script; raises what `Script.run` raises."""
        return self._script(name).run(self.execute, keys, *args)

    def tell(self, name: str, keys: Sequence[str], args: Sequence[Any]) -> None:
        """Run a script whose answer nobody needs, without waiting for it once the server knows it."""
        if name not in self._told or not self._kept.tell("EVALSHA", self._script(name).digest, len(keys), *keys, *args):
            self.run(name, keys, args)
            self._told.add(name)

    def _script(self, name: str) -> Script:
        script = self._known.get(name)
        if script is None:
            script = self._known[name] = Script(partial(self._load, name))
        return script
