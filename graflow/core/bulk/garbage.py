"""Making many objects without the collector going through all of them again and again."""

from __future__ import annotations

import gc


class no_collections:  # noqa: N801 - a block, as if by `contextmanager`, at a fifth of its price
    """For what makes many objects and no garbage: collecting in the middle of it costs several times as much."""

    __slots__ = ("_is_on",)

    def __enter__(self) -> None:
        self._is_on = gc.isenabled()
        if self._is_on:
            gc.disable()

    def __exit__(self, *_: object) -> None:
        if self._is_on:
            gc.enable()
