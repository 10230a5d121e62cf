"""Tasks that the workers of the benchmarks run by reference."""

from __future__ import annotations

import os
from functools import cache

from graflow import task


@task
def noop(number: int) -> int:
    return number


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
