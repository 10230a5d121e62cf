"""How often a failed task is tried again, and how long to wait before."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from graflow.exceptions import GraflowError, RetryLimitExceededError


@dataclass
class RetryPolicy:
    """Exponential backoff; intervals are in seconds."""

    max_retries: int = 0
    initial_interval: float = 1.0
    backoff_factor: float = 2.0
    max_interval: float = 60.0
    jitter: bool = False

    def __post_init__(self) -> None:
        for name in ("max_retries", "initial_interval", "backoff_factor", "max_interval"):
            if getattr(self, name) < 0:
                raise ValueError(f"RetryPolicy.{name} must not be negative, got {getattr(self, name)!r}")

    def get_delay(self, retry: int) -> float:
        """Seconds to wait before a retry, counted from 0; never more than `max_interval`."""
        try:
            delay = min(self.initial_interval * self.backoff_factor**retry, self.max_interval)
        except OverflowError:
            delay = self.max_interval
        if self.jitter:
            delay = min(delay * random.uniform(0.5, 1.5), self.max_interval)  # noqa: S311 - spreads load, keeps no secret
        return float(delay)


class RetryController:
    """Counts retries by task id and knows each task's limit and policy."""

    def __init__(self, default_max_retries: int = 0) -> None:
        self.default_max_retries = default_max_retries
        self.retry_counts: dict[str, int] = {}
        self.node_max_retries: dict[str, int] = {}
        self.node_policies: dict[str, RetryPolicy] = {}
        self.last_errors: dict[str, BaseException] = {}

    def set_node_max_retries(self, task_id: str, max_retries: int) -> None:
        """Limit one task; this beats the default."""
        self.node_max_retries[task_id] = max_retries

    def get_max_retries_for_node(self, task_id: str) -> int:
        return self.node_max_retries.get(task_id, self.default_max_retries)

    def set_node_policy(self, task_id: str, policy: RetryPolicy) -> None:
        """Give one task a policy, and with it the policy's limit."""
        self.node_policies[task_id] = policy
        self.node_max_retries[task_id] = policy.max_retries

    def inherit(self, task_id: str, base_id: str) -> None:
        """Give a pass of a task the limit and policy that the task has."""
        if base_id in self.node_policies:
            self.set_node_policy(task_id, self.node_policies[base_id])
        elif base_id in self.node_max_retries:
            self.set_node_max_retries(task_id, self.node_max_retries[base_id])

    def get_policy_for_node(self, task_id: str) -> RetryPolicy | None:
        return self.node_policies.get(task_id)

    def get_retry_count(self, task_id: str) -> int:
        return self.retry_counts.get(task_id, 0)

    def get_last_error(self, task_id: str) -> BaseException | None:
        return self.last_errors.get(task_id)

    def increment(self, task_id: str, error: BaseException | None = None) -> int:
        """Count one more retry and return the new count; without an error the earlier one is kept."""
        if error is not None:
            self.last_errors[task_id] = error
        count = self.retry_counts[task_id] = self.retry_counts.get(task_id, 0) + 1
        return count

    def accept_retry(self, task_id: str) -> bool:
        """Whether the task may be tried once more."""
        return self.get_retry_count(task_id) < self.get_max_retries_for_node(task_id)

    def get_delay(self, task_id: str) -> float:
        """Seconds to wait before the retry that was counted last; 0.0 for a task without a policy."""
        policy = self.node_policies.get(task_id)
        return 0.0 if policy is None else policy.get_delay(max(self.get_retry_count(task_id) - 1, 0))

    def check_retry_limit(self, task_id: str) -> None:
        """Refuse one more retry of a task that has used up its budget; a budget of 0 is used up from the start.

        Raises:
            RetryLimitExceededError: the count has reached the limit.
        """
        count, limit = self.get_retry_count(task_id), self.get_max_retries_for_node(task_id)
        if count >= limit:
            raise RetryLimitExceededError(task_id, count, limit, self.get_last_error(task_id))

    def reset(self, task_id: str) -> None:
        """Give the task its full budget again."""
        self.retry_counts.pop(task_id, None)
        self.last_errors.pop(task_id, None)

    def __getstate__(self) -> dict[str, Any]:
        # As the cause of an error of ours, an error of a user survives pickling, if need be as a description.
        kept = {task_id: GraflowError("", error) for task_id, error in self.last_errors.items()}
        # Copies, since members of a group share these tables while another of them saves the run.
        tables = {name: value.copy() for name, value in self.__dict__.items() if isinstance(value, dict)}
        return self.__dict__ | tables | {"last_errors": kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.last_errors = {task_id: kept.cause for task_id, kept in state["last_errors"].items()}
