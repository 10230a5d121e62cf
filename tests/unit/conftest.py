from __future__ import annotations

import gc
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


@pytest.fixture(scope="module")
def thawed() -> Iterator[None]:
    """What the tests of a module have hidden from the garbage collector is its own again."""
    yield
    gc.unfreeze()


@pytest.fixture
def only_new_objects(thawed: None) -> None:
    """The garbage collector no longer looks at what there was before, of which there is much after other tests."""
    gc.collect()
    gc.freeze()
