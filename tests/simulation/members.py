"""The tasks of the simulated groups. What they do is up to the world that they run in."""

from __future__ import annotations

from typing import Any, Protocol

from graflow import task
from graflow.core.retry import RetryPolicy

TIME_LIMIT = 5.0


class Work(Protocol):
    def member(self, index: int) -> int | bytes: ...

    def total(self, values: list[Any]) -> int: ...

    def report(self, values: list[Any]) -> list[Any]: ...


class _Current:
    work: Work | None = None


def set_work(work: Work | None) -> None:
    """Say what the tasks do from now on."""
    _Current.work = work


def _work() -> Work:
    assert _Current.work is not None
    return _Current.work


@task
def member(index: int) -> int | bytes:
    return _work().member(index)


@task(retry_policy=RetryPolicy(max_retries=3, initial_interval=5.0))
def persistent(index: int) -> int | bytes:
    return _work().member(index)


@task(options={"time_limit": TIME_LIMIT})
def limited(index: int) -> int | bytes:
    return _work().member(index)


@task
def report(values: list[Any]) -> list[Any]:
    return _work().report(values)


@task
def report_nested(first: list[Any], second: list[Any]) -> list[Any]:
    return _work().report([first, second])


@task
def total(values: list[Any]) -> int:
    return _work().total(values)
