"""Rules that decide, from the results of its members, whether a parallel group succeeded."""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graflow.core.handler import TaskResult
from graflow.exceptions import GraflowError, MemberLeftOutError, ParallelGroupError, TaskError, named
from graflow.protocols import Run, Unit
from graflow.text.shown import get_logger

_log = get_logger(__name__)

LEFT_OUT_ENOUGH = "enough members have succeeded"
LEFT_OUT_FAILED = "a member has failed"

_CUSTOM = "__custom__"
_LISTED = 5


@dataclass(frozen=True)
class EarlyEnd:
    """A group ends before all of its members have: why, and whether those that run are not waited for either."""

    why: str
    leaves_running: bool


class GroupExecutionPolicy(ABC):
    """Accepts a finished group by returning from `on_group_finished`, refuses it by raising."""

    @abstractmethod
    def on_group_finished(
        self, group_id: str, tasks: Sequence[Unit], results: Mapping[str, TaskResult], context: Any
    ) -> None:
        """Judge a group whose members have all ended; `results` maps member ids to their results."""

    def get_name(self) -> str:
        """What messages call the policy; the name of its class by default."""
        return type(self).__name__

    def validate(self, member_ids: Sequence[str]) -> None:  # noqa: B027 - optional to override
        """Raise `ValueError` when the policy cannot apply to this group; asked before any member starts."""

    @staticmethod
    def _validate_group_results(group_id: str, tasks: Sequence[Unit], results: Mapping[str, TaskResult]) -> None:
        """Make sure that there is one result for each member and no other.

        Raises:
            ParallelGroupError: "result mismatch", naming the missing and the unexpected ids.
        """
        member_ids = [task.task_id for task in tasks]
        known = set(member_ids)
        missing = [task_id for task_id in member_ids if task_id not in results]
        unexpected = [task_id for task_id in results if task_id not in known]
        if missing or unexpected:
            raise _failure(
                f"Parallel group '{group_id}' result mismatch: missing {missing}, unexpected {unexpected}",
                group_id,
                tasks,
                results,
            )

    @staticmethod
    def _partition_group_results(results: Mapping[str, TaskResult]) -> tuple[list[str], list[tuple[str, str]]]:
        """Ids of the members that succeeded, and id and message of those that failed, in the order of the results."""
        succeeded = [task_id for task_id, result in results.items() if result.success]
        return succeeded, [(task_id, _reason(result)) for task_id, result in results.items() if not result.success]


def _failed(tasks: Sequence[Unit], results: Mapping[str, TaskResult]) -> list[TaskResult]:
    """The failed results in member order; to be left out is no failure."""
    bad = (result for task in tasks if (result := results.get(task.task_id)) is not None and not result.success)
    return [result for result in bad if not isinstance(result.error, MemberLeftOutError)]


def _reason(result: TaskResult) -> str:
    if not result.error_message and result.error is None:
        return "Unknown error"
    return _where(result) + (result.error_message or str(result.error) or repr(result.error))


def _where(result: TaskResult) -> str:
    """Which task behind the member failed, unless the error says so itself."""
    is_named = result.failed_at is None or isinstance(result.error, GraflowError)
    return "" if is_named else f"Task '{result.failed_at}' failed: "


def _listing(failed: Sequence[TaskResult]) -> str:
    shown = "; ".join(
        f"'{result.task_id}': {_reason(result) if result.error is None else _where(result) + named(result.error)}"
        for result in failed[:_LISTED]
    )
    return shown if len(failed) <= _LISTED else f"{shown}; and {len(failed) - _LISTED} more"


def _failure(
    message: str,
    group_id: str,
    tasks: Sequence[Unit],
    results: Mapping[str, TaskResult],
    blamed: Sequence[TaskResult] | None = None,
) -> ParallelGroupError:
    """The error of a refused group; its cause is the exception of the first member to blame."""
    failed = _failed(tasks, results)
    succeeded = [task.task_id for task in tasks if (r := results.get(task.task_id)) is not None and r.success]
    error = ParallelGroupError(
        message,
        group_id,
        [(result.task_id, _reason(result)) for result in failed],
        succeeded,
        errors={result.task_id: result.error or TaskError(result.task_id, _reason(result)) for result in failed},
    )
    error.__cause__ = next((result.error for result in blamed or failed if result.error is not None), None)
    return error


class _BuiltInPolicy(GroupExecutionPolicy):
    """Compares results with members, then asks for the reason to refuse the group, if there is one."""

    def on_group_finished(
        self,
        group_id: str,
        tasks: Sequence[Unit],
        results: Mapping[str, TaskResult],
        context: Run,  # noqa: ARG002 - for policies of users
    ) -> None:
        self._validate_group_results(group_id, tasks, results)
        self.validate([task.task_id for task in tasks])
        failed = _failed(tasks, results)
        succeeded = sum(1 for result in results.values() if result.success)
        if refusal := self._refusal(failed, succeeded, len(tasks)):
            reason, blamed = refusal
            message = f"Parallel group '{group_id}': {reason}: {_listing(blamed)}"
            raise _failure(message, group_id, tasks, results, blamed=blamed)
        if failed:
            _log.warning(
                "Parallel group '%s': policy %s accepts %d failed tasks: %s",
                group_id,
                self.get_name(),
                len(failed),
                _listing(failed),
            )

    @abstractmethod
    def _refusal(
        self, failed: Sequence[TaskResult], succeeded: int, size: int
    ) -> tuple[str, Sequence[TaskResult]] | None:
        """Why a group of this size is refused and the failures to blame, or `None` to accept it."""


