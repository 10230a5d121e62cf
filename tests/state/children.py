"""Forked processes for tests of stores: cheap, and they show whether a store survives a fork."""

from __future__ import annotations

import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable
from typing import Any

_CONTEXT = multiprocessing.get_context("fork")


def in_children(count: int, work: Callable[[int], Any], timeout: float = 60.0) -> list[Any]:
    """What `work` returns for each number, called in a process of its own, all at the same moment."""
    meeting = _CONTEXT.Barrier(count)
    answers: Any = _CONTEXT.SimpleQueue()

    def live(number: int) -> None:
        try:
            meeting.wait(30)
            answers.put((number, work(number), None))
        except BaseException:
            answers.put((number, None, traceback.format_exc()))

    children = [_CONTEXT.Process(target=live, args=(number,), daemon=True) for number in range(count)]
    for child in children:
        child.start()
    found = dict[int, Any]()
    for _ in children:
        number, answer, trouble = answers.get()
        assert trouble is None, trouble
        found[number] = answer
    for child in children:
        child.join(timeout)
        assert child.exitcode == 0, f"child ended with {child.exitcode}"
    return [found[number] for number in range(count)]


def killed_after(work: Callable[[], Any]) -> None:
    """Run `work` in a process that is killed with -9 as soon as it returns."""

    def live() -> None:
        work()
        os.kill(os.getpid(), signal.SIGKILL)

    child = _CONTEXT.Process(target=live, daemon=True)
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL, f"child ended with {child.exitcode}"


def start(work: Callable[[Any], Any]) -> tuple[Any, Any]:
    """A process that runs `work` with one end of a pipe, and the other end."""
    here, there = _CONTEXT.Pipe(duplex=False)

    def live() -> None:
        here.close()
        work(there)

    child = _CONTEXT.Process(target=live, daemon=True)
    child.start()
    there.close()
    return child, here
