"""Save a run to files and go on from them later.

A checkpoint is `<base>.pkl` (the context), `<base>.state.json` (what has run and what waits), `<base>.meta.json`
(whose it is) and `<base>.sig` (a MAC over the three). All four are written beside their places first and then renamed,
the signature last, so that a crash leaves either the old checkpoint or the new one.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from graflow.core import serialization
from graflow.core.context import ExecutionContext
from graflow.exceptions import ConfigError, PayloadError, SignatureError, TaskResolutionError
from graflow.queue.base import TaskSpec, TaskStatus
from graflow.signing import SigningKeys

SCHEMA_VERSION = 1
_PURPOSE = "checkpoint"
_PARTS = (".pkl", ".state.json", ".meta.json")
_SIGNATURE = ".sig"
_NEW = ".new"
_stamp_lock = threading.Lock()
_last_stamp = 0


@dataclass
class CheckpointMetadata:
    """Whose checkpoint it is.

    Attributes:
        checkpoint_id: `<session>_<steps>_<stamp>`.
        session_id: The session of the saved context.
        created_at: ISO 8601, UTC.
        steps: Tasks that had completed.
        start_node: Where the run began.
        backend: `{"channel": <type>}`.
        user_metadata: As the caller gave it.
    """

    checkpoint_id: str
    session_id: str
    created_at: str
    steps: int
    start_node: str | None
    backend: dict[str, str]
    user_metadata: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def create(
        cls,
        *,
        checkpoint_id: str,
        session_id: str,
        steps: int,
        start_node: str | None,
        backend: dict[str, str],
        user_metadata: Mapping[str, Any] | None = None,
    ) -> Self:
        """Metadata of a checkpoint that is made now."""
        created_at = datetime.now(UTC).isoformat()
        return cls(checkpoint_id, session_id, created_at, steps, start_node, backend, dict(user_metadata or {}))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        return cls(**data)


class CheckpointManager:
    """Writes and reads checkpoints."""

    @classmethod
    def create_checkpoint(
        cls,
        context: ExecutionContext,
        *,
        path: str | Path | None = None,
        metadata: Mapping[str, Any] | None = None,
        resuming_task_id: str | None = None,
    ) -> tuple[str, CheckpointMetadata]:
        """Save a run.

        Args:
            context: The run; its queue and steps stay as they are.
            path: With or without `.pkl`; a folder of the session under `checkpoints` when not given.
            metadata: Anything that JSON holds; kept exactly.
            resuming_task_id: A task that a resume runs first, though it is not queued.

        Returns:
            The path of the `.pkl` file, and the metadata.

        Raises:
            TypeError: When the metadata is no JSON; nothing is written then.
            NotImplementedError: For `redis://` and `s3://` paths.
        """
        _require_local(path)
        json.dumps(metadata)
        base = cls._resolve_base_path(context, path)
        described = CheckpointMetadata.create(
            checkpoint_id=cls._generate_checkpoint_id(context),
            session_id=context.session_id,
            steps=context.steps,
            start_node=context.start_node,
            backend={"channel": context.channel_backend},
            user_metadata=metadata,
        )
        before = context.last_checkpoint_path, context.checkpoint_metadata
        context.last_checkpoint_path = f"{base}.pkl"
        context.checkpoint_metadata = described.to_dict()
        try:
            state = cls._state_of(context, resuming_task_id)
            _write(
                base,
                {
                    ".pkl": serialization.dumps(context),
                    ".state.json": json.dumps(state, indent=1).encode(),
                    ".meta.json": json.dumps(described.to_dict(), indent=1).encode(),
                },
            )
        except BaseException:
            context.last_checkpoint_path, context.checkpoint_metadata = before
            raise
        return f"{base}.pkl", described

    @classmethod
    def resume_from_checkpoint(
        cls, path: str | Path, *, allow_unsigned: bool = False
    ) -> tuple[ExecutionContext, CheckpointMetadata]:
        """Load a run; `WorkflowEngine().execute(context)` continues it.

        Args:
            path: With or without `.pkl`.
            allow_unsigned: Load a checkpoint without a valid signature. Loading runs code: only for files you trust.

        Raises:
            FileNotFoundError: When one of the files is missing.
            json.JSONDecodeError: When one of the JSON files is broken.
            ConfigError: For a checkpoint of another format.
            SignatureError: When it was edited, is not ours, or is not signed.
        """
        _require_local(path)
        base = cls._get_base_path(path)
        parts, signature = _read(base)
        state = json.loads(parts[".state.json"])
        described = json.loads(parts[".meta.json"])
        _check_format(base, state)
        if not allow_unsigned:
            _verify(base, parts, signature)
        context: ExecutionContext = serialization.loads(parts[".pkl"])
        metadata = CheckpointMetadata.from_dict(described)
        cls._restore(context, state)
        context.checkpoint_metadata = metadata.to_dict()
        context.last_checkpoint_path = f"{base}.pkl"
        return context, metadata

    # -- state -----------------------------------------------------------------------------------------------------

    @classmethod
    def _state_of(cls, context: ExecutionContext, resuming_task_id: str | None) -> dict[str, Any]:
        return {
            "schema_version": SCHEMA_VERSION,
            **context.get_checkpoint_state(),
            "pending_tasks": [
                cls._serialize_task_spec(spec) for spec in context.task_queue.get_pending_task_specs()
            ],
            "resuming_task_id": resuming_task_id,
        }

    @classmethod
    def _restore(cls, context: ExecutionContext, state: Mapping[str, Any]) -> None:
        context._completed = dict.fromkeys(state["completed_tasks"])
        context.cycle_controller.cycle_counts = dict(state["cycle_counts"])
        context.retry_controller.retry_counts = dict(state["retry_counts"])
        context.joins.waiting = {
            candidate: dict.fromkeys(left) for candidate, left in state["waiting_joins"].items()
        }
        context.clear_checkpoint_request()
        context.reset_queue()
        resuming = state["resuming_task_id"]
        if resuming is not None:
            context.restore_pending(TaskSpec(context.graph.get_node(resuming), context))
        for entry in state["pending_tasks"]:
            context.restore_pending(cls._deserialize_task_spec(entry, context))

    @staticmethod
    def _serialize_task_spec(spec: TaskSpec) -> dict[str, Any]:
        try:
            task_data = spec.task_data
        except (TaskResolutionError, PayloadError):
            task_data = None  # only the pickle can hold it
        return {
            "task_id": spec.task_id,
            "task_data": task_data,
            "strategy": spec.strategy,
            "status": spec.status.value,
            "created_at": spec.created_at,
            "retry_count": spec.retry_count,
            "max_retries": spec.max_retries,
            "last_error": spec.last_error,
        }

    @staticmethod
    def _deserialize_task_spec(data: Mapping[str, Any], context: ExecutionContext) -> TaskSpec:
        return TaskSpec(
            context.graph.get_node(data["task_id"]),
            context,
            status=TaskStatus(data["status"]),
            created_at=data["created_at"],
            retry_count=data["retry_count"],
            max_retries=data["max_retries"],
            last_error=data["last_error"],
            strategy=data["strategy"],
        )

    # -- names -----------------------------------------------------------------------------------------------------

    @staticmethod
    def _infer_backend_from_path(path: str | Path | None) -> str:
        text = "" if path is None else str(path)
        for backend in ("redis", "s3"):
            if text.startswith(f"{backend}://"):
                return backend
        return "local"

    @staticmethod
    def _get_base_path(path: str | Path) -> str:
        return str(path).removesuffix(".pkl")

    @classmethod
    def _resolve_base_path(cls, context: ExecutionContext, path: str | Path | None) -> str:
        if path is not None:
            return cls._get_base_path(path)
        session = context.session_id
        return str(Path("checkpoints") / session / f"session_{session}_step_{context.steps}_{_stamp()}")

    @staticmethod
    def _generate_checkpoint_id(context: ExecutionContext) -> str:
        return f"{context.session_id}_{context.steps}_{_stamp()}"


def _stamp() -> int:
    """Nanoseconds since the epoch, never the same twice in this process."""
    global _last_stamp  # noqa: PLW0603 - one clock per process
    with _stamp_lock:
        _last_stamp = max(time.time_ns(), _last_stamp + 1)
        return _last_stamp


def _require_local(path: str | Path | None) -> None:
    backend = CheckpointManager._infer_backend_from_path(path)
    if backend != "local":
        raise NotImplementedError(f"Checkpoints on {backend} are not supported; give a local path instead of {path}")


def _check_format(base: str, state: Mapping[str, Any]) -> None:
    queue = str((state.get("backend") or {}).get("queue", "")).lower()
    if "redis" in queue:
        raise ConfigError(
            f"Checkpoint {base} is of an older format that kept its queue in Redis; finish that run with the version "
            "that wrote it, or start it anew: queues of runs are always in memory now"
        )
    version = state.get("schema_version")
    if version != SCHEMA_VERSION:
        raise ConfigError(
            f"Checkpoint {base} has schema version {version!r}; this version reads {SCHEMA_VERSION}. "
            "Load it with the version that wrote it"
        )


def _message(parts: Mapping[str, bytes]) -> bytes:
    """The three parts, each with its length in front, so that no byte can move from one to the next."""
    return b"".join(len(parts[name]).to_bytes(8, "big") + parts[name] for name in _PARTS)


def _verify(base: str, parts: Mapping[str, bytes], signature: bytes | None) -> None:
    if signature is None:
        raise SignatureError(
            f"Checkpoint {base} is not signed; if you trust the file, load it with allow_unsigned=True"
        )
    message, text = _message(parts), signature.decode(errors="replace").strip()
    configured = SigningKeys.from_environment()
    if configured is not None:
        try:
            configured.verify(message, text, purpose=_PURPOSE)
        except SignatureError:
            pass  # it may have been written before a key was configured, with the key of this user
        else:
            return
    try:
        SigningKeys.user().verify(message, text, purpose=_PURPOSE)
    except SignatureError as error:
        raise SignatureError(
            f"Checkpoint {base} was edited, is damaged, or was signed with another key; if you trust the files, load "
            "them with allow_unsigned=True",
            cause=error,
        ) from error


def _write(base: str, parts: Mapping[str, bytes]) -> None:
    keys = SigningKeys.from_environment() or SigningKeys.user()
    signature = keys.sign(_message(parts), purpose=_PURPOSE).encode()
    folder = Path(base).parent
    folder.mkdir(parents=True, exist_ok=True)
    files = {**parts, _SIGNATURE: signature}
    for suffix, content in files.items():
        _write_durably(Path(f"{base}{suffix}{_NEW}"), content)
    for suffix in files:
        Path(f"{base}{suffix}{_NEW}").replace(f"{base}{suffix}")
    _sync_folder(folder)


def _write_durably(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)  # a link or a leftover is replaced, never written through
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(base: str) -> tuple[dict[str, bytes], bytes | None]:
    """The parts and the signature; a new checkpoint whose renaming was cut short is completed from its new files."""
    new_signature = Path(f"{base}{_SIGNATURE}{_NEW}")
    if new_signature.exists():
        parts = {}
        for name in _PARTS:
            new = Path(f"{base}{name}{_NEW}")
            plain = Path(f"{base}{name}")
            found = new if new.exists() else plain
            parts[name] = found.read_bytes() if found.exists() else b""
        signature = new_signature.read_bytes()
        try:
            _verify(base, parts, signature)
        except SignatureError:
            pass  # the writing was cut short before all new files were there: the old ones are whole
        else:
            return parts, signature
    parts = {name: Path(f"{base}{name}").read_bytes() for name in _PARTS}
    signature_path = Path(f"{base}{_SIGNATURE}")
    return parts, signature_path.read_bytes() if signature_path.exists() else None
