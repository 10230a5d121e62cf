"""Modules and files that have flows, imported under the names that other processes know them by."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from graflow.configuration.project import project_settings
from graflow.exceptions import ConfigError
from graflow.foreign import attempt_import


def load_flows(names: Sequence[str]) -> None:
    """Import what registers flows; the folder that the command runs in is searched first.

    Args:
        names: Modules, or files of Python; where there is none, those of `flow_engine.flows` in `config.yaml`.

    Raises:
        ConfigError: When one cannot be imported.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    for name in names or project_settings().flow_engine.flows:
        _load(name)


def _load(name: str) -> None:
    def refuse(error: Exception | SystemExit) -> NoReturn:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigError(f"--flows {name} cannot be imported: {reason}") from error

    file = Path(name).resolve()
    if name.endswith(".py") or "/" in name:
        if not file.is_file():
            raise ConfigError(f"--flows {name}: there is no such file")
        module = attempt_import(lambda: import_module(_module_of(file)), refuse)
        found = Path(module.__file__ or "").resolve()
        if found != file:
            raise ConfigError(
                f"--flows {name}: the name '{module.__name__}' is that of {found}; name the module instead of the file"
            )
    else:
        attempt_import(lambda: import_module(name), refuse)


def _module_of(file: Path) -> str:
    """The name by which a file is imported; its folder is searched from now on where no other one leads to it."""
    for folder in map(Path, sys.path):
        if file.is_relative_to(folder.resolve()):
            parts = file.relative_to(folder.resolve()).with_suffix("").parts
            if all(part.isidentifier() for part in parts):
                return ".".join(parts)
    sys.path.insert(0, str(file.parent))
    return file.stem
