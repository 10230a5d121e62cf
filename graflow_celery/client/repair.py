"""Repairing a group that has ended: what failed runs again, what succeeded stays."""

from __future__ import annotations

from graflow.exceptions import GraflowRuntimeError
from graflow.runtime import persistently
from graflow.text.shown import get_logger
from graflow_celery.client.submission import run_here
from graflow_celery.deployment import Deployment
from graflow_celery.record import Reopened

_log = get_logger(__name__)


def retry_members(deployment: Deployment, run_id: str, index: int | None = None) -> list[int]:
    """Open a run again and send what is to run.

    Args:
        deployment: Where its record is.
        run_id: The run.
        index: The one member to run again; all that did not succeed when None.

    Returns:
        The indices of the members that run again; none where only the continuation does.

    Raises:
        TypeError: For an index that is no whole number.
        ValueError: For one below 0.
        GroupNotFoundError: When there is no such run.
        RetryRefusedError: When the run cannot be retried.
        RecordUnreachableError: When the record cannot be reached.
    """
    if index is not None and (isinstance(index, bool) or not isinstance(index, int)):
        raise TypeError(f"index must be a whole number, not {index!r}")
    if index is not None and index < 0:
        raise ValueError(f"index must be at least 0, not {index}")
    deployment.check()
    record, token = deployment.record, deployment.runtime.token()
    with deployment.errors():
        again = persistently(
            deployment.runtime, lambda: record.reopen(run_id, token, index), patience=deployment.patience.last
        )
        _send(deployment, again)
        record.mark_published(run_id)
    return again.members


def _send(deployment: Deployment, again: Reopened) -> None:
    """Publish the members, those that took workers along one by one."""
    publisher, slots, spec = deployment.publisher, deployment.slots(), again.spec
    lost = set(again.lost)
    try:
        publisher.publish(spec, sorted(lost), slots=slots, singly=True)
        publisher.publish(spec, [index for index in again.members if index not in lost], slots=slots)
        if again.continuation:
            publisher.publish_continuation(spec)
    except GraflowRuntimeError as error:
        _log.warning("Run %s: what runs again is left to the sweeper: %s", spec.run_id, error)
    if deployment.runs_eagerly:
        run_here(deployment, spec, again.members)
