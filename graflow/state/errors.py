"""What goes wrong with recorded flows."""

from __future__ import annotations

from graflow.exceptions import (
    FlowChangedError,
    FlowConflictError,
    FlowInputError,
    FlowNotFoundError,
    InvalidCursorError,
    MoveRefusedError,
    StaleEpochError,
    StoreConfigError,
    StoreError,
    StoreUnavailableError,
    VersionConflictError,
)

__all__ = [
    "FlowChangedError",
    "FlowConflictError",
    "FlowInputError",
    "FlowNotFoundError",
    "InvalidCursorError",
    "MoveRefusedError",
    "StaleEpochError",
    "StoreConfigError",
    "StoreError",
    "StoreUnavailableError",
    "VersionConflictError",
]
