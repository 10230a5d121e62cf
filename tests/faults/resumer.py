"""A process that runs a flow, or resumes it: `python -m tests.faults.resumer <start|resume> <folder> <n>`.

It prints the result, or `owned <owner>` when it is told that another process continues the flow.
"""

from __future__ import annotations

import sys
from pathlib import Path

from graflow import task, workflow
from graflow.core.checkpoint import CheckpointManager
from graflow.exceptions import RunOwnedError
from tests.faults import members

FREE = 20
"""Members that end by themselves; the others are held until the flow's folder says that they may end."""


@task
def prepares(folder: str) -> None:
    """A step that a resumed run repeats: the checkpoint is older."""
    members.note(folder, "prepared", 0)


def run(mode: str, folder: str, n: str) -> int:
    if mode == "resume":
        context, _ = CheckpointManager.resume_from_checkpoint(Path(folder) / "saved")
        return int(context.execute())
    with workflow("resumed") as flow:
        load = members.held.map([(index, folder, FREE) for index in range(int(n))], name="values")
        first = members.saves(task_id="first", folder=folder)
        second = prepares(task_id="second", folder=folder)
        last = members.noted_total(task_id="last", folder=folder)
        _ = first >> second >> load.with_execution("redis") >> last
        return int(flow.execute("first"))


def main(mode: str, folder: str, n: str) -> int:
    try:
        sys.stdout.write(f"{run(mode, folder, n)}\n")
    except RunOwnedError as error:
        sys.stdout.write(f"owned {error.owner}\n")
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
