"""Variables of the environment: which there are, and which look like one and are none."""

from __future__ import annotations

import difflib
import os
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from importlib.metadata import entry_points
from typing import Final

from graflow.configuration.document import CONFIG_VARIABLE
from graflow.configuration.sections import MODELS
from graflow.text.shown import get_logger

_log = get_logger(__name__)

_PREFIX: Final = "GRAFLOW_"
_PLUG_INS: Final = "graflow.variables"
_RENAMED: Final = {("persistence", "store"): "GRAFLOW_FLOW_STORE", ("flow_engine", "flows"): "GRAFLOW_FLOWS"}
_OTHERS: Final = (
    *(CONFIG_VARIABLE, "GRAFLOW_BACKEND", "GRAFLOW_SIGNING_KEY", "GRAFLOW_SIGNING_KEY_FILE"),
    *("GRAFLOW_API_TOKEN", "GRAFLOW_API_VIEW_TOKEN"),
    *("GRAFLOW_REDIS_URL", "GRAFLOW_REDIS_PASSWORD", "GRAFLOW_REDIS_SSL_PASSWORD", "GRAFLOW_SENTINEL_PASSWORD"),
)


def variable_of(section: str, key: str) -> str:
    """The variable that a setting of `config.yaml` may come from."""
    return _RENAMED.get((section, key)) or f"{_PREFIX}{section}_{key}".upper()


@cache
def known_variables() -> frozenset[str]:
    """Every variable that is read, with those of plug-ins, which are imported for it."""
    return _own_variables().union(*(point.load() for point in entry_points(group=_PLUG_INS)))


def _own_variables() -> frozenset[str]:
    return frozenset(_OTHERS).union(
        variable_of(section, key) for section, model in MODELS.items() for key in model.model_fields
    )


def unknown_variables(environment: Mapping[str, str], known: Collection[str]) -> Iterator[tuple[str, str | None]]:
    """Variables that look like settings and are none, each with the nearest name."""
    for name in sorted(environment):
        if name.startswith(_PREFIX) and name not in known:
            yield name, next(iter(difflib.get_close_matches(name, sorted(known), 1)), None)


@cache
def warn_of_unknown_variables() -> None:
    """Log, once, every variable that looks like a setting and is none."""
    if any(True for _ in unknown_variables(os.environ, _own_variables())):
        for name, near in unknown_variables(os.environ, known_variables()):
            _log.warning("%s is set, and nothing reads it%s", name, f"; is {near} meant?" if near else "")
