"""Tasks that the workers of the benchmarks run by reference."""

from __future__ import annotations

import os
import time
from functools import cache

from graflow import task


@task
def noop(number: int) -> int:
    return number


@task
def nap(number: int) -> int:
    time.sleep(0.01)
    return number


@task
def now_and_then(number: int) -> int:
    """Every sixty-fourth of them takes a second."""
    if number % 64 == 0:
        time.sleep(1.0)
    return number


@task
def total(numbers: list[int]) -> int:
    return sum(numbers)


@cache
def noise_of(size: int) -> bytes:
    """Random bytes, made once per process."""
    return os.urandom(size)


@task
def noise(number: int, size: int) -> bytes:
    return noise_of(size + 100)[number : number + size]


@task
def text(number: int, size: int) -> str:
    return f"{number:016}" * (size // 16)


@task
def length(_number: int, value: bytes | str) -> int:
    return len(value)
