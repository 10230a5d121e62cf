"""What a branch inherits of its run, whether it runs here or on a worker."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Surroundings:
    """What is the same for the whole of a run, or for all branches of a group: the only thing that a branch inherits.

    Attributes:
        group_id: The group that the members belong to; empty for a run of its own.
        session_id: The session of the run, or of the group's context.
        trace_id: The trace of the run.
        workflow_name: Empty for a group that is in no workflow.
        outside: Ids of the workflow's nodes, so that a jump to one is told from a task that is new; those of a branch
            are its own all the same. Ends of edges that lead out of a branch count as outside, too. This field and the
            next two, as `limits`, are for a branch that is away: one in the process of its run looks there.
        known_by_name: Those of them whose tasks only other members had, with their executions so far. A branch that has
            such a task at hand may run it itself.
        returned_errors: Tasks before the group that completed with an exception as their value.
        max_steps: Tasks that may complete, or executions of tasks that had run before.
        counts_repeats: Whether it is the latter.
        max_cycles: Executions by iteration for tasks that set no limit of their own.
        max_retries: Retries for tasks that set no limit of their own.
        limits: What `remote.limits_of` said of the context of the group.
        config: Settings for nested groups and channels.
        flow: The durable flow that the run is one of, as `RunningFlow.told` has it; empty without one.
        channel_backend: The type of the channel that the whole run shares.
        feedback: Where the questions of the run are kept, as `Questions.told` has it, for branches that may ask some.
    """

    group_id: str
    session_id: str
    trace_id: str
    workflow_name: str = ""
    outside: Collection[str] = ()
    known_by_name: Mapping[str, int] = field(default_factory=dict)
    returned_errors: Collection[str] = ()
    max_steps: int = 10000
    counts_repeats: bool = False
    max_cycles: int = 10
    max_retries: int = 0
    limits: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    flow: Mapping[str, Any] = field(default_factory=dict)
    channel_backend: str = "memory"
    feedback: Mapping[str, Any] = field(default_factory=dict)

    def changed(self, **changes: object) -> Surroundings:
        """These with changes; without what a subclass needs for its way to a worker."""
        own = vars(self)
        if type(self) is not Surroundings:
            own = {name: own[name] for name in Surroundings.__dataclass_fields__}
        made = object.__new__(Surroundings)
        made.__dict__.update(own, **changes)  # as by `__init__`, which sets field by field what is frozen
        return made

    def session_of(self, member_id: str) -> str:
        """The session of the branch of a member."""
        return f"{self.session_id}_{member_id}"
