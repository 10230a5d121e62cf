"""The Lua scripts beside this module."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from importlib.resources import files
from typing import Any

from graflow.redis.clients import load_redis


class Script:
    """One script, read when it is first run; it tells its keys and replies at its head."""

    def __init__(self, name: str) -> None:
        self.name = name

    @cached_property
    def text(self) -> str:
        return (files("graflow.channels") / "lua" / f"{self.name}.lua").read_text(encoding="utf-8")

    @cached_property
    def digest(self) -> str:
        # Not for safety: it is how a server names the scripts that it knows.
        return hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    def run(self, client: Any, keys: Sequence[str | bytes], *arguments: str | bytes | int) -> Any:
        """The reply, texts as bytes whatever the client's own decoding is."""
        try:
            return client.execute_command("EVALSHA", self.digest, len(keys), *keys, *arguments, NEVER_DECODE=True)
        except load_redis().exceptions.NoScriptError:  # the server has restarted or never saw it
            return client.execute_command("EVAL", self.text, len(keys), *keys, *arguments, NEVER_DECODE=True)
