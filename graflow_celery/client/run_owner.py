"""One execution at a time continues a run of a workflow: the claim of this process on the run, and its beats."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, Final, NamedTuple

import redis

from graflow.exceptions import RunOwnedError
from graflow.text.shown import get_logger
from graflow_celery.deployment import Deployment
from graflow_celery.errors import FAILING, RecordFullError
from graflow_celery.record import Owner
from graflow_celery.settings import GroupOptions
from graflow_celery.worker.running import running_member

_log = get_logger(__name__)

_BEATS_PER_LEASE: Final = 3
_LOOK: Final = 0.25  # seconds between looks at an owner of whom it is not known whether it lives
_SIZE: Final = 512  # bytes that a claim needs at most


def claim_run(deployment: Deployment, context: Any, options: GroupOptions) -> RunClaim | None:
    """Make this execution the one that continues the run of a context, until that execution ends.

    Returns:
        The claim; None for what is nobody's run: a member on a worker, which belongs to the record of its group, and a
        group that is executed outside of any run; and for a durable flow, whose own claim is the run's.

    Raises:
        RunOwnedError: When another execution has the run.
        RecordUnreachableError: When the record cannot be reached.
        RecordFullError: When the Redis of record is out of memory.
    """
    root = context.root
    if running_member.get() is not None or root.engine is None or root.recording is not None:
        return None
    name = f"owner in {deployment.settings.server} under {deployment.settings.key_prefix}"
    token = _token_of(root, deployment)
    claim: RunClaim = root.holdings.hold(name, lambda: RunClaim(deployment, root.session_id, token, options))
    claim.take()
    return claim


def _token_of(root: Any, deployment: Deployment) -> str:
    """What stands for this execution; the same in each of its claims, since two names may lead to one server."""
    tokens = [holding.token for holding in root.holdings if isinstance(holding, RunClaim)]
    return tokens[0] if tokens else deployment.runtime.token()


class _Moment(NamedTuple):
    """Now, on the clock that nobody sets and on the one that goes on while a machine sleeps."""

    steady: float
    wall: float


class RunClaim:
    """The claim of one execution on its run. The pacer of the process beats for it.

    Attributes:
        error: That another execution has the run, once this is known.
    """

    def __init__(self, deployment: Deployment, session_id: str, token: str, options: GroupOptions) -> None:
        self.error: RunOwnedError | None = None
        self.name = f"Run {session_id}"
        self.token = token
        self._session_id = session_id
        self._deployment = deployment
        self._owners = deployment.record.owners
        self._runtime = deployment.runtime
        self._me = self._runtime.name
        self._lease = options.run_lease
        self._kept = max(options.result_ttl, 10 * self._lease)
        self._lock = self._runtime.lock()
        self._pacing = ExitStack()
        self._is_taken = False
        self._tried = 0.0
        self._sure = self._now()

    # -- taking ----------------------------------------------------------------------------------------------------

    def take(self) -> None:
        """Claim the run, unless that is done; waits while it is not known whether its owner lives."""
        with self._lock:
            if self.error is not None:
                raise self.error
            if self._is_taken:
                return
            self._deployment.check()
            with self._deployment.errors():
                try:
                    self._claim()
                except redis.exceptions.OutOfMemoryError as error:
                    raise RecordFullError(self._session_id, _SIZE) from error
            self._is_taken = True
            self._pacing.enter_context(self._runtime.pacer.pacing(self))

    def _claim(self) -> None:
        seen: Owner | None = None
        since = self._now().steady
        while True:
            sent = self._now()
            is_over = seen is not None and seen.lease > 0 and sent.steady - since > seen.lease
            owner = self._owners.claim(
                *(self._session_id, self.token, self._me),
                lease=self._lease,
                kept=self._kept,
                seen=seen,
                is_over=is_over,
            )
            if owner.mine:
                break
            if seen is None:
                seen, since = owner, self._now().steady
                _log.warning(
                    "Run %s belongs to %s; waiting for up to %.1f s to see whether that process is alive",
                    *(self._session_id, owner.name, owner.left),
                )
            elif owner.ends != seen.ends:
                raise self._taken_by(owner)
            self._runtime.sleep(min(_LOOK, max(owner.left, 0.01)))
        self._sure, self._tried = sent, sent.steady
        if seen is not None:
            _log.warning(
                "Run %s is taken over from %s, which is silent; epoch %d", self._session_id, seen.name, owner.epoch
            )

    def _taken_by(self, owner: Owner) -> RunOwnedError:
        self.error = RunOwnedError(self._session_id, owner.name, owner.since)
        return self.error

    # -- keeping ---------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Beat when it is time; the pacer calls this."""
        if self._is_taken and self.error is None and now - self._tried >= self._lease / _BEATS_PER_LEASE:
            self._tried = now
            self._beat()

    def _beat(self) -> None:
        sent = self._now()
        owner = self._owners.beat(self._session_id, self.token, self._me, lease=self._lease, kept=self._kept)
        if owner.mine:
            self._sure = sent
        elif self._is_taken and self.error is None:
            _log.error("%s", self._taken_by(owner))

    def check(self) -> None:
        """Return when no other execution can have the run.

        Asks the record only when the last beat that it answered is older than the lease, and waits for its answer.

        Raises:
            RunOwnedError: When another one has taken it.
            RecordUnreachableError: When the record has not answered for five minutes.
        """
        while self._is_taken and self.error is None and self._silent() >= self._lease:
            try:
                self._beat()
            except FAILING as error:
                self._wait_out(error)
        if self.error is not None:
            raise self.error

    def _wait_out(self, error: BaseException) -> None:
        """Wait a little for a record that does not answer, within bounds."""
        self._deployment.wait_out(
            error,
            self._silent(),
            run_id=self._session_id,
            why="to know that no other process has taken it over",
            over=f"another process may have taken over run '{self._session_id}'; resume the run when the server is "
            "back",
        )

    def _now(self) -> _Moment:
        return _Moment(self._runtime.monotonic(), self._runtime.time())

    def _silent(self) -> float:
        """Seconds since the last beat that was answered was sent."""
        now = self._now()
        return max(now.steady - self._sure.steady, now.wall - self._sure.wall)

    # -- giving up -------------------------------------------------------------------------------------------------

    def release(self) -> None:
        """Free the run. Where that fails, it is free when the lease is over."""
        if not self._is_taken or self._runtime.name != self._me:
            return  # in a forked child it is still the parent's
        self._is_taken = False
        self._pacing.close()
        if self.error is None:
            try:
                self._owners.release(self._session_id, self.token)
            except FAILING as error:
                _log.warning("Run %s is released in %.0f s: %s", self._session_id, self._lease, type(error).__name__)
