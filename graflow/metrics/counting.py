"""Whether this process counts, and what it and the others of this machine have counted."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any, Final

from graflow.configuration.project import project_settings
from graflow.configuration.sections import MonitoringSection
from graflow.exceptions import ConfigError
from graflow.observing import observers
from graflow.text.shown import get_logger

_log = get_logger(__name__)

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
"""Of what `exposition` gives."""

_FOLDER_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"  # which prometheus-client reads when it is imported
_LIBRARY: Final = "prometheus_client"
_COUNTS: Final = "graflow.metrics.prometheus"
_INSTALL: Final = "Metrics need prometheus-client; install it with: pip install 'graflow-celery[metrics]'"

_lock: Final = threading.Lock()
_served: Final[set[tuple[str, int]]] = set()


def start_counting(*, has_children: bool = False) -> bool:
    """Count in this process, and in those that it forks, where the settings say so; again is harmless.

    Args:
        has_children: Whether what is counted happens in other processes, which then count in a folder of their own
            where no `metrics_dir` is given.

    Returns:
        Whether it counts.

    Raises:
        ConfigError: When the settings ask for what cannot be had.
        ImportError: Without prometheus-client.
    """
    said = project_settings().monitoring
    if not said.counts:
        return False
    with _lock:
        _share(said, has_children=has_children)
        record = _counts().record
        if record not in observers:
            observers.append(record)
        if said.metrics_port is not None:
            _serve(said.metrics_host, said.metrics_port)
    return True


def exposition() -> bytes:
    """What was counted, in Prometheus' text format: of all processes that share a `metrics_dir`, else of this one.

    Raises:
        ImportError: Without prometheus-client.
    """
    content: bytes = _counts().text()
    return content


def _counts() -> Any:
    try:
        from graflow.metrics import prometheus  # noqa: PLC0415 - an extra, and off by default
    except ImportError as error:
        raise ImportError(_INSTALL) from error
    return prometheus


def _share(said: MonitoringSection, *, has_children: bool) -> None:
    """Have the processes count in one folder; that has to be settled before there are counts."""
    if os.environ.get(_FOLDER_VARIABLE):
        return
    folder = said.metrics_dir
    if folder is None and not has_children:
        return
    if _COUNTS in sys.modules:
        raise ConfigError(
            f"This process has begun to count for itself alone before metrics_dir was read; set {_FOLDER_VARIABLE} to "
            "that folder in the environment"
        )
    if folder is None:
        folder = _own_folder()
    folder.mkdir(parents=True, exist_ok=True)
    os.environ[_FOLDER_VARIABLE] = str(folder.absolute())
    if _LIBRARY in sys.modules:
        _look_again()


def _look_again() -> None:
    """Have the library, which looks for the folder when it is imported, look again: Flower, say, has imported it.

    What others have made with it stays as it is.
    """
    from prometheus_client import values  # noqa: PLC0415 - an extra, which is in use here

    values.ValueClass = values.get_value_class()  # type: ignore[no-untyped-call]  # of the library


def _own_folder() -> Path:
    """A folder for this process and its children, gone with it."""
    made, maker = Path(tempfile.mkdtemp(prefix="graflow-metrics-")), os.getpid()

    def remove() -> None:
        if os.getpid() == maker:
            shutil.rmtree(made, ignore_errors=True)

    atexit.register(remove)
    return made


def _serve(host: str, port: int) -> None:
    """Show the counts over HTTP; where another process has the port, that one does."""
    if (host, port) in _served:
        return
    _served.add((host, port))
    try:
        _counts().serve(host, port)
    except OSError as error:
        shared = "which shows these counts too" if os.environ.get(_FOLDER_VARIABLE) else "give both a metrics_dir"
        _log.warning("Metrics are not shown at %s:%s (%s); if a process of ours has it: %s", host, port, error, shared)
