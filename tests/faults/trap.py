"""A module that nobody may import: it leaves a mark where the environment says. Its pickle leaves one as well."""

from __future__ import annotations

import os
import pathlib
from typing import Any


def spring(mark: str) -> str:
    pathlib.Path(mark).write_text("sprung", encoding="utf-8")
    return mark


class Mine:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: str) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return spring, (self.mark,)


if "FAULT_TRAP" in os.environ:
    spring(os.environ["FAULT_TRAP"])
