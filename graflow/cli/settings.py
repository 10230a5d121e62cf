"""What the doctor looks at in the settings of a project."""

from __future__ import annotations

import os
from collections.abc import Iterator

from graflow.cli.findings import Asked, Finding, ok, warning
from graflow.configuration.document import CONFIG_VARIABLE
from graflow.configuration.finding import document, passed_over
from graflow.configuration.project import ProjectSettings, project_settings
from graflow.configuration.sections import MODELS, Section
from graflow.configuration.variables import known_variables, unknown_variables
from graflow.secret import MASK


def checks(_: Asked) -> Iterator[Finding]:
    """The file, variables that nothing reads, and each setting with where it comes from."""
    for name, near in unknown_variables(os.environ, known_variables()):
        meant, remedy = (f"; is {near} meant?", "rename or unset it") if near else ("", "unset it")
        yield warning("settings", f"{name} is set, and nothing reads it{meant}", remedy)
    found = document()
    yield ok("settings", "there is no config.yaml" if found is None else f"{found.path} is read")
    for path in passed_over():
        yield ok("settings", f"{path} is another program's; if it is not, name it by {CONFIG_VARIABLE}")
    settings = project_settings()
    for name in MODELS:
        yield ok("settings", f"{name}: {_told(settings, name)}")


def _told(settings: ProjectSettings, name: str) -> str:
    section: Section = getattr(settings, name)
    return ", ".join(
        f"{key} = {_shown(section, key)} ({settings.origin(name, key).where})" for key in type(section).model_fields
    )


def _shown(section: Section, key: str) -> str:
    value = getattr(section, key)
    is_secret = type(section).model_fields[key].repr is False and value is not None
    return MASK if is_secret else str(value)
