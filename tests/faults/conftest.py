from __future__ import annotations

from typing import Any

import pytest

from tests.faults.harness import ROWS, table
from tests.lasting_keys import every_key_ends

__all__ = ["every_key_ends"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test of this folder is a fault."""
    for item in items:
        if "tests/faults/" in item.path.as_posix():
            item.add_marker(pytest.mark.fault)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if ROWS:
        terminalreporter.section("what the faults did")
        terminalreporter.write_line(table(ROWS))
