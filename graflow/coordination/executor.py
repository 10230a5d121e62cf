"""`GroupExecutor`: from a backend name to a coordinator that runs the group."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any, Final

from graflow.coordination.backend_keys import check_keys
from graflow.coordination.coordinator import CoordinationBackend, TaskCoordinator
from graflow.coordination.direct_coordinator import DirectCoordinator
from graflow.coordination.threading_coordinator import ThreadingCoordinator
from graflow.core.handlers.group_policy import GroupExecutionPolicy, accepts_successes, resolve_group_policy
from graflow.exceptions import ConfigError, SettingError
from graflow.protocols import GroupContext, Unit
from graflow.redis.config import laid_over, normalize_redis_config

BACKEND_VARIABLE: Final = "GRAFLOW_BACKEND"
_PLUG_INS = "graflow.coordinators"

_Factory = Callable[[dict[str, Any]], TaskCoordinator]

_factories: dict[CoordinationBackend, _Factory] = {
    CoordinationBackend.THREADING: lambda config: ThreadingCoordinator(
        config.get("thread_count"), config.get("timeout")
    ),
    CoordinationBackend.DIRECT: lambda config: DirectCoordinator(config.get("timeout")),
}


class GroupExecutor:
    """Runs groups; holds no state of its own."""

    @staticmethod
    def execute_parallel_group(
        group_id: str,
        tasks: Sequence[Unit],
        exec_context: GroupContext,
        *,
        backend: object = None,
        backend_config: Mapping[str, Any] | None = None,
        policy: object = "strict",
    ) -> None:
        """Run the members on a backend and apply the policy.

        Args:
            group_id: The id of the group.
            tasks: The members, in order.
            exec_context: The context that the group runs in.
            backend: A `CoordinationBackend` or its name; threading when None.
            backend_config: Laid over the context's own `config`, which may hold anything; keys of this one that no
                backend knows are refused.
            policy: A policy in any of its forms.

        Raises:
            ConfigError: For an unknown key, naming the nearest known one, or a value that does not fit.
        """
        resolved = resolve_group_policy(policy)
        resolved.validate(_ids_of(tasks, resolved))
        where, given = _chosen(GroupExecutor._resolve_backend(backend)), normalize_redis_config(backend_config)
        coordinator = GroupExecutor._coordinator(where, given, exec_context)
        check_keys(given)
        coordinator.execute_group(group_id, tasks, exec_context, resolved)

    @staticmethod
    def resume(groups: Iterable[Any], exec_context: GroupContext) -> None:
        """Tell the backends of these groups, before any step, that their run goes on after an earlier execution."""
        for group in groups:
            where, given = GroupExecutor.backend_of(group), group.execution_config["backend_config"]
            GroupExecutor._coordinator(where, given, exec_context).resume(exec_context)

    @staticmethod
    def cancel(group: Any, run_key: str, exec_context: object, reason: str) -> bool:
        """End an execution of a group that an earlier process left open elsewhere; whether there was one."""
        where, given = GroupExecutor.backend_of(group), group.execution_config["backend_config"]
        return GroupExecutor._coordinator(where, given, exec_context).cancel(run_key, reason)

    @staticmethod
    def backend_of(group: Any) -> CoordinationBackend:
        """Where the members of a group run."""
        return _chosen(GroupExecutor._resolve_backend(group.execution_config["backend"]))

    @staticmethod
    def check_backend(given: object) -> None:
        """Refuse what names no backend, as early as that is asked for.

        Raises:
            ValueError: Listing the known ones.
            ConfigError: When `GRAFLOW_BACKEND`, which would be used instead, names none.
        """
        _chosen(GroupExecutor._resolve_backend(given))

    @staticmethod
    def check_settings(given: Mapping[str, Any]) -> None:
        """Refuse a value of a `backend_config` that cannot be right, where it is given; unknown keys are for the run.

        Raises:
            ConfigError: Naming the setting.
        """
        ThreadingCoordinator(given.get("thread_count"), given.get("timeout"))

    @staticmethod
    def _coordinator(where: CoordinationBackend, given: dict[str, Any], exec_context: object) -> TaskCoordinator:
        """The coordinator of a backend with these settings over those of the context."""
        inherited = getattr(exec_context, "config", None)
        config = laid_over(inherited, given) if isinstance(inherited, Mapping) else given
        return GroupExecutor._create_coordinator(where, config)

    @staticmethod
    def _resolve_backend(backend: object) -> CoordinationBackend:
        if backend is None:
            return CoordinationBackend.THREADING
        if isinstance(backend, CoordinationBackend):
            return backend
        try:
            return CoordinationBackend(str(backend).lower())
        except ValueError:
            known = ", ".join(known.value for known in CoordinationBackend)
            raise ValueError(
                f"Unknown coordination backend {backend!r}; known are {known}{_meant_backend(backend)}"
            ) from None

    @staticmethod
    def _create_coordinator(backend: CoordinationBackend, config: dict[str, Any]) -> TaskCoordinator:
        return _factory(backend)(config)


def _ids_of(tasks: Sequence[Unit], policy: GroupExecutionPolicy) -> Sequence[str]:
    """The ids of the members; where a policy of ours looks at them, those of a fan-out need not be made."""
    ids = getattr(tasks, "present_ids", None)
    return ids if ids is not None and accepts_successes(policy) else [task.task_id for task in tasks]


def _chosen(backend: CoordinationBackend) -> CoordinationBackend:
    """The backend itself; for a group on workers, what `GRAFLOW_BACKEND` says instead, so that tests need no server.

    Raises:
        ConfigError: When that variable names no backend.
    """
    if backend is not CoordinationBackend.REDIS or not (name := os.environ.get(BACKEND_VARIABLE)):
        return backend
    try:
        return CoordinationBackend(name.lower())
    except ValueError:
        known = ", ".join(known.value for known in CoordinationBackend)
        raise SettingError(f"{BACKEND_VARIABLE} must be one of {known}, not {name!r}") from None


def _factory(backend: CoordinationBackend) -> _Factory:
    """What makes the coordinators of a backend."""
    factory = _factories.get(backend)
    if factory is None:
        plug_ins = entry_points(group=_PLUG_INS, name=backend.value)
        if not plug_ins:
            raise ConfigError(
                f"The coordination backend '{backend.value}' comes with graflow-celery; "
                "install it with: pip install graflow-celery"
            )
        factory = _factories[backend] = next(iter(plug_ins)).load()
    return factory


def _meant_backend(given: object) -> str:
    """What may have been meant by a name that no backend has."""
    if isinstance(given, Mapping):
        return "; settings are its backend_config="
    name = str(given).lower()
    near = difflib.get_close_matches(name, [backend.value for backend in CoordinationBackend], 1)
    meant = ["redis"] if name in {"celery", "worker", "workers", "distributed"} else near
    return f"; did you mean '{meant[0]}'?" if meant else ""
