"""What a graph is told by, and which differences forbid to go on from a record."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from graflow import task, workflow
from graflow.core.durable.graph_fingerprint import graph_differences, graph_fingerprint


@task
def _squared(number: int) -> int:
    return number * number


_FLOW = """
from graflow import task, workflow

{first}

@task
def second(first):
    return first + 1

@task
def third(second):
    return second

@task
def page(number):
    return number * {factor}

def graph():
    with workflow("w") as made:
        {steps}
    return made.graph
"""

_FIRST = '''
@task
def first():
    """What it does."""
    return 1  # a comment
'''


@pytest.fixture
def fingerprint(tmp_path: Path) -> Iterator[Any]:
    made: list[str] = []

    def of(first: str = _FIRST, steps: str = "first >> second >> third", factor: int = 1) -> dict[str, Any]:
        name = f"fingerprinted_{len(made)}"
        path = tmp_path / f"{name}.py"
        path.write_text(_FLOW.format(first=first, steps=steps, factor=factor))
        made.append(name)
        found: dict[str, Any] = json.loads(json.dumps(graph_fingerprint(_imported(name, path).graph())))
        return found

    yield of
    for name in made:
        sys.modules.pop(name, None)


def _imported(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def test_comments_docstrings_places_and_decorators_are_no_change(fingerprint: Any) -> None:
    other = '\n\n\n@task(max_retries=4)\ndef first():\n    """Another text."""\n    return 1\n'
    assert graph_differences(fingerprint(), fingerprint(first=other), {"first"}) == []


def test_other_code_matters_where_there_is_an_outcome(fingerprint: Any) -> None:
    changed = fingerprint(first="@task\ndef first():\n    return 2\n")
    (done,) = graph_differences(fingerprint(), changed, {"first"})
    assert (done.kind, done.node, done.matters) == ("code", "first", True)
    assert "'first' runs other code" in done.text
    (open_,) = graph_differences(fingerprint(), changed, set())
    assert not open_.matters


def test_a_step_behind_the_frontier_may_be_new_and_one_before_it_not_gone(fingerprint: Any) -> None:
    short = fingerprint(steps="first >> second")
    found = graph_differences(short, fingerprint(), {"first"})
    assert {(each.kind, each.node) for each in found} == {("added", "third"), ("edges", "second")}
    assert not any(each.matters for each in found)
    found = graph_differences(fingerprint(), short, {"first", "second", "third"})
    assert ("removed", "third", True) in {(each.kind, each.node, each.matters) for each in found}


def test_an_edge_into_a_completed_step_is_a_changed_past(fingerprint: Any) -> None:
    before, now = fingerprint(), fingerprint(steps="first >> second >> third; first >> third")
    (edge,) = graph_differences(before, now, {"first", "second", "third"})
    assert (edge.kind, edge.matters) == ("edges", True)
    assert "'first' >> 'third' is new" in edge.text
    assert not any(each.matters for each in graph_differences(before, now, {"first", "second"}))


def test_members_are_part_of_a_group_that_has_begun(fingerprint: Any) -> None:
    three = fingerprint(steps='first >> page.map([1, 2, 3], name="pages") >> third')
    four = fingerprint(steps='first >> page.map([1, 2, 3, 4], name="pages") >> third')
    other = fingerprint(steps='first >> page.map([1, 2, 3], name="pages") >> third', factor=2)
    assert set(three) == {"first", "pages", "third"}
    (members,) = graph_differences(three, four, {"first"}, {"pages"})
    assert (members.kind, members.matters) == ("members", True)
    assert "(3 -> 4)" in members.text
    assert not graph_differences(three, four, {"first"})[0].matters
    assert graph_differences(three, other, {"first", "pages"})[0].matters


def test_a_version_tells_of_code_that_the_function_itself_does_not_show(fingerprint: Any) -> None:
    first = "@task(version={version!r})\ndef first():\n    return 1\n"
    one, two = (fingerprint(first=first.format(version=version)) for version in ("1", "2"))
    (change,) = graph_differences(one, two, {"first"})
    assert (change.kind, change.matters) == ("code", True)
    assert "@1 -> " in change.text
    assert "@2)" in change.text


def test_a_fan_out_is_told_by_the_same_before_and_after_its_members_were_made() -> None:
    with workflow("w") as made:
        group = _squared.map(range(5), name="squares")
        group >> _squared(task_id="last", number=1)
    before = graph_fingerprint(made.graph)
    assert made.graph.is_folded("squares")
    assert group.tasks[0].task_id == "squares[0]"
    made.graph.unfold()
    assert graph_fingerprint(made.graph) == before
    assert before["squares"]["after"] == ["last"]
