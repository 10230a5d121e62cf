"""How a run is kept: standing still while it is saved, its state as plain data, and its file."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from graflow.core import serialization
from graflow.core.nodes.arguments import RESULT_SUFFIX
from graflow.core.run.parts import RunParts
from graflow.debug.find_locks import find_unpicklable_objects
from graflow.foreign import attempt
from graflow.given import checked_path


def _with_branches(run: RunParts) -> Iterator[RunParts]:
    """The run and, at any depth, the branches that are open in this process."""
    runs = [run]
    while runs:
        run = runs.pop()
        yield run
        runs.extend(run.groups.open_branches())


@contextmanager
def standing_still(run: RunParts) -> Iterator[None]:
    """Let no task of the run or of its branches begin or complete during the block; bodies go on."""
    with ExitStack() as held:
        for part in _with_branches(run):
            held.enter_context(part.agenda.step_lock)
        yield


def plain_state(run: RunParts) -> dict[str, Any]:
    """The part of a checkpoint that is plain data; results and channel values are not in it."""
    ledger, agenda = run.ledger, run.agenda
    return {
        "session_id": run.session_id,
        "trace_id": run.trace_id,
        "start_node": agenda.start_node,
        "steps": ledger.steps,
        "completed_tasks": ledger.lasting(),
        "cycle_counts": dict(ledger.cycles.cycle_counts),
        "retry_counts": dict(ledger.retries.retry_counts),
        "waiting_joins": {candidate: list(left) for candidate, left in agenda.joins.waiting.items()},
        "finished_members": {
            key: members for part in _with_branches(run) for key, members in part.groups.succeeded().items()
        },
        "backend": {"channel": run.channel_backend},
    }


def pickled(run: RunParts) -> bytes:
    """A run as cloudpickle writes it.

    Raises:
        TypeError: When something in it cannot be pickled; a result or channel value is named.
    """
    try:
        return serialization.dumps(run)
    except (TypeError, AttributeError, pickle.PicklingError) as error:
        for part in _with_branches(run):
            for key in part.channel.keys():  # noqa: SIM118 - a channel is no mapping
                reason = _why_not(part.channel.view(key))
                if reason is not None:
                    raise TypeError(f"The run cannot be saved: {_described(key)}{reason}") from error
        raise


def _why_not(value: object) -> str | None:
    """What in a value cannot be pickled, as the end of a sentence."""

    def reason_of(error: Exception) -> str:
        for path, found, reason in find_unpicklable_objects(value):
            inside = path.removeprefix("root")
            return f"{', ' if inside else ''}{inside} is a {type(found).__qualname__}: {reason}"
        return f" is a {type(value).__qualname__}: {error}"

    refused: list[str] = []
    attempt(lambda: serialization.dumps(value), lambda error: refused.append(reason_of(error)))
    return refused[0] if refused else None


def _described(key: str) -> str:
    task_id = key.removesuffix(RESULT_SUFFIX)
    return f"channel key '{key}'" if task_id == key else f"the result of task '{task_id}'"


def write(run: RunParts, path: str | Path) -> None:
    """Write a run to a file with cloudpickle."""
    checked_path("path", path)
    with standing_still(run):
        content = pickled(run)
    Path(path).write_bytes(content)


def read(path: str | Path) -> Any:
    """What was written to a file; loading runs code.

    Raises:
        FileNotFoundError: When there is no such file.
        pickle.UnpicklingError: When it is no pickle.
    """
    content = Path(checked_path("path", path)).read_bytes()
    if not content.startswith(pickle.PROTO):
        raise pickle.UnpicklingError(f"{path} is no saved context")
    return serialization.loads(content)
