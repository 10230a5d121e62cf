"""A process that runs a flow, or resumes it: `python -m tests.faults.resumer <start|resume> <folder> <n>`."""

from __future__ import annotations

import sys
from pathlib import Path

from graflow import workflow
from graflow.core.checkpoint import CheckpointManager
from tests.faults import members


def main(mode: str, folder: str, n: str) -> None:
    if mode == "start":
        with workflow("resumed") as flow:
            load = members.work.map([(index, folder, 0.1) for index in range(int(n))], name="values")
            first = members.saves(task_id="first", folder=folder)
            last = members.noted_total(task_id="last", folder=folder)
            _ = first >> load.with_execution("redis") >> last
            flow.execute("first")
        return
    context, _ = CheckpointManager.resume_from_checkpoint(Path(folder) / "saved")
    sys.stdout.write(f"{context.execute()}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
