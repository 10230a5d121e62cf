"""What a process makes once, and a forked child anew."""

from __future__ import annotations

import os
import signal

import pytest

from graflow.processes.per_process import PerProcess
from tests.support import at_once


@pytest.fixture
def things() -> PerProcess[str, object]:
    return PerProcess()


def test_each_key_gets_one_thing_however_many_threads_ask(things: PerProcess[str, object]) -> None:
    made = at_once(lambda number: things.get("ab"[number % 2], object), range(8))

    assert made == made[:2] * 4
    assert made[0] is not made[1]


def test_what_was_taken_is_made_anew(things: PerProcess[str, object]) -> None:
    first = things.get("a", object)

    assert things.take_all() == [first]
    assert things.get("a", object) is not first


def test_a_forked_child_begins_with_none_and_is_not_held_up(things: PerProcess[str, object]) -> None:
    first = things.get("a", object)

    # While another thread of the parent would hold the lock
    with things._lock:
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(10)
            os._exit(things.get("a", object) is first)

    assert os.waitpid(child, 0)[1] == 0
    assert things.get("a", object) is first
