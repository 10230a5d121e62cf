"""What the members of a group have in common, read once per process."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Final

from graflow.exceptions import PayloadError
from graflow.runtime import Runtime, persistently
from graflow_celery.record import GroupRecord
from graflow_celery.wire.envelope import SharedPayload

_KEPT: Final = 256 * 1024 * 1024  # bytes


class SharedPayloads:
    """SharedPayload payloads by content hash, those used longest ago forgotten first; for use from several threads."""

    def __init__(self, record: GroupRecord, runtime: Runtime) -> None:
        self._record = record
        self._runtime = runtime
        self._kept: OrderedDict[str, tuple[SharedPayload, int]] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def get(self, run_id: str, name: str) -> SharedPayload:
        """The payload of that hash, from the record of a run unless it is known already.

        Raises:
            PayloadError: When the record does not hold it, or not as the hash promises.
        """
        with self._lock:
            if name in self._kept:
                self._kept.move_to_end(name)
                return self._kept[name][0]
        content = self.content(run_id, name)
        shared = SharedPayload.unpack(name, content)
        with self._lock:
            if name not in self._kept:
                self._kept[name] = (shared, len(content))
                self._size += len(content)
            while self._size > _KEPT and len(self._kept) > 1:
                _, (_, size) = self._kept.popitem(last=False)
                self._size -= size
        return shared

    def content(self, run_id: str, name: str) -> bytes:
        """The bytes under that hash in the record of a run, whatever they are; nothing is verified.

        Raises:
            PayloadError: When the record does not hold them.
        """
        # A server that is away for a moment is no failure of the member.
        content = persistently(self._runtime, lambda: self._record.manifests.payloads(run_id, [name])).get(name)
        if content is None:
            raise PayloadError("What the members of the group share is not in its record")
        return content
