"""Submitting a group once more whose record is gone."""

from __future__ import annotations

from collections.abc import Callable

from graflow.exceptions import GraflowRuntimeError, GroupLostError
from graflow.text.shown import get_logger
from graflow_celery.client.submission import Submission, open_and_publish
from graflow_celery.client.waiting.seen import Seen
from graflow_celery.client.waiting.sighting import Sighting
from graflow_celery.deployment import Deployment
from graflow_celery.record import GroupSpec

_log = get_logger(__name__)


class Resubmission:
    """Submits one group again, with the outcomes that were read of it.

    Attributes:
        submission: What was submitted; None in processes that did not.

    Args:
        deployment: Where the record was.
        spec: The group.
        submission: As above.
        sighting: What this process has seen of the run.
        is_durable: Whether the caller keeps outcomes of its own and goes on whatever became of the record.
        before_publishing: What must be in place again before any member can run.
    """

    def __init__(
        self,
        deployment: Deployment,
        spec: GroupSpec,
        submission: Submission | None,
        sighting: Sighting,
        *,
        is_durable: bool,
        before_publishing: Callable[[], None] | None,
    ) -> None:
        self._deployment = deployment
        self._spec = spec
        self.submission = submission
        self._sighting = sighting
        self._is_durable = is_durable
        self._before_publishing = before_publishing

    def submit(self, error: GraflowRuntimeError, seen: Seen) -> None:
        """Submit it, when its record was wiped out.

        Args:
            error: What was raised for the record that is absent.
            seen: The outcomes that were read before.

        Raises:
            GroupNotFoundError: When it is absent for another reason, such as that its time was over.
            GroupLostError: When it was wiped out and somebody else submitted it.
            redis.exceptions.RedisError: When the record cannot be asked or written.
        """
        told = self._sighting.explain(error)
        is_wiped = isinstance(told, GroupLostError)
        if self.submission is None or not (is_wiped or self._is_durable):
            raise told from None
        run_id = self._spec.run_id
        if not is_wiped:
            self._deployment.record.delete(run_id)  # whatever is left of it
        _log.warning("The record of run %s is gone; submitting it again", run_id)
        open_and_publish(
            self._deployment,
            self.submission,
            [index for index in range(self._spec.n) if index not in seen],
            known=list(seen.values()),
            before_publishing=self._before_publishing,
        )
