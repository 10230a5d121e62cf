"""Flows that a page can show: short, failing, long, with members, and with text that would like to be a script."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from graflow.core.decorators import task
from graflow.flows import flow
from tests.support import wait_until

_LONGEST = 120.0


def _wait(gate: str) -> None:
    if gate:
        wait_until(Path(gate).exists, _LONGEST, f"nobody made {gate}")


@task
def load(count: int) -> list[int]:
    return list(range(count))


@task
def page(number: int) -> int:
    if number % 1000 == 17:
        raise ValueError(f"page {number} has no text layer")
    return number * 2


@task
def measure(gate: str) -> str:
    _wait(gate)
    return "measured"


@task
def compare() -> dict[str, object]:
    return {"alike": 3, "password": "hunter2", "names": ["<img src=x onerror=alert(1)>", "b"]}


@task
def publish(broken: str) -> str:
    if broken and Path(broken).exists():
        raise ValueError("page 17 has no text layer <script>window.stolen = 1</script>")
    return "published"


@flow("analysis")
def analysis(count: int = 3, gate: str = "", broken: str = "") -> None:
    """Load, measure and compare, and publish."""
    (
        load(task_id="load", count=count)
        >> (measure(task_id="measure", gate=gate) | compare(task_id="compare")).set_group_name("look")
        >> publish(task_id="publish", broken=broken)
    )


@flow("pages")
def pages(count: int = 100, allow_failures: bool = True) -> None:
    """Read many pages."""
    group = page.map(list(range(count)), name="pages")
    if allow_failures:
        group = group.with_execution(policy="best_effort")
    load(task_id="load", count=count) >> group >> compare(task_id="compare")


@flow("chain")
def chain(length: int = 12, gate: str = "") -> None:
    """Steps one after another, the last of which waits."""
    last = load(task_id="load", count=1)
    for number in range(length):
        step = compare(task_id=f"step_{number}")
        last >> step
        last = step
    last >> measure(task_id="wait", gate=gate)


class Place(BaseModel):
    """Where something goes."""

    region: str
    copies: int = 2


class Release(BaseModel):
    """What is released, and where."""

    version: str
    channel: Literal["stable", "beta"] = "beta"
    where: Place
    tags: list[Literal["fast", "small", "<b>bold</b>"]] = []


@task(inject_context=True)
def ask(context: Any, kind: str) -> Any:
    """Ask a question of one kind."""
    kinds: dict[str, Any] = {
        "approval": bool,
        "text": str,
        "number": int,
        "choice": Literal["red", "green", "<img src=x onerror=alert(1)>"],
        "model": Release,
        "json": list[dict[str, int]],
    }
    return context.ask(
        f"A {kind}?\n<script>window.stolen = 1</script>",
        kinds[kind],
        about={"plan": "<b>3</b>", "password": "x"},
        deadline=3600,
    )


@task
def use(ask: Any) -> Any:  # what the step `ask` gave
    return ask.model_dump() if isinstance(ask, Release) else ask


@flow("asks")
def asks(kind: str = "approval") -> None:
    """Ask somebody something."""
    ask(task_id="ask", kind=kind) >> use
