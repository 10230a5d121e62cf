"""Forks that wait for what other threads are amid."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from graflow.processes import forks
from graflow.processes.forks import between_forks
from tests.support import wait_until


def _forked(is_fine: bool) -> None:
    os._exit(0 if is_fine else 1)


def _ended_well(child: int) -> bool:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@contextmanager
def _another_thread_inside(lock: threading.Lock, *, hears_of_forks: bool) -> Iterator[None]:
    """A thread that holds a lock inside the block, to the end of this one or until it sees a fork coming."""
    is_inside, leave = threading.Event(), threading.Event()

    def run() -> None:
        with between_forks(), lock:
            is_inside.set()
            wait_until(lambda: leave.is_set() or (hears_of_forks and forks._gate._forks))

    thread = threading.Thread(target=run)
    thread.start()
    assert is_inside.wait(30)
    try:
        yield
    finally:
        leave.set()
        thread.join(30)


def test_no_child_inherits_a_lock_that_is_held_inside() -> None:
    lock = threading.Lock()
    with _another_thread_inside(lock, hears_of_forks=True):
        child = os.fork()
        if not child:
            _forked(lock.acquire(blocking=False))
        assert _ended_well(child)


def test_who_comes_during_a_fork_waits_for_its_end() -> None:
    forks._gate._close()
    came = threading.Event()

    def run() -> None:
        with between_forks():
            came.set()

    thread = threading.Thread(target=run)
    thread.start()
    assert not came.wait(0.1)
    forks._gate._open()
    assert came.wait(30)
    thread.join(30)


def test_a_thread_inside_may_fork_and_so_may_its_child() -> None:
    with between_forks(), between_forks():
        child = os.fork()
        if not child:
            grandchild = os.fork()
            if not grandchild:
                _forked(is_fine=True)
            _forked(_ended_well(grandchild))
        assert _ended_well(child)
    assert not forks._gate._inside


def test_a_fork_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forks, "_PATIENCE", 0.05)
    with _another_thread_inside(threading.Lock(), hears_of_forks=False):
        child = os.fork()
        if not child:
            with between_forks():  # nobody of the parent is inside here
                _forked(is_fine=True)
        assert _ended_well(child)
