from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest


@pytest.fixture
def many_switches() -> Iterator[None]:
    """Threads take turns much more often than usual, so that they meet inside operations, not only between them."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)
