"""Checkpoints: a run that crashes in the middle goes on where it stopped.

python examples/06_checkpoints.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from graflow import task, workflow
from graflow.core.checkpoint import CheckpointManager
from graflow.core.engine import WorkflowEngine
from graflow.exceptions import GraflowRuntimeError


@task
def load() -> list[int]:
    print("  load runs")
    return [1, 2, 3]


@task(inject_context=True)
def train(context, load: list[int], folder: str) -> int:
    """Asks for a checkpoint, which is written as soon as this task is complete."""
    print("  train runs")
    context.checkpoint(metadata={"stage": "trained"}, path=f"{folder}/trained")
    return sum(load)


@task
def publish(train: int, folder: str) -> str:
    print("  publish runs")
    if not Path(folder, "shop is open").exists():
        raise ConnectionError("the shop is closed")
    return f"published {train}"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, workflow("training") as wf:
        load >> train >> publish
        try:
            wf.execute(initial_channel={"folder": folder})
        except GraflowRuntimeError as error:
            print("crashed:", error)
        print("files:", sorted(path.name for path in Path(folder).iterdir()))

        Path(folder, "shop is open").touch()
        context, metadata = CheckpointManager.resume_from_checkpoint(f"{folder}/trained.pkl")
        print(f"resumed at step {metadata.steps}, stage {metadata.user_metadata['stage']!r}")
        print("value:", WorkflowEngine().execute(context))


if __name__ == "__main__":
    main()
