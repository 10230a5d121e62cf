"""`submit` and `attach`: from a group or a run id to a handle."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, overload

from graflow.coordination.coordinator import CoordinationBackend
from graflow.coordination.executor import BACKEND_VARIABLE
from graflow.core.branches.outcome import Branch
from graflow.core.branches.ownership import branch_nodes
from graflow.core.building.scopes import current_scope
from graflow.core.handlers.group_policy import resolve_group_policy
from graflow.core.memberships import is_group
from graflow.core.nodes.columns import MappedMembers, ids_in
from graflow.core.nodes.executable import Executable, SequentialTask
from graflow.core.nodes.mapped import MappedGroup, R
from graflow.core.nodes.wrapper import TaskWrapper
from graflow.exceptions import ConfigError, PayloadError
from graflow.redis.config import concerns_server, laid_over, normalize_redis_config
from graflow_celery.client.columns import Columns
from graflow_celery.client.handle import GroupHandle
from graflow_celery.client.submission import open_and_publish, prepare
from graflow_celery.deployment import Deployment, connected
from graflow_celery.settings import GroupOptions, Settings
from graflow_celery.wire.envelope import SharedPayload


@overload
def submit(
    group: MappedGroup[R] | Sequence[TaskWrapper[..., R]],
    backend_config: Mapping[str, Any] | Settings | None = None,
    policy: None = None,
    run_id: str | None = None,
    then: object = None,
) -> GroupHandle[R]: ...
@overload
def submit(
    group: MappedGroup[R] | Sequence[TaskWrapper[..., R]],
    backend_config: Mapping[str, Any] | Settings | None = None,
    *,
    policy: object,
    run_id: str | None = None,
    then: object = None,
) -> GroupHandle[R | None]: ...
@overload
def submit(
    group: Executable | Sequence[Executable],
    backend_config: Mapping[str, Any] | Settings | None = None,
    policy: object = None,
    run_id: str | None = None,
    then: object = None,
) -> GroupHandle: ...
def submit(
    group: Executable | Sequence[Executable],
    backend_config: Mapping[str, Any] | Settings | None = None,
    policy: object = None,
    run_id: str | None = None,
    then: object = None,
) -> GroupHandle:
    """Send a group to Celery workers and return at once.

    Args:
        group: A `ParallelGroup`, or a sequence of tasks; needs no workflow.
        backend_config: Laid over what `with_execution` said.
        policy: A policy in any of its forms; what `with_execution` said, else strict.
        run_id: An id of your own; the same id with the same members attaches to that run.
        then: A task that receives the list of values on a worker.

    Raises:
        TypeError: For something that is no task, and for a `then` that cannot take the values.
        ConfigError: For unknown settings, naming the nearest known one; and when `GRAFLOW_BACKEND` has groups run
            without workers, unless `backend_config` names a server.
        TaskResolutionError: When a task cannot be sent.
        PayloadError: When an argument cannot be sent.
        RecordUnreachableError: When the Redis of record does not answer or refuses us.
    """
    if not isinstance(backend_config, Settings):
        _require_workers(backend_config)
        backend_config = laid_over(_execution_of(group).get("backend_config", {}), backend_config)
    deployment, options = connected(backend_config)
    return submit_to(deployment, group, options, policy=policy, run_id=run_id, then=then)


def _require_workers(given: Mapping[str, Any] | None) -> None:
    """Refuse to send to the usual server what `GRAFLOW_BACKEND` wants to run here, as tests do."""
    wanted = os.environ.get(BACKEND_VARIABLE, "").lower()
    if wanted in {"", CoordinationBackend.REDIS.value} or concerns_server(normalize_redis_config(given)):
        return
    raise ConfigError(
        f"{BACKEND_VARIABLE} is {wanted!r}, but submit() needs workers, since its handle is read from their Redis: "
        "give it the backend_config= of a server for tests, such as graflow_cluster.backend_config, or run the group "
        "in a workflow"
    )


def submit_to(
    deployment: Deployment,
    group: Executable | Sequence[Executable],
    options: GroupOptions,
    *,
    policy: object = None,
    run_id: str | None = None,
    then: object = None,
) -> GroupHandle:
    """`submit` over what is connected already."""
    if then is not None and not isinstance(then, TaskWrapper):
        raise TypeError(f"then= takes a task made with @task, which receives the list of values, not {_in_words(then)}")
    if run_id is not None and (not isinstance(run_id, str) or not run_id):
        raise TypeError(f"run_id= takes text that is not empty, not {run_id!r}")
    chosen = resolve_group_policy(policy if policy is not None else _execution_of(group).get("policy", "strict"))
    branches, task_ids, group_id = _members_of(group)
    chosen.validate(task_ids)
    run = run_id or uuid.uuid4().hex
    written = partial(
        prepare,
        deployment,
        options,
        run_id=run,
        group_id=group_id,
        branches=branches,
        shared=SharedPayload(group_id=group_id, session_id=run, trace_id=run),
        policy=chosen,
        then=then,
    )
    submission = written()
    opened = open_and_publish(deployment, submission)
    if opened.stride != submission.spec.stride:
        submission = written(stride=opened.stride)
    return GroupHandle(
        *(deployment, submission.spec, options),
        policy=chosen,
        task_ids=task_ids,
        epoch=opened.epoch,
        submission=submission,
        event=opened.event,
    )


def attach(run_id: str, backend_config: Mapping[str, Any] | None = None) -> GroupHandle:
    """A handle on a run that was submitted before, by any process.

    Raises:
        GroupNotFoundError: When there is no such run, or its record has expired.
    """
    if not isinstance(run_id, str):
        raise TypeError(f"attach() takes the run_id of a handle, as text, not {run_id!r}")
    deployment, options = connected(backend_config)
    deployment.check(works=False)
    return attach_to(deployment, run_id, options)


def attach_to(deployment: Deployment, run_id: str, options: GroupOptions) -> GroupHandle:
    """`attach` over what is connected already."""
    with deployment.errors():
        header = deployment.record.header(run_id)
        if not (header.published or header.state.is_final):
            # Its submitter may have died while publishing; the sweeper publishes what nobody has claimed.
            deployment.record.expedite(run_id)
    return GroupHandle(deployment, header.spec, options, epoch=header.epoch)


def _branch(index: int, tasks: Sequence[Executable]) -> Branch:
    """A member with those that follow it, which run inside it."""
    edges = [(task.task_id, following.task_id) for task, following in pairwise(tasks)]
    return Branch(tasks[0], index, {task.task_id: task for task in tasks}, edges, {})


def _is_attached(group: Any) -> bool:
    """Whether a group is one of the current workflow, where tasks may follow its members."""
    scope = current_scope()
    return scope is not None and scope.graph.has_node(group.task_id)


def _attached(group: Any) -> list[Branch]:
    """The members of a group of the current workflow, each with what follows it alone; empty for any other group."""
    scope = current_scope()
    if scope is None or not _is_attached(group):
        return []
    graph, found = scope.graph, []
    own = branch_nodes(graph, group.task_id, group.tasks)
    for index, member in enumerate(group.tasks):
        inside = own[index] or {member.task_id}
        names = [name for name in graph.nodes if name in inside] if len(inside) > 1 else ()
        tasks = {member.task_id: member, **{name: graph.get_node(name) for name in names}}
        edges = [(name, target) for name in tasks for target in graph.successors(name) if target in inside]
        found.append(Branch(member, index, tasks, edges, {}))
    return found


def _execution_of(group: Any) -> dict[str, Any]:
    """What `with_execution` said."""
    return dict(group.execution_config) if is_group(group) else {}


def _members_of(group: Any) -> tuple[Sequence[Branch] | Columns, Sequence[str], str]:
    """The members, their ids, and the id of what was given to `submit`."""
    if is_group(group):
        members = group.members
        if isinstance(members, MappedMembers) and members.is_untouched and not _is_attached(group):
            return Columns(members, lambda: _branches([[member] for member in members])), members.ids, group.task_id
        return _attached(group) or _branches([[member] for member in members]), ids_in(members), group.task_id
    chains, group_id = (
        ([_chained(group)], group.task_id) if isinstance(group, Executable) else (_chains(group), "submitted")
    )
    return _branches(chains), [tasks[0].task_id for tasks in chains], group_id


def _branches(chains: Sequence[Sequence[Executable]]) -> list[Branch]:
    return [_branch(index, tasks) for index, tasks in enumerate(chains)]


def _chains(group: Any) -> list[list[Executable]]:
    """Tasks of a sequence, each with those that follow it."""
    if isinstance(group, str | bytes) or not isinstance(group, Iterable):
        raise TypeError(f"submit() takes a ParallelGroup or a sequence of tasks, not {_in_words(group)}")
    given = list(group)
    for task in given:
        if not isinstance(task, Executable):
            raise TypeError(f"submit() takes tasks, not {_in_words(task)}")
    members = [_chained(task) for task in given]
    ids = [task.task_id for tasks in members for task in tasks]
    if len(set(ids)) != len(ids):
        twice = next(task_id for task_id in ids if ids.count(task_id) > 1)
        raise PayloadError(f"Two of the tasks to submit have the id '{twice}'")
    return members


def _in_words(value: object) -> str:
    """What was given for a task; a function with what makes a task of it."""
    name = getattr(value, "__name__", None)
    return f"the function {name}; write @task above it" if callable(value) and name else repr(value)


def _chained(task: Executable) -> list[Executable]:
    return list(task.tasks) if isinstance(task, SequentialTask) else [task]
