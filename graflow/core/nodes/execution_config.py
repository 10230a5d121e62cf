"""Where the members of a group run, and which of their results are accepted: what `with_execution` keeps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graflow.coordination.executor import GroupExecutor
from graflow.core.handlers.group_policy import canonicalize_group_policy, resolve_group_policy
from graflow.redis.config import normalize_redis_config


def initial_execution() -> dict[str, Any]:
    """What holds for a group that was told nothing."""
    return {"backend": None, "backend_config": {}, "policy": "strict"}


def change_execution(
    config: dict[str, Any], backend: object, backend_config: Mapping[str, Any] | None, policy: object
) -> None:
    """Change what is given, once all of it is found right; a None leaves things as they are.

    Raises:
        ValueError: The backend or the policy is unknown, or a setting does not fit.
        TypeError: One of them is of a wrong type.
    """
    changes: dict[str, Any] = {}
    if policy is not None:
        resolve_group_policy(policy)
        changes["policy"] = canonicalize_group_policy(policy)
    if backend is not None:
        GroupExecutor.check_backend(backend)
        changes["backend"] = backend
    if backend_config is not None:
        settings = normalize_redis_config(backend_config)
        GroupExecutor.check_settings(settings)
        changes["backend_config"] = {**config["backend_config"], **settings}
    config.update(changes)
