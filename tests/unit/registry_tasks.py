"""Importable tasks that the registry tests send by reference."""

from __future__ import annotations

from typing import Any

from graflow.core.decorators import task
from graflow.core.retry import RetryPolicy
from graflow.core.task import Executable, Task


@task
def double(number: int) -> int:
    return number * 2


@task("renamed", max_retries=2, options={"queue": "slow", "max_attempts": 1})
def with_options(number: int = 1, unit: Any = None) -> int:
    return number


@task(retry_policy=RetryPolicy(max_retries=3, initial_interval=0.5))
def with_policy() -> None: ...


def _plain(number: int) -> int:
    return number + 1


plus_one = task("plus")(_plain)
plus_one_patiently = task("patient", max_retries=4)(_plain)
plus_one_informed = task("informed", inject_context=True)(_plain)
marker = Task("marker", register_to_context=False)


class Steps:
    @task
    def inner() -> str:
        return "inner"


class Custom(Executable):
    @property
    def task_id(self) -> str:
        return "custom"

    def run(self, *args: Any, **kwargs: Any) -> str:
        return "custom ran"

    def __call__(self, *args: Any, **kwargs: Any) -> str:
        return self.run()


custom = Custom()
not_a_task = {"task_id": "x"}
