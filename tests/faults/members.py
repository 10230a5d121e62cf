"""Tasks that the fault cases send to workers. Each execution leaves a line in a file, which no fault touches."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import time
from pathlib import Path
from typing import Any

from graflow import task
from tests.support import never, pass_time, wait_until


def note(folder: str, kind: str, index: int) -> None:
    """One line per execution; short appends to a file are atomic."""
    descriptor = os.open(Path(folder) / kind, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with contextlib.closing(os.fdopen(descriptor, "ab", buffering=0)) as file:
        file.write(f"{index} {os.getpid()} {time.time()}\n".encode())


@task
def work(item: tuple[int, str, float]) -> int:
    index, folder, seconds = item
    note(folder, "started", index)
    pass_time(seconds)
    note(folder, "finished", index)
    return index


@task
def held(item: tuple[int, str, int]) -> int:
    """The first so many end by themselves; every other one runs until the file `open` is there."""
    index, folder, free = item
    note(folder, "started", index)
    wait_until(lambda: index < free or (Path(folder) / "open").exists(), 120)
    pass_time(0.02)
    note(folder, "finished", index)
    return index


@task(inject_context=True)
def talkative(context: Any, item: tuple[int, str, float]) -> int:
    """Tells how far it is, and asks whether it is cancelled, all the time."""
    index, folder, seconds = item
    note(folder, "started", index)
    end, told = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        told += 1
        context.progress(told)
        context.is_cancelled()
        pass_time(0.05)
    note(folder, "finished", index)
    return index


@task
def poison(item: tuple[int, str, str]) -> int:
    """Member 3 kills the process that runs it, in the way that is asked for."""
    index, folder, how = item
    note(folder, "started", index)
    if index == 3:
        if how == "segfault":
            ctypes.string_at(0)
        elif how == "exit":
            os._exit(3)
        elif how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
    note(folder, "finished", index)
    return index


@task
def hog(item: tuple[int, str, float]) -> int:
    """Member 3 wants more memory than its process may have."""
    index, folder, _ = item
    note(folder, "started", index)
    if index == 3:
        limit = 1 << 30
        before = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
        try:
            bytearray(4 * limit)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, before)
    return index


@task(options={"time_limit": 2, "soft_time_limit": 60})
def endless(item: tuple[int, str, float]) -> int:
    index, folder, _ = item
    note(folder, "started", index)
    if index == 3:
        wait_until(never, 3600)
    return index


@task
def big(size: int) -> bytes:
    return os.urandom(1024) * (size // 1024)


@task
def unkeepable(index: int) -> object:
    if index == 1:
        raise UnkeepableError(index, lambda: None)
    return object() if index == 2 else index


class UnkeepableError(Exception):
    """Cannot be pickled: its second argument is a function without a name."""


@task
def total(values: list[int]) -> int:
    """The continuation of a group."""
    return sum(value for value in values if value is not None)


@task
def noted_total(values: list[int], folder: str = "") -> int:
    note(folder, "continued", 0)
    return sum(value for value in values if value is not None)


@task(inject_context=True)
def saves(context: Any, folder: str) -> str:
    """The run is saved when this has ended."""
    context.checkpoint(path=str(Path(folder) / "saved"))
    return "saved"
