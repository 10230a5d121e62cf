"""How a run is kept: its state as plain data, its pickle, and standing still for both."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

from graflow.core import serialization
from graflow.core.run.groups import RunGroups
from graflow.core.run.joins import Joins
from graflow.core.run.state import Interrupted, RunState
from graflow.queue.base import TaskSpec
from graflow.trace.composite import combine

_NOT_KEPT = frozenset({
    "task_queue", "tracer", "engine", "member", "workflow_name", "step_lock", "running_spec", "delayed",
    "open_groups", "held", "looks_first", "_delayed_ids", "_standing_in", "_task_execution_stack",
})  # fmt: skip


class RunSaving(RunGroups):
    """The state of a run, and how it is kept."""

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """Let no task of this run or of its branches begin or complete during the block; bodies go on."""
        with ExitStack() as held:
            states: list[RunState] = [self]
            while states:
                state = states.pop()
                held.enter_context(state.step_lock)
                for run in list(state.open_groups.values()):
                    states.extend(run.open_branches().values())
            yield

    def __getstate__(self) -> dict[str, Any]:
        # Copies, since other threads may go on changing what they write into.
        state = {
            name: value.copy() if type(value) in (dict, list, set) else value
            for name, value in self.__dict__.items()
            if name not in _NOT_KEPT
        }
        joins = state["joins"] = Joins(self.joins.enclosing)
        joins.waiting = {candidate: dict(left) for candidate, left in list(self.joins.waiting.items())}
        # Members that failed run again, like any other task that has not completed.
        state["finished_members"] = {
            key: {index: outcome for index, outcome in list(finished.items()) if outcome.success}
            for key, finished in list(self.finished_members.items())
        }
        for run in list(self.open_groups.values()):
            state["saved_branches"][run.run_key] = run.open_branches()
        running = [] if self.running_spec is None else [self.running_spec]
        state["pending"] = [
            (spec.executable, spec.created_at, spec.retry_count, spec.max_retries, spec.last_error)
            for spec in running + self.pending_specs()
        ]
        for frame in self._task_execution_stack[:1]:
            queued = [spec.task_id for spec in list(frame.queued or ())]
            state["_interrupted"][frame.task_id] = Interrupted(queued, list(frame.born or ()))
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        pending = state.pop("pending")
        self.__dict__.update(state)
        self._prepare_runtime()
        self.tracer = combine(None)
        for executable, created_at, retry_count, max_retries, last_error in pending:
            self.restore_pending(
                TaskSpec(
                    executable,
                    self,
                    created_at=created_at,
                    retry_count=retry_count,
                    max_retries=max_retries,
                    last_error=last_error,
                )
            )

    def save(self, path: str | Path) -> None:
        """Write the context to a file with cloudpickle."""
        with self.standing_still():
            content = serialization.dumps(self)
        Path(path).write_bytes(content)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a context that `save` wrote. Only for files that you trust: loading runs code.

        Raises:
            FileNotFoundError: When there is no such file.
            pickle.UnpicklingError: When it holds something else.
        """
        content = Path(path).read_bytes()
        if not content.startswith(pickle.PROTO):
            raise pickle.UnpicklingError(f"{path} is no saved context")
        context = serialization.loads(content)
        if not isinstance(context, cls):
            raise pickle.UnpicklingError(f"{path} holds a {type(context).__qualname__}, not a context")
        return context

    def get_checkpoint_state(self) -> dict[str, Any]:
        """The part of a checkpoint that is plain data; results and channel values are not in it."""
        return {
            "session_id": self.session_id,
            "trace_id": self.trace_id,
            "start_node": self.start_node,
            "steps": self.steps,
            "completed_tasks": self.completed_tasks,
            "cycle_counts": dict(self.cycle_controller.cycle_counts),
            "retry_counts": dict(self.retry_controller.retry_counts),
            "waiting_joins": {candidate: list(left) for candidate, left in self.joins.waiting.items()},
            "finished_members": self._finished_members(),
            "backend": {"channel": self.channel_backend},
        }

    def _finished_members(self) -> dict[str, list[str]]:
        """Ids of the members that have succeeded in each open execution of a group, nested ones included."""
        found: dict[str, list[str]] = {}
        states = [self]
        while states:
            state = states.pop()
            for key, finished in state.finished_members.items():
                outcomes = sorted(finished.items())
                found[key] = [outcome.task_id for _, outcome in outcomes if outcome.success]
            for run in state.open_groups.values():
                states.extend(run.open_branches().values())
        return found
