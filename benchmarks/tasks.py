"""Tasks that the workers of the benchmarks run by reference."""

from __future__ import annotations

from graflow import task


@task
def noop(number: int) -> int:
    return number
