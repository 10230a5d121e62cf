"""What the record is told of a group beside its members: its policy, their options, and what is shown of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from graflow.core.handlers.group_policy import (
    AtLeastNGroupPolicy,
    CriticalGroupPolicy,
    GroupExecutionPolicy,
    StrictGroupPolicy,
    canonicalize_group_policy,
    resolve_group_policy,
)
from graflow.core.nodes.columns import MemberIds
from graflow_celery.record import GroupSpec
from graflow_celery.settings import GroupOptions
from graflow_celery.worker.others import WORKER_WAIT

_CUSTOM: Final = {"type": "__custom__"}


def terms_of(policy: GroupExecutionPolicy, n: int, ids: Sequence[str]) -> dict[str, Any]:
    """What the record keeps of a policy."""
    return {
        "policy": _plain_policy(policy),
        "min_success": _needed(policy, n),
        "enough": enough_of(policy),
        "fail_fast": is_fail_fast(policy),
        "critical": _critical(policy, ids),
    }


def _plain_policy(policy: GroupExecutionPolicy) -> Any:
    canonical = canonicalize_group_policy(policy)
    if isinstance(canonical, Mapping) and canonical.get("type") == _CUSTOM["type"]:
        return _CUSTOM
    return canonical


def policy_of(spec: GroupSpec) -> GroupExecutionPolicy:
    """The policy that the record names; one of the submitter's own making stayed there, so strict stands in."""
    policy = spec.policy
    if isinstance(policy, Mapping) and policy.get("type") == _CUSTOM["type"]:
        return StrictGroupPolicy()
    return resolve_group_policy(policy)


def _needed(policy: GroupExecutionPolicy, n: int) -> int:
    """How many members have to succeed for the record to call the group DONE."""
    if isinstance(policy, StrictGroupPolicy):
        return n
    return policy.min_success if isinstance(policy, AtLeastNGroupPolicy) else 0


def enough_of(policy: GroupExecutionPolicy) -> int:
    return policy.min_success if isinstance(policy, AtLeastNGroupPolicy) and policy.cancel_rest else 0


def is_fail_fast(policy: GroupExecutionPolicy) -> bool:
    return isinstance(policy, StrictGroupPolicy) and policy.fail_fast


def _critical(policy: GroupExecutionPolicy, ids: Sequence[str]) -> tuple[int, ...]:
    if not isinstance(policy, CriticalGroupPolicy):
        return ()
    wanted = set(policy.critical_task_ids)
    return tuple(index for index, task_id in enumerate(ids) if task_id in wanted)


def _options_of(member: object) -> dict[str, Any]:
    return dict(getattr(member, "options", None) or {})


def attempts_of(members: Sequence[Any], n: int, then: object) -> dict[str, int]:
    """`max_attempts` of the members that have one of their own, by index."""
    each = [*enumerate(members), *(() if then is None else ((n, then),))]
    own = ((index, _options_of(member).get("max_attempts")) for index, member in each)
    return {str(index): attempts for index, attempts in own if attempts is not None}


def celery_options(members: Sequence[Any], n: int, then: object) -> dict[str, Any]:
    """The Celery options of the members, once when all have the same, else by index; the continuation's by its own."""
    each = [_celerys_options_of(member) for member in members]
    are_same = all(options == each[0] for options in each)
    apart = {} if are_same else {str(index): options for index, options in enumerate(each) if options}
    last = {} if then is None else _celerys_options_of(then)
    own = {**apart, str(n): last} if last else apart
    common = {"common": each[0]} if are_same and any(each) else {}
    return {**common, "own": own} if own else common


def own_wait(options: GroupOptions) -> dict[str, float]:
    """How long members wait for a worker that knows them, where it is not the usual time."""
    return {} if options.worker_wait == WORKER_WAIT else {"worker_wait": options.worker_wait}


def _celerys_options_of(task: object) -> dict[str, Any]:
    return {key: value for key, value in _options_of(task).items() if key != "max_attempts"}


def facts_shown(workflow: str, group_id: str, members: Sequence[Any], ids: Sequence[str], then: Any) -> dict[str, Any]:
    """Names for monitors, and whether member ids follow from the group's."""

    def label(task: Any) -> str:
        name = str(getattr(task, "__name__", None) or task.task_id)
        return f"{workflow}.{name}" if workflow else name

    names = [label(member) for member in members]
    shown: dict[str, Any] = {
        "name": names[0] if names and len(set(names)) == 1 else f"{workflow}.{group_id}" if workflow else group_id
    }
    if len(set(names)) > 1:
        shown["names"] = {str(index): name for index, name in enumerate(names)}
    if _are_regular(group_id, ids):
        shown["regular"] = True
    if then is not None:
        shown["then"] = label(then)
        shown["then_id"] = then.task_id
    return shown


def _are_regular(group_id: str, ids: Sequence[str]) -> bool:
    """Whether the ids follow from the group's."""
    if isinstance(ids, MemberIds):
        return ids.keys is None and ids.name == group_id
    return all(task_id == f"{group_id}[{index}]" for index, task_id in enumerate(ids))
