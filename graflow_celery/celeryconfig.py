"""The module `celeryconfig` of an operator, and which processes read it."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Final

import click

from graflow.exceptions import ConfigError
from graflow.text.shown import get_logger

_log = get_logger(__name__)

PARENT_VARIABLE: Final = "GRAFLOW_WORKER_PARENT"
"""Names, to a worker that a program started, the process of that program."""
_NAME: Final = "celeryconfig"
_COMMANDS: Final = frozenset({"celery.bin.celery", "graflow.cli.main"})


@lru_cache(maxsize=1)
def celeryconfig() -> ModuleType | None:
    """The module `celeryconfig` that can be imported here; None where there is none.

    The commands of `celery` and `graflow`, workers among them, look into the current folder first, as Celery does. A
    program has not been started for that folder, and neither has a worker that it started.

    Raises:
        ConfigError: When it ends the program, or lies in the current folder and belongs to another user.
    """
    here = str(Path.cwd())
    if not _is_beside(here) or not _is_command():
        return _imported()
    sys.path.insert(0, here)
    try:
        return _imported()
    finally:
        sys.path.remove(here)


@lru_cache(maxsize=1)
def warn_of_unread() -> None:
    """Log, once, that this program goes without the `celeryconfig.py` of the folder that it runs in."""
    here = str(Path.cwd())
    if celeryconfig() is None and _is_beside(here) and PARENT_VARIABLE not in os.environ:
        _log.warning("%s.py in %s is for commands and workers; to use it here, add that to PYTHONPATH", _NAME, here)


def _is_beside(folder: str) -> bool:
    return folder not in sys.path and (Path(folder) / f"{_NAME}.py").is_file()


def _imported() -> ModuleType | None:
    try:
        spec = importlib.util.find_spec(_NAME)
        if spec is None:
            return None
        if spec.origin is not None:
            _check_owner(Path(spec.origin))
        return importlib.import_module(_NAME)
    except SystemExit as error:
        raise ConfigError(f"celeryconfig.py ends the program, with sys.exit({error.code!r})") from error


def _check_owner(file: Path) -> None:
    """Raise `ConfigError` for a file that somebody else left in the folder that this program happens to run in."""
    here, folder = Path.cwd().resolve(), file.parent.resolve()
    # A relative entry names whatever folder the program happens to run in, so it speaks for none.
    trusted = {
        Path(name).resolve() for name in os.environ.get("PYTHONPATH", "").split(os.pathsep) if Path(name).is_absolute()
    }
    if folder not in {here, here / _NAME} or here in trusted or not file.exists():
        return
    owners = {file.stat().st_uid, file.lstat().st_uid}  # of the file, and of a link to it
    if not owners <= {os.geteuid(), 0}:
        raise ConfigError(
            f"{file} belongs to another user (uid {max(owners)}) and is not read: start in a folder of your own, chown "
            f"it, or add {here} to PYTHONPATH if you trust it"
        )


def _is_command() -> bool:
    """Whether this is a command of Celery's or ours, or a worker that was started by hand."""
    context = click.get_current_context(silent=True)
    if context is None or PARENT_VARIABLE in os.environ:
        return False
    return getattr(context.find_root().command.callback, "__module__", None) in _COMMANDS
