"""Save a run to files and go on from them later.

A checkpoint is `<base>.pkl` (the context), `<base>.state.json` (what has run and what waits), `<base>.meta.json`
(whose it is) and `<base>.sig` (a MAC over the three).
"""

from __future__ import annotations

import json
import re
import threading
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self

from graflow.core import serialization
from graflow.core.checkpoints.code_digest import differences, digests_of, take_present_code
from graflow.core.checkpoints.files import read_parts, verify_parts, write_parts
from graflow.core.run.context import ExecutionContext
from graflow.core.run.saving import pickled, standing_still
from graflow.exceptions import ConfigError, PayloadError, SignatureError, TaskResolutionError
from graflow.given import checked_path, require_metadata
from graflow.queue.base import TaskSpec, TaskStatus
from graflow.text.shown import one_line
from graflow.trace.base import Tracer
from graflow.trace.composite import combine

SCHEMA_VERSION = 3
_JSON_PARTS = (".state.json", ".meta.json")
_LONGEST_LOOK = 1 << 20  # bytes
_TRIES = 5
_CODE = ("present", "saved")
_writing = threading.RLock()
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
            context: The run, or a branch of it, which saves the whole run; its queue and steps stay as they are.
            path: With or without `.pkl`; a folder of the session under `checkpoints` when not given.
            metadata: Anything that JSON holds; kept exactly.
            resuming_task_id: A task that a resume runs first, though it is not queued; the one that the engine is
                running when not given.

        Returns:
            The path of the `.pkl` file, and the metadata.

        Raises:
            TypeError: When the metadata is no JSON; nothing is written then.
            NotImplementedError: For `redis://` and `s3://` paths.
        """
        if not isinstance(context, ExecutionContext):
            raise TypeError(f"A checkpoint is one of an ExecutionContext, such as wf.last_context, not of {context!r}")
        if not isinstance(resuming_task_id, str | None):
            raise TypeError(f"resuming_task_id must be the id of a task, not {resuming_task_id!r}")
        _require_local(path)
        _require_json(metadata)
        root = context.root
        with _writing:
            base = cls._resolve_base_path(root, path)
            described = CheckpointMetadata.create(
                checkpoint_id=cls._generate_checkpoint_id(root),
                session_id=root.session_id,
                steps=root.steps,
                start_node=root.start_node,
                backend={"channel": root.channel_backend},
                user_metadata=metadata,
            )
            before = root.last_checkpoint_path, root.checkpoint_metadata
            root.last_checkpoint_path, root.checkpoint_metadata = f"{base}.pkl", described.to_dict()
            is_written = False
            try:
                parts = cls._parts_of(root, None if root is not context else resuming_task_id)
                write_parts(base, {**parts, ".meta.json": json.dumps(described.to_dict(), indent=1).encode()})
                is_written = True
            finally:
                if not is_written:
                    root.last_checkpoint_path, root.checkpoint_metadata = before
            context.last_checkpoint_path, context.checkpoint_metadata = f"{base}.pkl", described.to_dict()
        return f"{base}.pkl", described

    @classmethod
    def resume_from_checkpoint(
        cls,
        checkpoint_path: str | Path,
        *,
        allow_unsigned: bool = False,
        tracer: Tracer | Sequence[Tracer] | None = None,
        code: Literal["present", "saved"] = "present",
    ) -> tuple[ExecutionContext, CheckpointMetadata]:
        """Load a run; `WorkflowEngine().execute(context)` continues it.

        Args:
            checkpoint_path: With or without `.pkl`.
            allow_unsigned: Load a checkpoint without a valid signature. Loading runs code: only for files you trust.
            tracer: A listener to the run from now on, or several. Handlers go to the engine that continues it.
            code: What runs of functions that the script itself defines: what it has now under their names, or what was
                saved. Functions of modules are always those of now. Where that is other code, a warning says so.

        Raises:
            FileNotFoundError: When one of the files is missing.
            json.JSONDecodeError: When one of the JSON files is broken.
            ConfigError: For a checkpoint of another format, or a `code` that is neither.
            SignatureError: When it was edited, is not ours, or is not signed.
            TaskResolutionError: When a module, function or class that it names is no longer there.
        """
        _require_local(checked_path("checkpoint_path", checkpoint_path))
        if code not in _CODE:
            raise ConfigError(f"code must be 'present' or 'saved', not {code!r}")
        base = cls._get_base_path(checkpoint_path)
        parts, signature = read_parts(base)
        if not allow_unsigned:
            try:
                verify_parts(base, parts, signature)
            except SignatureError:
                _tell_what_is_wrong(base, parts)
                raise
        state, described = (_json_object(base, parts[name]) for name in _JSON_PARTS)
        _check_format(base, state)
        context = _loaded(base, parts[".pkl"])
        if code == "present":
            take_present_code(context.graph)
        _tell_what_changed(base, differences(state.get("code", {}), context.graph))
        metadata = CheckpointMetadata.from_dict(described)
        cls._restore(context, state)
        context.tracer = combine(tracer)
        context.checkpoint_metadata = metadata.to_dict()
        context.last_checkpoint_path = f"{base}.pkl"
        return context, metadata

    # -- state -----------------------------------------------------------------------------------------------------

    @classmethod
    def _parts_of(cls, root: ExecutionContext, resuming_task_id: str | None) -> dict[str, bytes]:
        """State and pickle of one moment."""
        for _ in range(_TRIES - 1):
            # A member that is running may change a value of its own while that is pickled.
            with suppress(RuntimeError), standing_still(root):
                return cls._snapshot(root, resuming_task_id)
        with standing_still(root):
            return cls._snapshot(root, resuming_task_id)

    @classmethod
    def _snapshot(cls, root: ExecutionContext, resuming_task_id: str | None) -> dict[str, bytes]:
        if resuming_task_id is None and root.agenda.running is not None:
            resuming_task_id = root.agenda.running.task_id
        state = {
            "schema_version": SCHEMA_VERSION,
            **root.get_checkpoint_state(),
            "pending_tasks": [cls._serialize_task_spec(spec) for spec in root.agenda.pending()],
            "resuming_task_id": resuming_task_id,
            "code": digests_of(root.graph),
        }
        return {".pkl": pickled(root), ".state.json": json.dumps(state).encode()}

    @classmethod
    def _restore(cls, context: ExecutionContext, state: Mapping[str, Any]) -> None:
        agenda, ledger = context.agenda, context.ledger
        ledger.completed = dict.fromkeys(state["completed_tasks"])
        ledger.cycles.cycle_counts = dict(state["cycle_counts"])
        ledger.retries.retry_counts = dict(state["retry_counts"])
        agenda.joins.waiting = {candidate: dict.fromkeys(left) for candidate, left in state["waiting_joins"].items()}
        context.clear_checkpoint_request()
        agenda.clear()
        resuming = state["resuming_task_id"]
        if resuming is not None:
            agenda.restore(TaskSpec(context.graph.get_node(resuming), context))
        for entry in state["pending_tasks"]:
            agenda.restore(cls._deserialize_task_spec(entry, context))

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
            status=TaskStatus(data.get("status", "ready")),
            created_at=data.get("created_at"),
            retry_count=data.get("retry_count", 0),
            max_retries=data.get("max_retries", 3),
            last_error=data.get("last_error"),
            strategy=data.get("strategy", "reference"),
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
        # A session id that somebody chose must not lead out of the folder.
        session = re.sub(r"[^A-Za-z0-9_-]", "_", context.session_id)
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
    if path is not None:
        checked_path("The path of a checkpoint", path)
    backend = CheckpointManager._infer_backend_from_path(path)
    if backend != "local":
        raise NotImplementedError(f"Checkpoints on {backend} are not supported; give a local path instead of {path}")


def _require_json(metadata: Mapping[str, Any] | None) -> None:
    require_metadata(metadata)
    try:
        json.dumps(metadata)
    except TypeError as error:
        raise TypeError(f"The metadata of a checkpoint is what JSON can hold, and {error}") from error


def _tell_what_is_wrong(base: str, parts: Mapping[str, bytes]) -> None:
    """Say why parts are not what was signed, where that can be told at little cost: broken JSON, or another format."""
    if all(len(parts[name]) <= _LONGEST_LOOK for name in _JSON_PARTS):
        state, _ = (_json_object(base, parts[name]) for name in _JSON_PARTS)
        _check_format(base, state)


def _loaded(base: str, content: bytes) -> ExecutionContext:
    try:
        context: ExecutionContext = serialization.loads(content)
    except (AttributeError, ImportError) as error:
        raise TaskResolutionError(
            f"The run saved as {base} needs what this program lacks: {error}. Give it back the module, function or "
            "class under that name, or start the run anew",
            error,
        ) from error
    return context


def _tell_what_changed(base: str, changes: list[str]) -> None:
    if changes:
        warnings.warn(
            f"The run saved as {base} is not what the script has now: {one_line('; '.join(changes))}. "
            "resume_from_checkpoint(..., code='saved') keeps the functions of the script as they were",
            stacklevel=3,
        )


def _json_object(base: str, content: bytes) -> dict[str, Any]:
    try:
        data = json.loads(content.decode(errors="replace"))
    except json.JSONDecodeError:
        raise
    except (ValueError, RecursionError) as error:  # a number or a nesting without end
        raise ConfigError(f"Checkpoint {base} is damaged: {error}", error) from error
    if not isinstance(data, dict):
        raise ConfigError(f"Checkpoint {base} is damaged: a {type(data).__name__} stands where an object belongs")
    return data


def _check_format(base: str, state: Mapping[str, Any]) -> None:
    backend = state.get("backend")
    if isinstance(backend, dict) and "redis" in str(backend.get("queue", "")).lower():
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
