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

    Args:
        deployment: Where the record was.
        spec: The group.
        submission: What was submitted; None in processes that did not.
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
        self._submission = submission
        self._sighting = sighting
        self._is_durable = is_durable
        self._before_publishing = before_publishing

    def make_way(self, error: GraflowRuntimeError) -> Submission:
        """What is to be submitted again, where that may be; whatever is left of the record is taken away.

        Args:
            error: What was raised for the record that is absent.

        Raises:
            GroupNotFoundError: When it is absent for another reason than a loss, such as that its time was over.
            GroupLostError: When it was wiped out and somebody else submitted it.
            redis.exceptions.RedisError: When the record cannot be asked.
        """
        told = self._sighting.explain(error)
        is_wiped = isinstance(told, GroupLostError)
        if self._submission is None or not (is_wiped or self._is_durable):
            raise told from None
        if not is_wiped:
            self._deployment.record.delete(self._spec.run_id)
        return self._submission

    def submit(self, submission: Submission, seen: Seen) -> None:
        """Submit it.

        Args:
            submission: From `make_way`.
            seen: The outcomes that were read before.

        Raises:
            redis.exceptions.RedisError: When the record cannot be written.
        """
        _log.warning("The record of run %s is gone; submitting it again", self._spec.run_id)
        open_and_publish(
            self._deployment,
            submission,
            [index for index in range(self._spec.n) if index not in seen],
            known=list(seen.values()),
            before_publishing=self._before_publishing,
        )
