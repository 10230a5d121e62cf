"""Counts of several processes in one folder, where those of processes that are gone are gathered."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from prometheus_client.metrics_core import Metric
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

_GATHERED: Final = "gathered"  # stands where the other files have a process
_KINDS: Final = ("counter", "histogram")


def shared_folder() -> Path | None:
    """The folder in which this process counts; None when it counts for itself."""
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    return Path(folder) if folder else None


class SharedCounts(Collector):
    """What all processes that use a folder have counted.

    Args:
        folder: Where their files are.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterable[Metric]:
        """The sums, which never go down: who is gone has counted too."""
        with _alone(self._folder):
            gather(self._folder)
            metrics: Iterable[Metric] = MultiProcessCollector(None, str(self._folder)).collect()
            return list(metrics)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Nobody else gathers or reads meanwhile."""
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def gather(folder: Path) -> None:
    """Add the files of processes that are gone to one for each kind, so that a folder does not grow for ever."""
    for kind in _KINDS:
        for path in folder.glob(f"{kind}_*.db"):
            pid = path.stem.removeprefix(f"{kind}_")
            if pid.isdigit() and not _lives(int(pid)):
                _add(folder / f"{kind}_{_GATHERED}.db", path)
                path.unlink()


def _add(total: Path, part: Path) -> None:
    with suppress(FileNotFoundError):
        summed = MmapedDict(str(total))
        try:
            for key, value, _, _ in MmapedDict.read_all_values_from_file(str(part)):
                summed.write_value(key, summed.read_value(key)[0] + value, 0.0)
        finally:
            summed.close()


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
