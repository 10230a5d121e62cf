"""What a run tells whoever writes it down step by step; durable flows do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol


class StepVisit(NamedTuple):
    """One execution of one node of a run.

    Attributes:
        step: The node; for a pass of a loop, the task that goes round it.
        visit: Which execution of that node in its run it is, from 1; retries belong to one visit.
        node: The node's own id, which for a pass is another one than `step`.
        attempt: From 1.
        members: For a group, the ids of its members; None for others.
    """

    step: str
    visit: int
    node: str
    attempt: int
    members: Sequence[str] | None = None


class Recorder(Protocol):
    """Writes a run down; all data is plain JSON, and enough for `take_over` to bring the run to the same place.

    The engine calls it for the root run alone, in order, holding the step lock, except for `members_ended` and
    `block_ended`, which may come from any thread while a group runs. What a method raises stops the run there; a
    `BaseException` that is no `Exception` fails no step.

    Attributes:
        takes_blocks: Whether `block_ended` may be called for the step that runs.
    """

    @property
    def takes_blocks(self) -> bool: ...

    def step_started(self, step: StepVisit) -> None:
        """The body runs next: everything told before is on record when this returns."""

    def step_completed(self, step: StepVisit, outcome: Mapping[str, Any], value: object) -> None:
        """A step has ended well; may be kept back until `step_started`, `flush` or the end of the run.

        Args:
            step: The step.
            outcome: What it did: value, channel, queue, nodes.
            value: What it returned.
        """

    def step_failed(
        self, step: StepVisit, error: BaseException, outcome: Mapping[str, Any], retry_in: float | None
    ) -> None:
        """An attempt has failed; it is made again `retry_in` seconds from now, or never."""

    def members_ended(self, step: StepVisit, outcomes: Sequence[Mapping[str, Any]]) -> None:
        """Members of the group that runs have ended.

        Args:
            step: The group's step.
            outcomes: For each `index`, `success`, `error`, times, and what is needed to take it over.
        """

    def block_ended(self, step: StepVisit, block: Mapping[str, Any]) -> None:
        """The same for members that each gave a value and did nothing else, in the form of `encoding.member_blocks`."""

    def flush(self) -> None:
        """The run waits next: everything told before is on record when this returns."""
