"""Markers divide the tests between `make test` and `make test-rest`; CONTRIBUTING.md says how."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def selection_of(target: str) -> str:
    """The marker expression of a target of the Makefile."""
    shown = subprocess.run(
        ["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    (expression,) = re.findall(r'pytest .* -m "([^"]+)"', shown.stdout)
    return expression


def test_every_test_is_in_one_half_or_takes_hours() -> None:
    assert selection_of("test-mutants") == "exhaustive"
    assert selection_of("test") == f"not ({selection_of('test-rest')} or browser or exhaustive)"


def test_the_table_of_markers_has_each_and_says_in_which_half_it_is(pytestconfig: pytest.Config) -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \|.*\| `make ([\w-]+)`", text, re.MULTILINE))
    declared = re.findall(r"^    \"(\w+): needs ", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    assert list(rows) == declared
    left_out = selection_of("test-rest").split(" or ")
    assert {marker for marker, target in rows.items() if target == "test-rest"} == set(left_out)


@pytest.mark.slow
def test_the_main_path_of_each_integration_file_is_in_the_first_half() -> None:
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", selection_of("test"), "tests/integration"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=110)
    chosen = set(re.findall(r"^tests/integration/(\w+\.py)::", shown.stdout, re.MULTILINE))
    assert chosen == {path.name for path in (ROOT / "tests/integration").glob("test_*.py")}
