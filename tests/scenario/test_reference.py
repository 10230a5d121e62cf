"""The reference names every option with the default that it has, and every public name where it is imported from."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable
from typing import Any

import pytest

from graflow.core.handlers.group_policy import POLICY_REGISTRY
from tests.scenario.markdown import ROOT
from tests.unit.test_public_names import PLACES

PAGE = (ROOT / "docs/reference.md").read_text(encoding="utf-8")
TABLES = re.findall(r"^### `([\w.]+)`\n\n\| option .*\n\|[-|]+\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
NAMES = {
    module: set(re.findall(r"`(\w+)`", names))
    for module, names in re.findall(r"^\| `([\w.]+)` \| (`[^|]+) \|$", PAGE, re.MULTILINE)
}
OPEN = ("graflow", "graflow_celery", "graflow.flows")
EXPORTING = (*OPEN, "graflow.exceptions", "graflow_celery.errors", "graflow.codec", "graflow.state")
RECEIVED = {  # what users are given, and never make
    *("TaskExecutionContext", "GroupHandle", "MemberOutcome", "MemberProgress", "GroupStatus", "FlowContext"),
    *("FlowPlan", "FlowStats", "PlannedStep", "StepExplanation", "RedisCoordinator"),
}


def documented(name: str) -> Any:
    """What a heading names: as much of it as is a module, then attributes."""
    parts = name.split(".")
    for end in range(len(parts) - 1, 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            found = getattr(found, part)
        return found
    raise AssertionError(name)


def options_of(callable_: Callable[..., Any]) -> list[tuple[str, str]]:
    return [
        (parameter.name, "" if parameter.default is parameter.empty else f"`{parameter.default!r}`")
        for parameter in inspect.signature(callable_).parameters.values()
        if parameter.kind not in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD} and parameter.name != "self"
    ]


@pytest.mark.parametrize(("name", "table"), TABLES, ids=[name for name, _ in TABLES])
def test_a_table_has_every_option_with_its_default_and_a_word_about_it(name: str, table: str) -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([^|]*) \| (.+) \|$", table, re.MULTILINE)
    assert [(option, default.strip()) for option, default, _ in rows] == options_of(documented(name))
    assert len(rows) == len(table.splitlines())
    assert all(meaning.strip() for _, _, meaning in rows)


@pytest.mark.parametrize("module", OPEN)
def test_whatever_takes_options_has_a_table(module: str) -> None:
    known = {documented(name) for name, _ in TABLES}
    exported = importlib.import_module(module)
    for name in exported.__all__:
        found = getattr(exported, name)
        is_error = isinstance(found, type) and issubclass(found, BaseException)
        is_enumeration = isinstance(found, type) and hasattr(found, "__members__")
        if name in RECEIVED or is_error or is_enumeration or not (inspect.isfunction(found) or inspect.isclass(found)):
            continue
        if any(default for _, default in options_of(found)):
            assert found in known, f"{module}.{name} has options, and no table in docs/reference.md"


def test_every_group_policy_that_takes_options_has_a_table() -> None:
    known = {documented(name) for name, _ in TABLES}
    assert all(policy in known for policy in POLICY_REGISTRY.values() if inspect.signature(policy).parameters)


def test_every_public_name_stands_where_it_is_imported_from() -> None:
    exported = [(name, other) for name in EXPORTING for other in importlib.import_module(name).__all__]
    missing = [
        (module, name) for module, name in [*PLACES, *exported] if not name.startswith("_") or name == "__version__"
    ]
    missing = [(module, name) for module, name in missing if name not in NAMES.get(module, ())]
    assert not missing, "these names are not in docs/reference.md"


def test_no_name_stands_there_that_cannot_be_imported() -> None:
    for module, names in NAMES.items():
        assert all(hasattr(importlib.import_module(module), name) for name in names), module
