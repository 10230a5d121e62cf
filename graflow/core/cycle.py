"""How often each task has run, and how often it may."""

from __future__ import annotations

from typing import Any

from graflow.exceptions import CycleLimitExceededError


class CycleController:
    """Counts executions by task id; `cycle_counts` is a plain dict and may be written to."""

    def __init__(self, default_max_cycles: int = 100) -> None:
        self.default_max_cycles = default_max_cycles
        self.cycle_counts: dict[str, int] = {}
        self.node_max_cycles: dict[str, int] = {}

    def set_node_max_cycles(self, node_id: str, max_cycles: int) -> None:
        """Limit one task; this beats the default."""
        self.node_max_cycles[node_id] = max_cycles

    def get_max_cycles_for_node(self, node_id: str) -> int:
        return self.node_max_cycles.get(node_id, self.default_max_cycles)

    def get_cycle_count(self, node_id: str) -> int:
        return self.cycle_counts.get(node_id, 0)

    def increment(self, node_id: str) -> int:
        """Count one more execution and return the new count; limits are not looked at."""
        counts = self.cycle_counts
        count = counts[node_id] = counts.get(node_id, 0) + 1
        return count

    def accept_next_cycle(self, node_id: str) -> bool:
        """Whether the task may run once more by iteration."""
        return self.get_cycle_count(node_id) < self.get_max_cycles_for_node(node_id)

    def check_cycle_limit(self, node_id: str) -> None:
        """Refuse one more cycle of a task that has used up its limit.

        Raises:
            CycleLimitExceededError: the count has reached the limit.
        """
        count, limit = self.get_cycle_count(node_id), self.get_max_cycles_for_node(node_id)
        if count >= limit:
            raise CycleLimitExceededError(node_id, count, limit)

    def __getstate__(self) -> dict[str, Any]:
        # Copies, since members of a group share these tables while another of them saves the run.
        return {name: value.copy() if isinstance(value, dict) else value for name, value in self.__dict__.items()}
