"""What a process has seen of a run, from which follows why its record is absent."""

from __future__ import annotations

from contextlib import suppress
from typing import Final
from weakref import WeakKeyDictionary

from graflow.exceptions import GraflowRuntimeError, GroupLostError, GroupNotFoundError
from graflow_celery.deployment import Deployment
from graflow_celery.errors import FAILING

_KNOWN_FOR: Final = 2.0  # seconds for which a server is taken for the one that it was

_servers: Final[WeakKeyDictionary[Deployment, tuple[float, str]]] = WeakKeyDictionary()


def _server_of(deployment: Deployment) -> str:
    """Identity of the server, asked at most every few seconds for all runs."""
    now = deployment.runtime.monotonic()
    asked, found = _servers.get(deployment, (-_KNOWN_FOR, ""))
    if now - asked >= _KNOWN_FOR:
        found = deployment.record.server_id()
        _servers[deployment] = (now, found)
    return found


class Sighting:
    """One run as this process saw it last; made when it is known to be there.

    Attributes:
        epoch: As given, or as it was read since.

    Args:
        deployment: Where its record is.
        run_id: The run.
        epoch: Of the data set that it is in; empty when that is not known yet.
        result_ttl: Seconds that its record stays after its end.
    """

    def __init__(self, deployment: Deployment, run_id: str, epoch: str, result_ttl: float) -> None:
        self._deployment = deployment
        self._run_id = run_id
        self.epoch = epoch
        self._result_ttl = result_ttl
        self._server = ""
        self._at = deployment.runtime.monotonic()
        self._was_left_alone = False
        with suppress(*FAILING):
            self._server = _server_of(deployment)

    def begin(self) -> None:
        """Somebody begins to look at the run all the time; it may have ended and expired before that."""
        self._was_left_alone = self._unseen() >= self._result_ttl

    def look(self) -> str:
        """To be asked before the run is read, for `note`."""
        return _server_of(self._deployment)

    def note(self, epoch: str, server: str) -> None:
        """The run has been read."""
        self.epoch, self._server = epoch, server
        self._at = self._deployment.runtime.monotonic()
        self._was_left_alone = False

    def _unseen(self) -> float:
        return self._deployment.runtime.monotonic() - self._at

    def explain(self, error: GraflowRuntimeError) -> GraflowRuntimeError:
        """Why the record is absent.

        Args:
            error: What was raised for that.

        Returns:
            A `GroupLostError` when it was open and the server has lost it, so that it may be written again; else a
            `GroupNotFoundError` that says what became of it.

        Raises:
            redis.exceptions.RedisError: When the record cannot be asked.
        """
        if not self.epoch or (isinstance(error, GroupNotFoundError) and error.why):
            return error
        record, run_id, is_over = self._deployment.record, self._run_id, self._unseen() >= self._result_ttl
        if record.epoch() != self.epoch:
            if self._was_left_alone:
                return GroupNotFoundError(run_id, "Redis was wiped, or the record had expired before")
            return GroupLostError(run_id, f"Group run '{run_id}' is gone: Redis was wiped")
        if is_over:
            return GroupNotFoundError(run_id, f"its record has expired, {self._result_ttl:g} s after its end")
        if self._server and record.server_id() != self._server:
            return GroupLostError(
                run_id, f"Group run '{run_id}' is gone: Redis has come back, or was replaced, without it"
            )
        if evicted := record.evictions():
            return GroupNotFoundError(
                run_id, f"the server, which has evicted {evicted} keys to save memory, has evicted its record"
            )
        return GroupNotFoundError(run_id, "its record was deleted")
