"""Tasks that workers of the tests import."""

from __future__ import annotations

from typing import Any

from graflow import task


@task
def noop(x: int) -> int:
    return x


@task
def double(x: int) -> int:
    return 2 * x


@task
def listing() -> list[int]:
    return [1, 2, 3]


@task
def total(shards: list[int]) -> int:
    return sum(shards)


@task
def fail(x: int) -> int:
    raise ValueError(f"no {x}")


@task
def unserialisable(x: int) -> Any:
    return object()
