"""Chunks whose members are nothing but calls of a function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from graflow.codec import from_jsonable
from graflow.core.envelopes.references import classes_of
from graflow.core.nodes.wrapper import TaskWrapper
from graflow.core.remote.branch import RemoteBranch
from graflow.core.remote.late import plain_function
from graflow.exceptions import GraflowError
from graflow.values.plain import SCALARS, is_plain
from graflow_celery.deployment import Deployment
from graflow_celery.record import GrantedBlock, GroupSpec, Lease
from graflow_celery.wire.chunks import Chunk
from graflow_celery.wire.envelope import SharedPayload
from graflow_celery.worker.member import MemberRunner
from graflow_celery.worker.message_limits import limits_of


class PlainChunk:
    """Calls of one function, each with arguments of its own.

    Args:
        runner: Makes a branch of a call that needs one.
        chunk: What is called with.
        task: What its members are instances of, with the arguments that all of them share.
        shared: What the members of the group have in common.
        function: Takes the arguments of a call.

    Attributes:
        call: The function.
        given: The arguments of one call, which nobody else has; raises a `GraflowError` when they cannot be read here.
    """

    def __init__(
        self,
        runner: MemberRunner,
        chunk: Chunk,
        task: TaskWrapper,
        shared: SharedPayload,
        function: Callable[[dict[str, Any]], Any],
    ) -> None:
        self.call = function
        self._runner = runner
        self._chunk = chunk
        self._task = task
        self._shared = shared
        self._bound = task.bound_arguments
        self._near = classes_of(task)
        self._items, self._first, self._parameter = chunk.items, chunk.first, str(chunk.parameter)
        is_simple = chunk.parameter is not None and set(map(type, chunk.items)) <= SCALARS
        self.given: Callable[[int], dict[str, Any]] = self._given_scalar if is_simple else self._given

    def _given(self, index: int) -> dict[str, Any]:
        own = self._chunk.given(index)
        return {**self._bound, **{name: self._read(value) for name, value in own.items()}}

    def _given_scalar(self, index: int) -> dict[str, Any]:
        """The same, where nothing has to be read."""
        return {**self._bound, self._parameter: self._items[index - self._first]}

    def _read(self, value: Any) -> Any:
        if type(value) in SCALARS or is_plain(value):
            return value
        return from_jsonable(value, near=self._near)

    def branch(self, lease: Lease, given: Mapping[str, Any], is_cancelled: Callable[[], bool]) -> RemoteBranch:
        """The branch of the member of a call."""
        task = self._task
        member = task.instance(self._chunk.task_id(lease.index), given)
        member.made_from = task.made_from
        return self._runner.branch_of(member, self._chunk.shared, self._shared, lease, is_cancelled)


def plain_chunk(
    deployment: Deployment, spec: GroupSpec, runner: MemberRunner, block: GrantedBlock
) -> PlainChunk | None:
    """What a block calls; None where its members have to run by themselves, or cannot be read."""
    members = block.members
    if limits_of(deployment, spec, members.start) != (None, None):
        return None
    try:
        chunk = runner.chunk(block.chunk, members.start)
        if chunk.members != members:
            return None
        task = runner.resolved(chunk)
        shared = deployment.shared_payloads.get(spec.run_id, chunk.shared)
        if not isinstance(task, TaskWrapper) or not _is_usual(shared):
            return None
        bound = task.bound_arguments
        if not all(type(value) in SCALARS or type(value) is bytes for value in bound.values()):
            return None  # each member gets values of its own
        filled = {**bound, **chunk.given(members.start)}
        is_empty = not (shared.channel or shared.seeds)
        function = plain_function(task, filled, empty_channel=is_empty)
    except GraflowError:
        return None  # each member fails with it
    return None if function is None else PlainChunk(runner, chunk, task, shared, function)


def _is_usual(shared: SharedPayload) -> bool:
    """Whether the first execution of a task without limits of its own is none that the run refuses."""
    return shared.max_steps > 0 and shared.max_cycles > 0 and not shared.limits
