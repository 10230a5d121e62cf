"""What knows of workers: a plug-in that an entry point names, since nothing of `graflow` does."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any, Final, Protocol

from graflow.exceptions import ConfigError, GraflowError
from graflow.flows.runner import FlowRunner

_PLUG_INS: Final = "graflow.cluster_views"
_NOBODY: Final = "Nothing that knows workers is installed here: pip install graflow-celery"


class ClusterViews(Protocol):
    """What a plug-in tells of workers, as plain data; times are seconds since the epoch, or ISO texts."""

    def workers(self) -> list[dict[str, Any]]:
        """The workers that live."""

    def queues(self) -> list[dict[str, Any]]:
        """Queues, how many messages are in them, and how many workers listen."""

    def groups(self) -> list[dict[str, Any]]:
        """All groups whose record is kept, the newest first."""

    def group(self, run_id: str) -> dict[str, Any]:
        """One group.

        Raises:
            GroupNotFoundError: There is none.
        """

    def members(self, run_id: str) -> list[dict[str, Any]]:
        """The members that run or have ended, by index, with the last progress of those that run; the others wait.

        Raises:
            GroupNotFoundError: There is none.
        """

    def running(self, run_key: str, *, with_progress: bool = False) -> list[dict[str, Any]]:
        """The members of the group of a flow that somebody runs now, by index, at a cost by what runs.

        They are as `members` has them; there is none of a group that is not on workers.
        """


def views_of(runner: FlowRunner) -> ClusterViews:
    """The plug-in's views of the workers of a runner.

    Raises:
        ConfigError: There is none, a package that it needs is not installed, or nobody says which servers are meant.
    """
    plug_ins = entry_points(group=_PLUG_INS)
    if not plug_ins:
        raise ConfigError(_NOBODY)
    try:
        views = next(iter(plug_ins)).load()
    except ImportError as error:
        raise ConfigError(f"What knows workers cannot be loaded: {error}") from error
    found: ClusterViews = views(runner.backend_config)
    return found


def knows_workers(runner: FlowRunner) -> bool:
    """Whether there is something that may tell of workers."""
    try:
        views_of(runner)
    except GraflowError:
        return False
    return True
