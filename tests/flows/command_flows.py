"""Flows that tests of the command line run: `--flows tests.flows.command_flows`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from graflow import task
from graflow.flows import flow
from tests.support import wait_until


@task
def measure(number: int, folder: str = "") -> int:
    """Waits while the folder has a file `hold<number>`, and fails while it has a file `fail<number>`."""
    wait_until(lambda: not Path(folder, f"hold{number}").exists(), 60)
    if Path(folder, f"fail{number}").exists():
        raise ValueError(f"{number} is\nout of order")
    with Path(folder, "ran").open("a") as ran:
        ran.write(f"{number} ")
    return number * number


@task
def total(squares: list[int]) -> int:
    return sum(squares)


@flow("squares")
def squares(folder: str, count: int = 3, label: str = "", more: Any = None, api_token: str = "none") -> None:
    """Squares side by side, and their sum."""
    first = measure(task_id="first", number=100, folder=folder)
    first >> measure(folder=folder).map(range(count), name="squares") >> total(task_id="total")


@flow("echo")
def echo(text: str = "", number: float = 0.0, maybe: int | None = 3, items: list[str] | None = None) -> None:
    """Gives back what it was given."""

    @task(id="echoed")
    def echoed() -> list[Any]:
        return [text, number, maybe, items]


@task(inject_context=True)
def ask(context: Any) -> Any:
    """What people say."""
    return context.ask("Pay?")


@flow("asks_people")
def asks_people() -> Any:
    """A question."""
    return ask
