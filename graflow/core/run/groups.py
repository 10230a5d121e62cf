"""The executions of groups in a run: which are open, which members have finished, how often each group has run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Generic, Protocol, TypeVar

from graflow.core.branches.outcome import BranchOutcome

_Run = TypeVar("_Run")


class OpenGroup(Protocol[_Run]):
    """One execution of a group that has not ended."""

    @property
    def group_id(self) -> str: ...

    @property
    def run_key(self) -> str: ...

    def open_branches(self) -> dict[int, _Run]: ...

    def settle(self) -> None: ...

    def abandon(self) -> None: ...


class Groups(Generic[_Run]):
    """The executions of groups in one run; `_Run` is the type of a branch.

    Attributes:
        visit_path: What the keys of this run's groups begin their visit with; those of a branch tell its own group's.
        open: Executions that have not ended, by the id of their group.
        finished: Outcomes of the members that have ended, by the key of the execution and by index.
        branches: Saved branches of members that a resumed run goes on with, by the same.
        recorded: Outcomes that another process has recorded, failures included, by the same: those members are over.
        closed: Groups whose executions have ended since somebody cleared it.
    """

    def __init__(self, visit_path: str = "") -> None:
        self.visit_path = visit_path
        self.open: dict[str, OpenGroup[_Run]] = {}
        self.finished: dict[str, dict[int, BranchOutcome]] = {}
        self.branches: dict[str, dict[int, _Run]] = {}
        self.recorded: dict[str, dict[int, BranchOutcome]] = {}
        self.closed: set[str] = set()
        self._visits: dict[str, int] = {}

    def key_of(self, session_id: str, group_id: str) -> str:
        """`<session>:<group>:<visit>` of the execution that is to come, or that was interrupted."""
        return f"{session_id}:{group_id}:{self.visit_path}{self._visits.get(group_id, 0)}"

    def go_on(self, key: str) -> tuple[dict[int, BranchOutcome], dict[int, _Run]]:
        """What is left of an interrupted execution: outcomes of members that have succeeded, and open branches.

        The outcomes are kept up to date by whoever runs the members from now on.
        """
        recorded = self.recorded.pop(key, None)
        if recorded is not None:
            self.finished[key] = recorded
            return recorded, {}
        earlier = self.finished.get(key, {})
        finished = self.finished[key] = {index: outcome for index, outcome in earlier.items() if outcome.success}
        return finished, self.branches.pop(key, {})

    def close(self, run: OpenGroup[_Run]) -> None:
        """One execution has ended; the next one has another key."""
        self.open.pop(run.group_id, None)
        self.finished.pop(run.run_key, None)
        self._visits[run.group_id] = self._visits.get(run.group_id, 0) + 1
        self.closed.add(run.group_id)

    def visits_of(self, group_id: str) -> int:
        """How many executions of a group have ended."""
        return self._visits.get(group_id, 0)

    def set_visits(self, visits: Mapping[str, int]) -> None:
        """Take over how many executions of groups have ended in another process."""
        self._visits.update(visits)

    def keep(self, key: str, finished: dict[int, BranchOutcome], branches: dict[int, _Run]) -> None:
        """Have the execution with this key go on from what an earlier one, which failed, has done."""
        self.finished[key] = finished
        self.branches[key] = branches

    def abandon(self, group_id: str) -> None:
        """End an execution that its coordinator left open; what its members finished counts when it is repeated."""
        run = self.open.pop(group_id, None)
        if run is not None:
            run.abandon()

    def is_untouched(self) -> bool:
        """Whether no group has been run, or begun."""
        return not (self._visits or self.finished)

    def open_branches(self) -> Iterator[_Run]:
        """The branches that have begun here and have not succeeded."""
        for run in list(self.open.values()):
            yield from run.open_branches().values()

    def succeeded(self) -> dict[str, list[str]]:
        """Ids of the members that have succeeded in each open execution, in member order."""
        self._settle()
        return {
            key: [outcome.task_id for _, outcome in sorted(_good(finished).items())]
            for key, finished in list(self.finished.items())
        }

    def _settle(self) -> None:
        for run in list(self.open.values()):
            run.settle()

    def __getstate__(self) -> dict[str, Any]:
        # Members that failed run again, like any other task that has not completed.
        self._settle()
        branches = self.branches | {run.run_key: run.open_branches() for run in list(self.open.values())}
        finished = {key: _good(outcomes) for key, outcomes in list(self.finished.items())}
        return self.__dict__ | {"open": {}, "finished": finished, "branches": branches, "_visits": self._visits.copy()}


def _good(outcomes: Mapping[int, BranchOutcome]) -> dict[int, BranchOutcome]:
    return {index: outcome for index, outcome in list(outcomes.items()) if outcome.success}
