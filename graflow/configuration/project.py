"""The settings of a project, each with the place that it comes from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from pydantic import BaseModel, ValidationError

from graflow.configuration.document import Document
from graflow.configuration.finding import document
from graflow.configuration.sections import (
    MODELS,
    CacheSection,
    FlowEngineSection,
    MonitoringSection,
    PersistenceSection,
    Section,
)
from graflow.configuration.variables import variable_of, warn_of_unknown_variables
from graflow.exceptions import SettingError

_PATHS: Final = frozenset({("monitoring", "metrics_dir")})
_SECRET: Final = frozenset({"store"})  # an address may have a password


class Origin(NamedTuple):
    """Where a setting comes from.

    Attributes:
        place: The setting as errors speak of it: the variable, or the key with its file and line.
        where: The variable, the file with its line, or "default".
        folder: Where relative paths start from; None for the working directory.
    """

    place: str
    where: str
    folder: Path | None = None


class ProjectSettings(NamedTuple):
    """What holds where code says nothing else.

    Attributes:
        flow_engine: How flows are run.
        cache: What becomes of results that are to be kept.
        persistence: Where flows are written down.
        monitoring: What may be looked at from outside.
        origins: Of each setting that is not the default, by section and key.
    """

    flow_engine: FlowEngineSection
    cache: CacheSection
    persistence: PersistenceSection
    monitoring: MonitoringSection
    origins: Mapping[tuple[str, str], Origin]

    def origin(self, section: str, key: str) -> Origin:
        """Where a setting comes from."""
        return self.origins.get((section, key), Origin(f"{section}.{key}", "default"))


def project_settings() -> ProjectSettings:
    """The settings of this project: the environment over its `config.yaml` over the defaults.

    Raises:
        ConfigError: For an unknown key or a value that does not fit; names the file, line and key, or the variable.
    """
    warn_of_unknown_variables()
    said = tuple((name, os.environ[name]) for name in sorted(os.environ) if name.startswith("GRAFLOW_"))
    return _settled(document(), said)


@lru_cache(maxsize=8)
def _settled(found: Document | None, environment: tuple[tuple[str, str], ...]) -> ProjectSettings:
    origins: dict[tuple[str, str], Origin] = {}
    made: dict[str, Any] = {
        name: _section(name, model, found, dict(environment), origins) for name, model in MODELS.items()
    }
    return ProjectSettings(**made, origins=origins)


def _section(
    name: str,
    model: type[Section],
    found: Document | None,
    environment: Mapping[str, str],
    origins: dict[tuple[str, str], Origin],
) -> BaseModel:
    values: dict[str, Any] = {}
    if found is not None:
        for key, said in found.section(name, model.model_fields).items():
            is_path = (name, key) in _PATHS and isinstance(said.value, str)
            values[key] = found.folder / said.value if is_path else said.value
            origins[name, key] = Origin(found.place(name, key), f"{found.path}:{said.line}", found.folder)
    for key in model.model_fields:
        if text := environment.get(variable_of(name, key)):
            values[key] = text
            origins[name, key] = Origin(variable_of(name, key), variable_of(name, key))
    try:
        return model(**values)
    except ValidationError as error:
        raise SettingError(_explained(error, name, origins)) from None


def _explained(error: ValidationError, name: str, origins: Mapping[tuple[str, str], Origin]) -> str:
    first = error.errors(include_url=False)[0]
    key = str(first["loc"][0])
    given = "" if key in _SECRET else f", not {first['input']!r}"
    return f"{origins[name, key].place}: {first['msg']}{given}"
