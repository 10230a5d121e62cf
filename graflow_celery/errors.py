"""The errors that `graflow_celery` adds to the tree of `graflow.exceptions`.

::

    GraflowError
    └── GraflowRuntimeError
        ├── BrokerUnreachableError       (also a ConnectionError)
        ├── RecordDamagedError
        ├── RecordFullError
        ├── RecordVersionError
        ├── RetryRefusedError
        └── RecordUnreachableError       (also a ConnectionError)
            └── AccessRefusedError

What Celery is told of a message, and nothing else sees::

    Exception
    ├── MemberFailedError
    └── celery.exceptions.Ignore
        └── NothingToRunError
"""

from __future__ import annotations

from typing import Final

import redis
from celery.exceptions import Ignore

from graflow.exceptions import GraflowRuntimeError
from graflow.redis.refusals import try_again

__all__ = [
    "AccessRefusedError",
    "BrokerUnreachableError",
    "MemberFailedError",
    "NothingToRunError",
    "RecordDamagedError",
    "RecordFullError",
    "RecordUnreachableError",
    "RecordVersionError",
    "RetryRefusedError",
]


class BrokerUnreachableError(GraflowRuntimeError, ConnectionError):
    """The broker does not answer, or refuses us."""


class RecordUnreachableError(GraflowRuntimeError, ConnectionError):
    """The Redis of record does not answer, refuses us, or cannot be written to."""


class AccessRefusedError(RecordUnreachableError):
    """The Redis of record, or the broker of a worker, refuses the username or password."""


TRY_AGAIN: Final = try_again()
"""Errors of a server that may be well again in a moment."""
SILENT: Final = (*TRY_AGAIN, RecordUnreachableError)
"""What is raised for a record that does not answer, or refuses for now."""
FAILING: Final = (*SILENT, redis.exceptions.RedisError)
"""What is raised for a record that does not answer, or answers with any error."""


class RecordFullError(GraflowRuntimeError):
    """The Redis of record is out of memory; nothing of the group was kept.

    Attributes:
        run_id: The group run.
        needed: Bytes that the group needs at least.
    """

    def __init__(self, run_id: str, needed: int) -> None:
        super().__init__(
            f"Group run '{run_id}' was refused: the Redis of record is out of memory (the group needs {needed} bytes "
            "and more); raise maxmemory, wait for older results to expire, or send less per member"
        )
        self.run_id = run_id
        self.needed = needed


class RecordDamagedError(GraflowRuntimeError):
    """The record of one group run cannot be read; those of others are not affected.

    Attributes:
        run_id: The group run.
        what: What is the matter with its record.
    """

    def __init__(self, run_id: str, what: str) -> None:
        super().__init__(
            f"The record of group run '{run_id}' is damaged: {what}; delete the keys of that run, and submit its group "
            "anew"
        )
        self.run_id = run_id
        self.what = what


class RecordVersionError(GraflowRuntimeError):
    """The record of a group run has a format that this program does not read; it is left to programs that do.

    Attributes:
        run_id: The group run.
        version: The format of its record.
    """

    def __init__(self, run_id: str, version: str) -> None:
        super().__init__(
            f"The record of group run '{run_id}' has format {version}, which this version of graflow does not read; "
            "use the version that opened it"
        )
        self.run_id = run_id
        self.version = version


class RetryRefusedError(GraflowRuntimeError):
    """A group run cannot be retried; nothing of it was changed.

    Attributes:
        run_id: The group run.
        why: What keeps it from being retried, and what to do.
    """

    def __init__(self, run_id: str, why: str) -> None:
        super().__init__(f"Cannot retry: {why}")
        self.run_id = run_id
        self.why = why


class MemberFailedError(Exception):
    """Makes monitors show a message whose only member did not succeed as failed; the record has the outcome.

    Attributes:
        reason: Type and text of the member's own error.
        traceback: What Python printed for that one; empty when there was none.
    """

    def __init__(self, reason: str, traceback: str = "") -> None:
        super().__init__(reason, traceback)
        self.reason = reason
        self.traceback = traceback

    def __str__(self) -> str:
        return self.reason

    def __repr__(self) -> str:
        return self.reason  # all that monitors show of an error


class NothingToRunError(Ignore):
    """Makes monitors show a message as revoked: its members are cancelled, recorded already, or run elsewhere."""
