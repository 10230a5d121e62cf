"""Lua scripts: sent by digest, and as text to a server that does not know them yet."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any

from graflow.redis.clients import load_redis
from graflow.redis.refusals import for_now


class Script:
    """One script, read when it is first run; it tells its keys and replies at its head.

    Args:
        read: Gives its text.
    """

    def __init__(self, read: Callable[[], str]) -> None:
        self._read = read
        self._text = self._digest = ""

    @classmethod
    def of(cls, package: str, name: str) -> Script:
        """The script `lua/<name>.lua` of a package."""
        return cls(lambda: (files(package) / "lua" / f"{name}.lua").read_text(encoding="utf-8"))

    @property
    def text(self) -> str:
        # Without the lock of a `cached_property`, which a child would inherit; read twice, it is the same.
        self._text = self._text or self._read()
        return self._text

    @property
    def digest(self) -> str:
        # Not for safety: it is how a server names the scripts that it knows.
        self._digest = self._digest or hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()
        return self._digest

    def run(self, execute: Callable[..., Any], keys: Sequence[str | bytes], *arguments: object) -> Any:
        """The reply, texts as bytes whatever the client's own decoding is.

        Args:
            execute: Sends one command, such as `client.execute_command`.
            keys: The keys that the script touches.
            arguments: Its other arguments: texts, bytes or numbers.

        Raises:
            RefusedForNowError: The server cannot run it now; nothing was changed.
        """
        try:
            try:
                return execute("EVALSHA", self.digest, len(keys), *keys, *arguments, NEVER_DECODE=True)
            except load_redis().exceptions.NoScriptError:  # the server has restarted or never saw it
                return execute("EVAL", self.text, len(keys), *keys, *arguments, NEVER_DECODE=True)
        except load_redis().exceptions.ResponseError as error:
            found = for_now(error)
            if found is None or found is error:
                raise
            raise found from error
