"""How often a failed task is tried again, and how long to wait before."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from graflow.durations import LONGEST, MOST
from graflow.exceptions import ConfigError, GraflowError, PayloadError, RetryLimitExceededError, named
from graflow.foreign import attempt
from graflow.given import checked_count
from graflow.text.shown import get_logger

_log = get_logger(__name__)

ErrorFilter = type[BaseException] | tuple[type[BaseException], ...] | Callable[[BaseException], bool]
"""An error type, several of them, or a function that says yes or no to an error."""

_INTERVALS = ("initial_interval", "backoff_factor", "max_interval")


@dataclass
class RetryPolicy:
    """Exponential backoff: whether a failed task is tried again, and when.

    An error may say itself when: one with an attribute `retry_in` (seconds, or a `timedelta`), such as a server's
    Retry-After, is waited for that long instead.

    Attributes:
        max_retries: Attempts after the first.
        initial_interval: Seconds before the first retry.
        backoff_factor: What the interval is multiplied by for each further one.
        max_interval: Seconds that an interval never exceeds.
        jitter: Multiply each interval by a random factor between 0.5 and 1.5.
        retry_on: Which errors are worth a retry: a type, a tuple of types, or a function of the error; all by default.
        give_up_on: Which errors are not, given likewise; it beats `retry_on`.

    Raises:
        ConfigError: A value is of the wrong type or out of range.
    """

    max_retries: int = 0
    initial_interval: float = 1.0
    backoff_factor: float = 2.0
    max_interval: float = 60.0
    jitter: bool = False
    retry_on: ErrorFilter | None = None
    give_up_on: ErrorFilter | None = None

    def __post_init__(self) -> None:
        self.max_retries = checked_count("RetryPolicy.max_retries", self.max_retries, most=MOST)
        for name in _INTERVALS:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
                raise ConfigError(f"RetryPolicy.{name} must be a number of at least 0, not {value!r}")
            if value > LONGEST:
                raise ConfigError(f"RetryPolicy.{name} must be at most {LONGEST}, not {value!r}")
        if not isinstance(self.jitter, bool):
            raise ConfigError(f"RetryPolicy.jitter must be True or False, not {self.jitter!r}")
        for name in ("retry_on", "give_up_on"):
            checked_filter(f"RetryPolicy.{name}", getattr(self, name))

    def get_delay(self, retry_count: int) -> float:
        """Seconds to wait before a retry, counted from 0; never more than `max_interval`."""
        try:
            delay = min(self.initial_interval * self.backoff_factor**retry_count, self.max_interval)
        except OverflowError:
            delay = self.max_interval
        if self.jitter:
            delay = min(delay * random.uniform(0.5, 1.5), self.max_interval)  # noqa: S311 - spreads load, keeps no secret
        return float(delay)

    def accepts(self, error: BaseException) -> bool:
        """Whether an error is worth a retry."""
        if self.give_up_on is not None and _matches(self.give_up_on, error):
            return False
        return self.retry_on is None or _matches(self.retry_on, error)

    def numbers(self) -> dict[str, int | float | bool]:
        """The part of the policy that travels as data; what it makes of errors stays where it is defined."""
        return {name: getattr(self, name) for name in ("max_retries", *_INTERVALS, "jitter")}


def checked_filter(name: str, value: Any) -> ErrorFilter | None:
    """An `ErrorFilter`, or None.

    Raises:
        ConfigError: It is something else.
    """
    if value is None:
        return None
    kinds = value if isinstance(value, tuple) else (value,)
    are_types = bool(kinds) and all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds)
    if are_types or (callable(value) and not isinstance(value, type)):
        return value  # type: ignore[no-any-return]  # looked at just now
    raise ConfigError(f"{name} must be an error type, a tuple of them, or a function of the error, not {value!r}")


def _matches(wanted: ErrorFilter, error: BaseException) -> bool:
    if isinstance(wanted, type | tuple):
        return isinstance(error, wanted)
    return bool(wanted(error))


def _is_unclear(node_id: str, raised: Exception) -> bool:
    """What follows when a function of the user's fails over an error: that error is the one to raise."""
    _log.warning("Task '%s' is not tried again, since its retry_on or give_up_on failed: %s", node_id, named(raised))
    return False


def _asked_for(error: BaseException | None) -> float | None:
    """Seconds after which the error itself says that a retry makes sense."""
    wanted = getattr(error, "retry_in", None)
    if isinstance(wanted, timedelta):
        wanted = wanted.total_seconds()
    if isinstance(wanted, bool) or not isinstance(wanted, int | float) or not 0 <= wanted <= LONGEST:
        return None
    return float(wanted)


