"""Waiting for a record that does not answer."""

from __future__ import annotations

from graflow_celery.deployment import Deployment


class Silence:
    """How long the record of one run has not answered, and how long that is put up with.

    Args:
        deployment: Where the record is.
        run_id: The run.
    """

    def __init__(self, deployment: Deployment, run_id: str) -> None:
        self._deployment = deployment
        self._run_id = run_id
        self._answered = self._tried = deployment.runtime.monotonic()

    def end(self) -> None:
        """The record has answered."""
        self._answered = self._tried = self._deployment.runtime.monotonic()

    def wait_out(self, error: BaseException) -> None:
        """Wait a little.

        Args:
            error: What asking the record came to.

        Raises:
            RecordUnreachableError: When it has not answered for as long as the deployment has patience.
        """
        self._deployment.check_not_gone()
        now = self._deployment.runtime.monotonic()
        # Nobody asked while this process stood still: of such a time half of what there is to wait counts.
        self._answered += max(now - self._tried - self._deployment.patience.waiter / 2, 0.0)
        self._tried = now
        self._deployment.wait_out(
            error,
            now - self._answered,
            run_id=self._run_id,
            why="to tell what came of its members",
            over=f"the run may go on: attach('{self._run_id}') continues waiting for it",
        )
