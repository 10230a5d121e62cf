"""Where the `config.yaml` of a project is, and whether it is one."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Final

from graflow.configuration.document import CONFIG_VARIABLE, Document, parsed
from graflow.exceptions import SettingError

_NAME: Final = "config.yaml"
_MARKS: Final = (".graflow", "pyproject.toml", ".git")
"""What the folder of a project has."""


def project_folder() -> Path:
    """The nearest folder, from the working directory upwards, that looks like a project's; else the former."""
    return Path(_project_folder())


def _project_folder() -> str:
    # As text: groups ask too, each time.
    here = folder = os.getcwd()  # noqa: PTH109
    while not any(os.path.exists(f"{folder}/{mark}") for mark in _MARKS):  # noqa: PTH110
        folder, inner = os.path.dirname(folder), folder  # noqa: PTH120
        if folder == inner:
            return here
    return folder


def document() -> Document | None:
    """What the `config.yaml` of this project says; None where there is none.

    It is the file that `GRAFLOW_CONFIG` names, else `.graflow/config.yaml` or `config.yaml` in the folder of the
    project. The last may be another program's: it counts when it has a section `flow_engine`, or our sections alone.
    A file that was changed is read again.

    Raises:
        ConfigError: When it is not there, cannot be read, is somebody else's, or is no such file.
    """
    named = os.environ.get(CONFIG_VARIABLE)
    if named:
        return _read(Path(named), is_named=True)
    found = [read for path, is_ours in _candidates() if (read := _read(path, is_named=is_ours)) is not None]
    if len(found) > 1:
        raise SettingError(f"There are {found[0].path} and {found[1].path}: keep one, or name it by {CONFIG_VARIABLE}")
    return found[0] if found else None


def passed_over() -> list[Path]:
    """Files called `config.yaml` in the folder of the project that are not taken for ours."""
    if os.environ.get(CONFIG_VARIABLE):
        return []
    return [path for path, is_ours in _candidates() if _read(path, is_named=is_ours) is None]


def _candidates() -> Iterator[tuple[Path, bool]]:
    """The files that are there, and whether their place says that they are ours."""
    folder = _project_folder()
    for path, is_ours in ((f"{folder}/.graflow/{_NAME}", True), (f"{folder}/{_NAME}", False)):
        if os.path.isfile(path):  # noqa: PTH113
            yield Path(path), is_ours


def _read(path: Path, *, is_named: bool) -> Document | None:
    try:
        status = path.stat()
    except OSError as error:
        raise SettingError(f"{CONFIG_VARIABLE} names {path}, which cannot be read: {error.strerror}") from None
    if not os.environ.get(CONFIG_VARIABLE):
        _check_owner(path, status)
    if not stat.S_ISREG(status.st_mode):  # such as /dev/null, which says nothing
        return Document(path)
    return _parsed(path, is_named, status.st_mtime_ns, status.st_size)


def _check_owner(path: Path, status: os.stat_result) -> None:
    """Refuse a file that somebody else left in the folder that this program happens to run in."""
    owners = {status.st_uid, path.lstat().st_uid}  # of the file, and of a link to it
    if not owners <= {os.geteuid(), 0}:
        raise SettingError(
            f"{path} belongs to another user (uid {max(owners)}) and is not read: chown it, or name it by "
            f"{CONFIG_VARIABLE} if you trust it, or set that to /dev/null to go without"
        )


@lru_cache(maxsize=8)
def _parsed(path: Path, is_named: bool, changed: int, size: int) -> Document | None:
    del changed, size  # another file by the same name
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError:
        raise SettingError(f"{path} is not written in UTF-8") from None
    except OSError as error:
        raise SettingError(f"{path} cannot be read: {error.strerror}") from None
    return parsed(path, text, is_named=is_named)
