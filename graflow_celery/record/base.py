"""What every part of the group record stands on: a client, the keys, the scripts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, TypeVar

import redis

from graflow.exceptions import ConfigError
from graflow.signing import SigningKeys
from graflow_celery.record.blobs import RunBlobs
from graflow_celery.record.data.specs import Specs
from graflow_celery.record.keys import Keys
from graflow_celery.record.scripts import Scripts
from graflow_celery.record.server.damage import naming_damage

T = TypeVar("T")

MANY: Final = 1000
"""Members that one script claims, keeps or gives back: in some 10 ms, for which the server serves nobody else."""
MORE: Final = b"MORE"
"""A script has done a slice of its work: to keep the server from others for long, none does all."""

REPORTS: Final = 250
"""Members that one script records, as long."""


def slices(items: Sequence[T], size: int = MANY) -> Iterator[Sequence[T]]:
    """Items for one script after another; one empty slice where there are none."""
    yield from (items[first : first + size] for first in range(0, len(items) or 1, size))


class RecordBase:
    """A client that answers in bytes, and the scripts on it."""

    def __init__(
        self,
        client: redis.Redis,
        prefix: str = "graflow",
        *,
        scripts: Scripts | None = None,
        signing_keys: SigningKeys | None = None,
    ) -> None:
        if client.get_encoder().decode_responses:
            raise ConfigError("The group record needs a Redis client that answers in bytes (decode_responses=False)")
        self.client = client
        self.keys = Keys(prefix)
        self._scripts = scripts or Scripts(client)
        self._specs = Specs(signing_keys)
        self.blobs = RunBlobs(client, self._scripts.execute, self.keys)

    def _leave_out(self, run_id: str, *, publishes: bool = True) -> Any:
        """Leave out what need not run any more, a slice at a time; what a crash leaves, the sweeper finishes."""
        while (reply := self._run("leave_out", run_id, [int(not publishes)]))[0] == MORE:
            pass
        return reply

    def _run(self, name: str, run_id: str, args: Sequence[Any], *more_keys: str) -> Any:
        """Run a script on one run; scripts find the stem of its keys and `runs` in front of their own.

        Raises:
            RecordDamagedError: something in the record of that run is not what it should be.
            RecordVersionError: the record has another format.
        """
        try:
            return self._scripts.run(name, [self.keys.stem(run_id), self.keys.deployment("runs"), *more_keys], args)
        except redis.exceptions.ResponseError:
            with naming_damage(run_id):
                raise
