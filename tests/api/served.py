"""Flows of a server that is a process of its own."""

from __future__ import annotations

from pathlib import Path

from graflow import task
from graflow.flows import flow
from tests.support import wait_until


@task
def note(folder: str, word: str) -> str:
    """Write a word down."""
    with (Path(folder) / "ran").open("a") as file:
        file.write(word + "\n")
    return word


@task
def hold(folder: str) -> str:
    """Write down that it began, and wait until it may end."""
    with (Path(folder) / "ran").open("a") as file:
        file.write("hold\n")
    wait_until((Path(folder) / "go").exists, 100, interval=0.05)
    return "held"


@flow("served")
def served(folder: str) -> None:
    """Two steps, of which the second waits."""
    note(task_id="first", folder=folder, word="first") >> hold(task_id="hold", folder=folder)