class StrictGroupPolicy(_BuiltInPolicy):
    """Every member must succeed.

    Args:
        fail_fast: Whether no other member is started once one has failed; those that run come to their end, and the
            others are left out: `MemberLeftOutError`, CANCELLED on workers.
    """

    fail_fast = False  # of a subclass that does not ask

    def __init__(self, fail_fast: bool = False) -> None:
        self.fail_fast = _checked_flag("fail_fast", fail_fast)

    def early_end(self, succeeded: int, failed: int) -> EarlyEnd | None:  # noqa: ARG002 - the signature of all
        return EarlyEnd(LEFT_OUT_FAILED, leaves_running=False) if self.fail_fast and failed else None

    def get_name(self) -> str:
        return "strict"

    def _refusal(
        self, failed: Sequence[TaskResult], succeeded: int, size: int
    ) -> tuple[str, Sequence[TaskResult]] | None:
        if succeeded == size:
            return None
        left_out = size - succeeded - len(failed)
        others = f", {left_out} were left out" if left_out else ""
        return f"{len(failed)} of {size} tasks failed{others}", failed


class BestEffortGroupPolicy(_BuiltInPolicy):
    """Failures are logged and accepted."""

    def get_name(self) -> str:
        return "best_effort"

    def _refusal(self, failed: Sequence[TaskResult], succeeded: int, size: int) -> None:
        """Nothing is refused."""


class CriticalGroupPolicy(_BuiltInPolicy):
    """The named members must succeed; failures of the others are logged and accepted."""

    def __init__(self, critical_task_ids: Iterable[str]) -> None:
        if isinstance(critical_task_ids, str) or not isinstance(critical_task_ids, Iterable):
            kind = "the string " if isinstance(critical_task_ids, str) else ""
            raise TypeError(f"critical_task_ids must be a collection of ids, got {kind}{critical_task_ids!r}")
        given = set(critical_task_ids)
        if wrong := [task_id for task_id in given if not isinstance(task_id, str)]:
            raise TypeError(f"critical_task_ids must be ids of tasks, such as ['load'], not {wrong[0]!r}")
        self.critical_task_ids = sorted(given)
        if not self.critical_task_ids:
            raise ValueError("critical_task_ids must name at least one task")

    def get_name(self) -> str:
        return "critical"

    def validate(self, member_ids: Sequence[str]) -> None:
        """Refuse a group that lacks one of the critical tasks."""
        if unknown := sorted(set(self.critical_task_ids).difference(member_ids)):
            raise ValueError(f"Critical task ids {unknown} are not in the group; its members are {list(member_ids)}")

    def _refusal(
        self,
        failed: Sequence[TaskResult],
        succeeded: int,  # noqa: ARG002 - the signature of all
        size: int,  # noqa: ARG002 - the signature of all
    ) -> tuple[str, Sequence[TaskResult]] | None:
        critical = [result for result in failed if result.task_id in self.critical_task_ids]
        return ("critical tasks failed", critical) if critical else None


class AtLeastNGroupPolicy(_BuiltInPolicy):
    """A minimum number of members must succeed; further failures are logged and accepted.

    Args:
        min_success: The number.
        cancel_rest: Whether the group ends as soon as so many have succeeded. The others are left out, also those that
            run, which may ask `is_cancelled()`: `MemberLeftOutError`, CANCELLED on workers, None in lists of values.
    """

    cancel_rest = False  # of a subclass that does not ask

    def __init__(self, min_success: int, cancel_rest: bool = False) -> None:
        if isinstance(min_success, bool) or not isinstance(min_success, int):
            raise TypeError(f"min_success must be an int, got {min_success!r}")
        if min_success < 0:
            raise ValueError(f"min_success must not be negative, got {min_success}")
        self.min_success = min_success
        self.cancel_rest = _checked_flag("cancel_rest", cancel_rest)
        if cancel_rest and not min_success:
            raise ValueError("cancel_rest needs a min_success of at least 1: with 0 no member would be started")

    def early_end(self, succeeded: int, failed: int) -> EarlyEnd | None:  # noqa: ARG002 - the signature of all
        is_enough = self.cancel_rest and succeeded >= self.min_success
        return EarlyEnd(LEFT_OUT_ENOUGH, leaves_running=True) if is_enough else None

    def get_name(self) -> str:
        return f"at_least_{self.min_success}"

    def validate(self, member_ids: Sequence[str]) -> None:
        """Refuse a group that is smaller than the required number of successes."""
        if self.min_success > len(member_ids):
            raise ValueError(f"min_success={self.min_success} is larger than the group of {len(member_ids)} tasks")

    def _refusal(
        self,
        failed: Sequence[TaskResult],
        succeeded: int,
        size: int,  # noqa: ARG002 - the signature of all
    ) -> tuple[str, Sequence[TaskResult]] | None:
        if succeeded >= self.min_success:
            return None
        return f"only {succeeded}/{self.min_success} required tasks succeeded", failed


