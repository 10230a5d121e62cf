from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest

from graflow.core.run.members.group_run import GroupRun


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


@pytest.fixture
def time_is_over(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Stop the clock of groups on threads until so many members are recorded and something else is so.

    Their time limit, of less than a thousand seconds, is over from then on, however slow the machine is.
    """
    recorded: list[object] = []
    record = GroupRun.record

    def note(*args: object) -> None:
        record(*args)  # type: ignore[arg-type]
        recorded.append(args)

    def once(members: int, when: Callable[[], bool] = lambda: True) -> None:
        clock = SimpleNamespace(monotonic=lambda: 1000.0 if len(recorded) >= members and when() else 0.0)
        monkeypatch.setattr(GroupRun, "record", note)
        monkeypatch.setattr("graflow.coordination.threading_coordinator.time", clock)

    return once
