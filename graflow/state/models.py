"""What is read of a flow: pydantic models, the same behind Python, command line and HTTP."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import PydanticSerializationError, to_jsonable_python

from graflow.state.statuses import FlowStatus, StepStatus

MODEL_VERSION = 1


def json_of(model: BaseModel, exclude: Any = None) -> str:
    """A model as JSON; half of a surrogate pair, which pydantic refuses to write, as its number."""
    try:
        return model.model_dump_json(exclude=exclude)
    except PydanticSerializationError:
        return json.dumps(model.model_dump(exclude=exclude), separators=(",", ":"), default=to_jsonable_python)


class _Model(BaseModel):
    model_config = ConfigDict(extra="ignore")


class Attempt(_Model):
    """One execution of a step or member.

    Attributes:
        number: From 1.
        started_at: UTC.
        ended_at: UTC; None while it runs, or when its end is not known.
        worker: Where it ran: `host:pid` or the name of a worker.
        error: `Type: message`, where it failed.
    """

    number: int
    started_at: datetime | None = None
    ended_at: datetime | None = None
    worker: str | None = None
    error: str | None = None


class FlowStepState(_Model):
    """One visit of one node, or one member of a group.

    Attributes:
        step_name: The node; for passes of a loop, the task that goes round it.
        index: The member's place in its group; None for the step itself.
        visit: Which execution of the node in its run this is, from 1.
        generation: Which generation of the run's session it belongs to; retry and fork begin a new one.
        status: Where it is.
        queued_at: When it became ready, UTC.
        started_at: When its first attempt began, or the first since it ran again after an end or a crash, UTC.
        completed_at: When it ended, UTC.
        inputs: What it was given, where that is small.
        outputs: What it returned, where that is small (1 KiB as JSON); `output_size` tells that there is more.
        error: `Type: message`.
        error_data: The error with its traceback and causes, as data.
        execution_time: Seconds from `started_at` to `completed_at`.
        attempts: How many there were.
        attempt_history: Each of them.
        worker: Where the last one ran.
        source: For REUSED and CACHED, where the outcome came from: `{"flow_id", "step", "visit", "why", ...}`.
        input_digest: SHA-256 of what it was given, as JSON, where that is small; for a task with a cache, of what its
            kept value is found by. None where a secret is among it.
        cache: Whether a kept value was given, and why (not): `{"hit", "why", "key", "source" or "nearest", "age",
            "differs"}`; None for a task without a cache.
        output_digest: SHA-256 of what it returned, as JSON; for members too.
        output_size: Bytes of what it returned, as JSON.
        run_key: For a group, the key of its group run.
        size: For a group, how many members it has.
        counts: For a group, members by state.
        strip: For a group, 60 buckets (fewer for a smaller one) of members in order, each the counts by state, as
            letters (`StepStatus.letter`) to numbers.
        added: What it added to the graph of its run: nodes as lists of one name, edges as lists of two.
        progress: What it last told of itself: `{"done", "total", "message"}`; None for a step that tells nothing.
    """

    step_name: str
    index: int | None = None
    visit: int = 1
    generation: int = 0
    status: StepStatus = StepStatus.PENDING
    queued_at: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    inputs: Any = None
    outputs: Any = None
    error: str | None = None
    error_data: dict[str, Any] | None = None
    execution_time: float | None = None
    attempts: int = 0
    attempt_history: list[Attempt] = Field(default_factory=list)
    worker: str | None = None
    source: dict[str, Any] | None = None
    input_digest: str | None = None
    cache: dict[str, Any] | None = None
    output_digest: str | None = None
    output_size: int | None = None
    run_key: str | None = None
    size: int | None = None
    counts: dict[str, int] | None = None
    strip: list[dict[str, int]] | None = None
    added: list[list[str]] | None = None
    progress: dict[str, Any] | None = None


class FlowState(_Model):
    """One flow.

    Attributes:
        flow_id: Its id, chosen by the caller or a UUIDv7.
        flow_name: The name under which its function is registered.
        status: Where it is.
        inputs: As given, validated.
        outputs: The last step's value, once COMPLETED.
        steps: Nodes, one per visit, in order of first start; groups with counts, members by `list_members`.
        current_step: The step that began last and runs; None when none does.
        current_steps: All that run.
        created_at: UTC.
        started_at: When a process first claimed it, UTC.
        completed_at: When it ended, UTC.
        total_execution_time: Seconds from its first start to its end, or until now.
        error: Why it FAILED, is PAUSED without having been asked, or LOST: `Type: message`.
        error_data: The same with its traceback and causes, as data.
        degraded: Whether a part of it ran without being recorded.
        durability: `"required"`, `"best_effort"` or `"off"`.
        parent_flow_id: The flow that it was forked from, or that started it.
        parent_step: The step of that flow.
        cache: For a flow with a cache, as that of a step: whether its outcome was computed by another one, and why.
        metadata: As the caller gave it.
        version: Counts changes; what a verb is guarded by.
        epoch: Counts owners.
        generation: Counts sessions: retry and fork begin a new one.
        owner: `host:pid:start` of the process that runs it.
        wake_at: When it goes on by itself, UTC.
        takeovers: How often in a row it was taken over at its current step.
        seq: The place of the last line of its journal; `events` behind it are what happens from here on.
        counts: Steps by state.
        schema_version: Of this model.
    """

    flow_id: str
    flow_name: str
    status: FlowStatus
    inputs: dict[str, Any] = Field(default_factory=dict)
    outputs: Any = None
    steps: list[FlowStepState] = Field(default_factory=list)
    current_step: str | None = None
    current_steps: list[str] = Field(default_factory=list)
    created_at: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    total_execution_time: float | None = None
    error: str | None = None
    error_data: dict[str, Any] | None = None
    degraded: bool = False
    durability: str = "best_effort"
    parent_flow_id: str | None = None
    parent_step: str | None = None
    cache: dict[str, Any] | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)
    version: int = 0
    epoch: int = 0
    generation: int = 0
    owner: str | None = None
    wake_at: datetime | None = None
    takeovers: int = 0
    seq: int = 0
    counts: dict[str, int] = Field(default_factory=dict)
    schema_version: int = MODEL_VERSION


class FlowPage(list[FlowState]):
    """One page of a list, newest first; without steps and outputs.

    Attributes:
        next_cursor: Gives the next page; None on the last one.
    """

    def __init__(self, items: list[FlowState], next_cursor: str | None = None) -> None:
        super().__init__(items)
        self.next_cursor = next_cursor

    @property
    def items(self) -> list[FlowState]:
        return list(self)


class MemberPage(list[FlowStepState]):
    """One page of the members of a group, by index.

    Attributes:
        next_cursor: Gives the next page; None on the last one.
    """

    def __init__(self, items: list[FlowStepState], next_cursor: str | None = None) -> None:
        super().__init__(items)
        self.next_cursor = next_cursor

    @property
    def items(self) -> list[FlowStepState]:
        return list(self)
