"""A waiter that holds a worker's slot runs members itself, so that the slot is not held for nothing."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Container, Sequence
from typing import Final

from graflow_celery.deployment import Deployment
from graflow_celery.record import GroupSpec
from graflow_celery.worker.batches.batch import listening, run_members
from graflow_celery.worker.continuation import run_continuation

_OFFERED_AT_ONCE: Final = 50  # members that it claims one of


class Helper:
    """Runs unclaimed members of one run, one or one block at a time, in the thread that waits for them.

    Args:
        deployment: Where the record is.
        spec: The group.
    """

    def __init__(self, deployment: Deployment, spec: GroupSpec) -> None:
        self._deployment = deployment
        self._run_id = spec.run_id
        self._spec = spec
        self._unclaimed: list[int] | None = None  # not known

    @property
    def is_useful(self) -> bool:
        """Whether there may be something to run."""
        return self._unclaimed != []

    def rest(self) -> None:
        """Take it that nothing is unclaimed, until `look_again`."""
        self._unclaimed = []

    def look_again(self) -> None:
        """Take it that members may be unclaimed again."""
        self._unclaimed = None

    def run_one(self, ended: Container[int]) -> bool:
        """Run the next unclaimed member here; False when there is none."""
        if self._unclaimed is None:
            self._unclaimed = [index for index in range(self._spec.n) if index not in ended]
        runtime = self._deployment.runtime
        worker = runtime.name
        while self._unclaimed:
            offered = self._offered(self._unclaimed)
            owner = f"{worker}:{runtime.token()}"
            ran = run_members(
                *(self._deployment, self._run_id, offered),
                owner=owner,
                worker=worker,
                in_blocks=self._spec.stride > 0,
                limit=1,
                listener=listening.get(),
            )
            if ran is not None:
                return True
            del self._unclaimed[: len(offered)]
        return False

    def _offered(self, unclaimed: Sequence[int]) -> Sequence[int]:
        """Members of which one, or the block that they are, is claimed next."""
        stride = self._spec.stride
        if not stride:
            return unclaimed[:_OFFERED_AT_ONCE]
        return unclaimed[: bisect_left(unclaimed, (unclaimed[0] // stride + 1) * stride)]

    def run_continuation(self) -> bool:
        """Run the continuation here when it is due; False when it is not, or runs elsewhere."""
        return run_continuation(self._deployment, self._run_id, self._deployment.runtime.name) is not None