class RetryController:
    """Counts retries by task id and knows each task's limit and policy."""

    def __init__(self, default_max_retries: int = 0) -> None:
        self.default_max_retries = default_max_retries
        self.retry_counts: dict[str, int] = {}
        self.node_max_retries: dict[str, int] = {}
        self.node_policies: dict[str, RetryPolicy] = {}
        self.last_errors: dict[str, BaseException] = {}

    def set_node_max_retries(self, node_id: str, max_retries: int) -> None:
        """Limit one task; this beats the default."""
        self.node_max_retries[node_id] = max_retries

    def get_max_retries_for_node(self, node_id: str) -> int:
        return self.node_max_retries.get(node_id, self.default_max_retries)

    def set_node_policy(self, node_id: str, policy: RetryPolicy) -> None:
        """Give one task a policy, and with it the policy's limit."""
        self.node_policies[node_id] = policy
        self.node_max_retries[node_id] = policy.max_retries

    def inherit(self, node_id: str, base_id: str) -> None:
        """Give a pass of a task the limit and policy that the task has."""
        if base_id in self.node_policies:
            self.set_node_policy(node_id, self.node_policies[base_id])
        if base_id in self.node_max_retries:
            self.set_node_max_retries(node_id, self.node_max_retries[base_id])

    def get_policy_for_node(self, node_id: str) -> RetryPolicy | None:
        return self.node_policies.get(node_id)

    def get_retry_count(self, node_id: str) -> int:
        return self.retry_counts.get(node_id, 0)

    def get_last_error(self, node_id: str) -> BaseException | None:
        return self.last_errors.get(node_id)

    def increment(self, node_id: str, error: BaseException | None = None) -> int:
        """Count one more retry and return the new count; without an error the earlier one is kept."""
        if error is not None:
            self.last_errors[node_id] = error
        count = self.retry_counts[node_id] = self.retry_counts.get(node_id, 0) + 1
        return count

    def accept_retry(self, node_id: str) -> bool:
        """Whether the task may be tried once more."""
        return self.get_retry_count(node_id) < self.get_max_retries_for_node(node_id)

    def get_delay(self, node_id: str) -> float:
        """Seconds to wait before the retry that was counted last: what the error asks for, else what the policy says.

        0.0 for a task without a policy.
        """
        wanted = _asked_for(self.last_errors.get(node_id))
        if wanted is not None:
            return wanted
        policy = self.node_policies.get(node_id)
        return 0.0 if policy is None else policy.get_delay(max(self.get_retry_count(node_id) - 1, 0))

    def is_worth_retry(self, node_id: str, error: BaseException) -> bool:
        """Whether a retry after this error may help, and the task's policy has nothing against it."""
        if isinstance(error, PayloadError) and error.is_final:
            return False
        policy = self.node_policies.get(node_id)
        return policy is None or attempt(lambda: policy.accepts(error), lambda raised: _is_unclear(node_id, raised))

    def check_retry_limit(self, node_id: str) -> None:
        """Refuse one more retry of a task that has used up its budget; a budget of 0 is used up from the start.

        Raises:
            RetryLimitExceededError: the count has reached the limit.
        """
        count, limit = self.get_retry_count(node_id), self.get_max_retries_for_node(node_id)
        if count >= limit:
            raise RetryLimitExceededError(node_id, count, limit, self.get_last_error(node_id))

    def reset(self, node_id: str) -> None:
        """Give the task its full budget again."""
        self.retry_counts.pop(node_id, None)
        self.last_errors.pop(node_id, None)

    def forget(self, task_id: str) -> None:
        """Know nothing of the task any more, its limits included."""
        for table in (self.retry_counts, self.last_errors, self.node_max_retries, self.node_policies):
            table.pop(task_id, None)

    def __getstate__(self) -> dict[str, Any]:
        # As the cause of an error of ours, an error of a user survives pickling, if need be as a description.
        kept = {node_id: GraflowError("", error) for node_id, error in self.last_errors.items()}
        # Copies, since members of a group share these tables while another of them saves the run.
        tables = {name: value.copy() for name, value in self.__dict__.items() if isinstance(value, dict)}
        return self.__dict__ | tables | {"last_errors": kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.last_errors = {node_id: kept.cause for node_id, kept in state["last_errors"].items()}
