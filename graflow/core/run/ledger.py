"""What has been done in a run: completed tasks, results, steps, executions and retries."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from graflow.channels.base import Channel
from graflow.channels.branch import BranchChannel
from graflow.core.cycle import CycleController
from graflow.core.nodes.arguments import RESULT_SUFFIX
from graflow.core.retry import RetryController
from graflow.encoding.sharing import require_repeatable
from graflow.protocols import Node
from graflow.values.plain import SCALARS


class DefaultMaxSteps(int):
    """A limit that nobody gave: it protects from loops, so that only what runs again counts."""


DEFAULT_MAX_STEPS = DefaultMaxSteps(10000)


class Ledger:
    """The books of one run, or of one branch of it.

    Args:
        channel: Where results are kept.
        max_steps: Tasks that may complete; with a `DefaultMaxSteps`, executions of tasks that had run before.
        max_cycles: Executions by iteration for tasks that set no limit of their own.
        max_retries: Retries for tasks that set no limit of their own.
        steps: How many tasks have completed.
        on_max_steps: `"raise"` or `"warn"` when that limit is reached with work left.

    Attributes:
        repeats: How many executions there were of tasks that had run before, passes of loops included, retries not.
        last: The task that completed last.
        carried_value: What that returned, where it ran in an earlier execution.
        completed: Ids in order of first completion, as keys.
        over: Those of them that are passes of loops which later ones followed; nothing of them is saved.
        failed: Those whose last execution failed, though an earlier one may have completed.
        cycles: Counts and limits of executions.
        retries: Counts and limits of retries.
        retried: Tasks whose retries belong to a visit that is over, so that the next one has its full budget.
        results: Values and errors in order, where somebody asked for them to be listed.
        outer: The books of the run that this one is a branch of, in this process.
        last_passes: The pass of each loop that completed last, by the task that goes round it.
        returned_elsewhere: Tasks of outer runs in other processes that returned an exception.
        stop_reason: How the last execution ended.
    """

    repeats = 0
    last: Node | None = None
    carried_value: Any = None
    results: dict[str, Any] | None = None
    outer: Ledger | None = None
    returned_elsewhere: Collection[str] = ()
    stop_reason: str | None = None

    def __init__(
        self,
        channel: Channel,
        *,
        max_steps: int = DEFAULT_MAX_STEPS,
        max_cycles: int = 10,
        max_retries: int = 0,
        steps: int = 0,
        on_max_steps: str = "raise",
    ) -> None:
        self.channel = channel
        self.steps = steps
        self.max_steps = max_steps
        self.on_max_steps = on_max_steps
        self.completed: dict[str, None] = {}
        self.over: set[str] = set()
        self.failed: set[str] = set()
        self.cycles = CycleController(max_cycles)
        self.retries = RetryController(max_retries)
        self.retried: set[str] = set()
        self.last_passes: dict[str, str] = {}
        self._errors_kept: set[str] = set()  # tasks whose stored result is an exception, by failure or by return

    def join(self, outer: Ledger) -> None:
        """Be the books of a branch: limits are those of the run, and what it has completed counts here, too."""
        self.outer = outer
        self.cycles.node_max_cycles = outer.cycles.node_max_cycles
        self.retries.node_max_retries = outer.retries.node_max_retries
        self.retries.node_policies = outer.retries.node_policies

    # -- results ---------------------------------------------------------------------------------------------------

    def set_result(self, task_id: str, result: object) -> None:
        """Store the value of a task, or the exception it failed with, in the channel under `<id>.__result__`.

        Raises:
            PayloadError: When the value can be read only once.
        """
        is_scalar = type(result) in SCALARS
        if not is_scalar:
            require_repeatable(task_id, result)
        self.channel.hand_over(task_id + RESULT_SUFFIX, result)
        if not is_scalar and isinstance(result, BaseException):
            self._errors_kept.add(task_id)
        if self.results is not None:
            self.results[task_id] = result

    def set_results(self, task_ids: Sequence[str], results: Sequence[object]) -> None:
        """As `set_result` for many tasks."""
        if not SCALARS.issuperset(map(type, results)):
            for task_id, result in zip(task_ids, results, strict=True):
                self.set_result(task_id, result)
            return
        keys = [task_id + RESULT_SUFFIX for task_id in task_ids]
        self.channel.hand_over_all(dict(zip(keys, results, strict=True)))
        if self.results is not None:
            self.results.update(zip(task_ids, results, strict=True))

    def get_results(self, task_ids: Iterable[str]) -> list[Any]:
        """As `get_result` for many tasks; None where there is nothing."""
        return self.channel.view_all([task_id + RESULT_SUFFIX for task_id in task_ids])

    def get_result(self, task_id: str, default: object = None) -> Any:
        """What `set_result` stored last; `default` when there is nothing."""
        return self.channel.view(task_id + RESULT_SUFFIX, default)

    # -- completion ------------------------------------------------------------------------------------------------

    @property
    def is_blank(self) -> bool:
        """Whether no task has completed."""
        return not (self.completed or self.steps)

    @property
    def is_full(self) -> bool:
        """Whether no further task may complete."""
        return (self.repeats if type(self.max_steps) is DefaultMaxSteps else self.steps) >= self.max_steps

    @property
    def steps_left(self) -> int:
        """What a branch may use of the limit, of the same kind."""
        if type(self.max_steps) is DefaultMaxSteps:
            return DefaultMaxSteps(max(self.max_steps - self.repeats, 0))
        return max(self.max_steps - self.steps, 0)

    def has_completed(self, task_id: str) -> bool:
        """Whether the last execution of the task has completed, in this run or in the run this one is a branch of."""
        ledger: Ledger | None = self
        while ledger is not None:
            if task_id in ledger.failed:
                return False
            if task_id in ledger.completed or task_id in ledger.returned_elsewhere:
                return True
            ledger = ledger.outer
        return False

    @property
    def returned_errors(self) -> list[str]:
        """Ids of the tasks that have completed with an exception as their value."""
        found: set[str] = set()
        ledger: Ledger | None = self
        while ledger is not None:
            found.update(ledger.returned_elsewhere, ledger._errors_kept.intersection(ledger.completed))
            ledger = ledger.outer
        return sorted(filter(self.has_completed, found))

    # -- a visit of a task -----------------------------------------------------------------------------------------

    def count_execution(self, task_id: str, base_id: str) -> None:
        """Count an execution of a task, unless it is a retry; a new visit has its full budget of retries."""
        if task_id in self.retries.retry_counts:
            if task_id not in self.retried:
                return
            self.retried.discard(task_id)
            self.retries.reset(task_id)
        if self.cycles.increment(base_id) > 1:
            self.repeats += 1

    # -- branches --------------------------------------------------------------------------------------------------

    def forget_pass(self, task_id: str) -> None:
        """Keep nothing of a pass of a loop, since a later one has completed."""
        key = task_id + RESULT_SUFFIX
        if isinstance(self.channel, BranchChannel):
            self.channel.forget(key)
        else:
            self.channel.delete(key)
        if self.results is not None:
            self.results.pop(task_id, None)
        self.over.add(task_id)
        self.retries.forget(task_id)
        self.retried.discard(task_id)
        self._errors_kept.discard(task_id)

    def forget_result(self, task_id: str) -> None:
        """Have no value of a task that an earlier visit left, as this one did not come to it."""
        self.channel.delete(task_id + RESULT_SUFFIX)

    def add(
        self,
        completed: Iterable[str],
        steps: int,
        cycle_counts: Mapping[str, int],
        retry_counts: Mapping[str, int],
        *,
        begun_with: Mapping[str, int] | None = None,
    ) -> None:
        """Add what a branch has done since it began.

        Args:
            completed: Ids of its tasks, in order.
            steps: How many tasks it completed.
            cycle_counts: Executions by task, those that it began with included.
            retry_counts: How often its tasks were retried; their next visit has its full budget.
            begun_with: Executions by task that it began with; none when not given.
        """
        done = dict.fromkeys(completed)
        self.completed.update(done)
        if self.failed:
            self.failed.difference_update(done)
        self.steps += steps
        counts, before = self.cycles.cycle_counts, begun_with or {}
        if not before and counts.keys().isdisjoint(cycle_counts) and set(cycle_counts.values()) <= {1}:
            counts.update(cycle_counts)  # which is what follows, for many members at a fifth of its price
            cycle_counts = {}
        for task_id, count in cycle_counts.items():
            present, more = counts.get(task_id, 0), count - before.get(task_id, 0)
            counts[task_id] = present + more
            # Branches of a group count for themselves: each may have a task of its own under the id.
            self.repeats += more if before.get(task_id) else max(more - 1, 0)
        if retry_counts:
            self.retries.retry_counts.update(retry_counts)
            self.retried.update(retry_counts)

    def lasting(self) -> list[str]:
        """The tasks that have completed, without what a later pass followed."""
        over = self.over
        return [task_id for task_id in list(self.completed) if task_id not in over]

    def __getstate__(self) -> dict[str, Any]:
        # Copies, since other threads may go on changing what they write into.
        state = {
            name: value.copy() if type(value) in (dict, list, set) else value for name, value in self.__dict__.items()
        }
        return state | {"completed": dict.fromkeys(self.lasting()), "over": set()}
