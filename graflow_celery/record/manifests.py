"""What is submitted: envelopes and what they share, written once by the submitter and read by workers."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from graflow.core.handlers.group_policy import LEFT_OUT_ENOUGH, LEFT_OUT_FAILED
from graflow.exceptions import PayloadError
from graflow.redis.refusals import refused
from graflow_celery.record.base import RecordBase
from graflow_celery.record.blobs import TRIES
from graflow_celery.record.data.groups import FORMAT_VERSION, MAX_MEMBERS, GroupSpec

PIECE_ENTRIES: Final = 2_000
PIECE_BYTES: Final = 4 * 1024 * 1024
FEW: Final = 64
"""Members of a group that may be waited for without a look at it before its end."""


class Manifests(RecordBase):
    """The manifests of groups: an envelope per member or a chunk per block, and payloads by content hash."""

    def write(
        self,
        spec: GroupSpec,
        opener: str,
        manifest: Sequence[bytes],
        payloads: Mapping[str, bytes],
        blobs: Mapping[str, bytes] = MappingProxyType({}),
    ) -> Any:
        """Send a group in pieces; ends early when another submitter of the same group was faster.

        Returns:
            What `open.lua` answers: status, state, epoch and whether all members were published.

        Raises:
            redis.exceptions.OutOfMemoryError: the server has no room, or lets go of long arguments at once.
        """
        for _ in range(TRIES):
            for name, content in blobs.items():
                self.blobs.write(spec.run_id, name, content)
            reply = self._write(spec, opener, manifest, payloads, blobs)
            if reply[0] != b"MISSING":
                return reply
        raise refused("OOM", f"OOM The server has let go of long arguments of run '{spec.run_id}' at once")

    def _write(
        self,
        spec: GroupSpec,
        opener: str,
        manifest: Sequence[bytes],
        payloads: Mapping[str, bytes],
        blobs: Mapping[str, bytes],
    ) -> Any:
        parents = [self.keys.run(spec.parent_run, name) for name in ("header", "children")] if spec.parent_run else []
        fields = _header_fields(
            spec, self._specs.write(spec), size_of(manifest, payloads, blobs), parents[0] if parents else ""
        )
        pairs: list[str | bytes] = [part for item in payloads.items() for part in item]
        fresh_epoch = secrets.token_hex(8)
        for first, piece in _pieces(manifest):
            sent = [] if first else pairs
            head = [spec.digest, opener, fresh_epoch, first, "" if first else " ".join(blobs), len(fields), len(sent)]
            more_keys = [*(self.keys.deployment(name) for name in ("epoch", "workers")), *parents]
            reply = self._run("open", spec.run_id, [*head, *fields, *sent, *piece], *more_keys)
            if reply[0] != b"OPENING":
                break
        return reply

    def envelopes(self, run_id: str, indices: Sequence[int]) -> list[bytes | None]:
        """Envelopes by index, None where there is none: members of blocks have none of their own."""
        found: Any = self._scripts.execute("HMGET", self.keys.run(run_id, "manifest"), *indices)
        return list(found)

    def chunks(self, run_id: str, numbers: Sequence[int]) -> list[bytes | None]:
        """The entries that the members of blocks share, None where there is none."""
        names = [f"b{number}" for number in numbers]
        found: Any = self._scripts.execute("HMGET", self.keys.run(run_id, "manifest"), *names)
        return list(found)

    def payloads(self, run_id: str, names: Sequence[str]) -> dict[str, bytes]:
        """Shared payloads by content hash; those that are not there are absent."""
        if not names:
            return {}
        found: Any = self._scripts.execute("HMGET", self.keys.run(run_id, "shared"), *names)
        return {name: payload for name, payload in zip(names, found, strict=True) if payload is not None}


def size_of(manifest: Sequence[bytes], payloads: Mapping[str, bytes], blobs: Mapping[str, bytes]) -> int:
    """Bytes of all envelopes, shared payloads and long arguments."""
    return sum(map(len, (*manifest, *payloads.values(), *blobs.values())))


def check_manifest(spec: GroupSpec, manifest: Sequence[bytes]) -> None:
    expected = (spec.blocks or spec.n) + int(spec.continuation)
    if len(manifest) != expected:
        raise PayloadError(f"Group run '{spec.run_id}' needs {expected} envelopes, its manifest has {len(manifest)}")
    if spec.n > MAX_MEMBERS:
        raise PayloadError(f"Group run '{spec.run_id}' has {spec.n} members: {MAX_MEMBERS} are the limit of one group")


def _header_fields(spec: GroupSpec, text: str, size: int, parent: str) -> list[str | int]:
    """The header as names and values; times in milliseconds, 0 where there is no limit."""
    fields: dict[str, str | int] = {
        "version": FORMAT_VERSION,
        "run": spec.run_id,
        "spec": text,
        "n": spec.n,
        "size": spec.n + int(spec.continuation),
        "continuation": int(spec.continuation),
        "regular": int(bool(spec.meta.get("regular"))),
        "lease": round(spec.lease * 1000),
        "queue_wait": round(spec.queue_wait * 1000),
        "max_attempts": spec.max_attempts,
        "max_in_flight": spec.max_in_flight or 0,
        "result_ttl": max(1, round(spec.result_ttl * 1000)),
        "timeout": 0 if spec.timeout is None else max(1, round(spec.timeout * 1000)),
        "min_success": spec.min_success,
        "parent": parent,
        "manifest_bytes": size,
    }
    if spec.n <= FEW:
        fields["told"] = 1  # nobody needs to be woken before the end, until somebody reads
    if spec.enough or spec.fail_fast:
        fields["rest"] = LEFT_OUT_ENOUGH if spec.enough else LEFT_OUT_FAILED
        fields.update({"enough": spec.enough} if spec.enough else {"fail_fast": 1})
    if spec.critical:
        fields["critical"] = 1
        fields.update((f"critical:{index}", 1) for index in spec.critical)
    if spec.stride:
        fields.update(stride=spec.stride, blocks=spec.blocks)
    if spec.attempts:
        fields["own_attempts"] = 1
        fields.update((f"attempts:{index}", attempts) for index, attempts in spec.attempts.items())
    return [part for item in fields.items() for part in item]


def _pieces(manifest: Sequence[bytes]) -> Iterator[tuple[int, Sequence[bytes]]]:
    """The manifest in pieces of limited count and size, each with its first index; one empty piece when it is empty."""
    first, size = 0, 0
    for index, envelope in enumerate(manifest):
        if index > first and (index - first >= PIECE_ENTRIES or size + len(envelope) > PIECE_BYTES):
            yield first, manifest[first:index]
            first, size = index, 0
        size += len(envelope)
    yield first, manifest[first:]