def _checked_flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return value


_Impatient = StrictGroupPolicy | AtLeastNGroupPolicy


def impatient(policy: object) -> _Impatient | None:
    """The policy itself when it may end a group early: the two kinds whose rules hold on workers too."""
    if isinstance(policy, StrictGroupPolicy):
        return policy if policy.fail_fast else None
    return policy if isinstance(policy, AtLeastNGroupPolicy) and policy.cancel_rest else None


_BUILT_IN = frozenset({StrictGroupPolicy, BestEffortGroupPolicy, CriticalGroupPolicy, AtLeastNGroupPolicy})


def accepts_successes(policy: object) -> bool:
    """Whether a policy that was found to fit a group accepts it when every member has succeeded, whoever that is."""
    return type(policy) in _BUILT_IN


POLICY_REGISTRY: dict[str, type[GroupExecutionPolicy]] = {
    "strict": StrictGroupPolicy,
    "best_effort": BestEffortGroupPolicy,
    "critical": CriticalGroupPolicy,
    "at_least_n": AtLeastNGroupPolicy,
}


def canonicalize_group_policy(policy: object) -> str | dict[str, Any]:
    """The plain form of a policy, which `resolve_group_policy` turns back into an instance.

    Raises:
        TypeError: neither a name, nor a policy, nor a mapping of a known form.
    """
    if isinstance(policy, str):
        return policy
    if isinstance(policy, GroupExecutionPolicy):
        return _canonical_instance(policy)
    if isinstance(policy, Mapping):
        try:
            _from_mapping(policy)
        except ValueError as error:
            raise TypeError(f"Not a group policy: {error}") from error
        return dict(policy)
    raise TypeError(f"A group policy is a name, a mapping or a GroupExecutionPolicy, not {type(policy).__name__}")


def _canonical_instance(policy: GroupExecutionPolicy) -> str | dict[str, Any]:
    if type(policy) is StrictGroupPolicy and policy.fail_fast:
        return {"type": "strict", "fail_fast": True}
    if type(policy) in {StrictGroupPolicy, BestEffortGroupPolicy}:
        return policy.get_name()
    if type(policy) is CriticalGroupPolicy:
        return {"type": "critical", "critical_task_ids": list(policy.critical_task_ids)}
    if type(policy) is AtLeastNGroupPolicy:
        rest = {"cancel_rest": True} if policy.cancel_rest else {}
        return {"type": "at_least_n", "min_success": policy.min_success, **rest}
    return {"type": _CUSTOM, "policy": policy}


def resolve_group_policy(policy: object) -> GroupExecutionPolicy:
    """The policy for a name, a canonical form or an instance; names are case-insensitive.

    Raises:
        ValueError: an unknown name or type, or a malformed mapping.
        TypeError: any other Python type.
    """
    if isinstance(policy, str):
        return _build(policy, {})
    if isinstance(policy, GroupExecutionPolicy):
        return policy
    if isinstance(policy, Mapping):
        return _from_mapping(policy)
    raise TypeError(f"A group policy is a name, a mapping or a GroupExecutionPolicy, not {type(policy).__name__}")


def _from_mapping(form: Mapping[str, Any]) -> GroupExecutionPolicy:
    fields = dict(form)
    name = fields.pop("type", None)
    if not isinstance(name, str):
        raise ValueError(f"A group policy mapping needs a 'type', got {form!r}")  # noqa: TRY004 - malformed, not mistyped
    if name.lower() != _CUSTOM:
        return _build(name, fields)
    instance = fields.get("policy")
    if not isinstance(instance, GroupExecutionPolicy):
        raise ValueError(f"A '{_CUSTOM}' group policy needs a GroupExecutionPolicy in 'policy', got {instance!r}")  # noqa: TRY004 - as above
    return instance


def _build(name: str, fields: Mapping[str, Any]) -> GroupExecutionPolicy:
    try:
        kind = POLICY_REGISTRY[name.lower()]
    except KeyError:
        known = sorted(POLICY_REGISTRY)
        near = difflib.get_close_matches(name.lower(), known, 1)
        meant = f"; did you mean '{near[0]}'?" if near else ""
        raise ValueError(f"Unknown group policy '{name}'; known: {', '.join(known)}{meant}") from None
    try:
        return kind(**fields)
    except TypeError as error:
        raise ValueError(f"Group policy '{name}' cannot be made from {dict(fields)!r}: {error}") from error
