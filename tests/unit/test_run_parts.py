"""Requests, groups, frames and surroundings of a run, each without a run around it."""

from __future__ import annotations

import ast
import pickle
from dataclasses import FrozenInstanceError, dataclass, fields
from pathlib import Path

import pytest

from graflow.core.branches.outcome import BranchOutcome, Requests
from graflow.core.branches.surroundings import Surroundings
from graflow.core.context import ExecutionContext
from graflow.core.graph import TaskGraph
from graflow.core.remote.branch import surroundings_of
from graflow.core.run import context as context_module
from graflow.core.run.frame import Control, Frame
from graflow.core.run.groups import Groups
from graflow.protocols import Run
from graflow.queue.base import TaskSpec
from tests.graph_support import node


class Open:
    """Stands for an execution of a group that has not ended."""

    def __init__(self, group_id, run_key, branches):
        self.group_id, self.run_key, self._branches = group_id, run_key, branches
        self.is_abandoned = False

    def open_branches(self):
        return self._branches

    def settle(self):
        pass

    def abandon(self):
        self.is_abandoned = True


@pytest.mark.parametrize(
    "change",
    [{"nodes": [("n", [])]}, {"exits": [("a", "b")]}, {"jumps": ["a"]}, {"checkpoint": {"metadata": {}, "path": None}}],
)
def test_requests_tell_whether_anything_is_left_to_do(change):
    assert Requests().is_empty()
    assert not Requests(**change).is_empty()


def test_nodes_of_a_failed_execution_are_withdrawn_and_others_stay():
    requests = Requests(nodes=[("a", ["t"]), ("b", ["u"])])
    kept = pickle.loads(pickle.dumps(requests))
    requests.withdraw_nodes(["a"])
    assert requests.nodes == [("b", ["u"])]
    assert kept.nodes == [("a", ["t"]), ("b", ["u"])]


def test_a_frame_adopts_what_an_inner_one_asked_for_and_the_stronger_request():
    outer, inner = Frame("outer"), Frame("inner")
    specs = [TaskSpec(node(name)) for name in "xy"]
    outer.note_queued(specs[0])
    inner.note_queued(specs[1])
    born = node("y")
    inner.note_born(born)
    inner.control = Control.TERMINATE
    outer.adopt(inner)
    outer.adopt(Frame("later"))
    assert (outer.queued, outer.born, outer.control) == (specs, [born], Control.TERMINATE)


def test_each_execution_of_a_group_has_a_key_of_its_own():
    groups = Groups("2.")
    assert groups.key_of("s", "g") == "s:g:2.0"
    groups.close(Open("g", "s:g:2.0", {}))
    assert (groups.key_of("s", "g"), groups.key_of("s", "h")) == ("s:g:2.1", "s:h:2.0")
    assert not groups.is_untouched()


def test_an_interrupted_execution_goes_on_with_what_has_succeeded():
    groups = Groups()
    groups.finished["k"] = {0: BranchOutcome("a", success=True), 1: BranchOutcome("b", success=False)}
    groups.branches["k"] = {1: "branch"}
    finished, branches = groups.go_on("k")
    assert (list(finished), branches, groups.branches) == ([0], {1: "branch"}, {})
    finished[1] = BranchOutcome("b", success=True)
    assert groups.succeeded() == {"k": ["a", "b"]}


def test_an_execution_that_is_left_open_is_abandoned_once_and_keeps_its_key():
    groups, left = Groups(), Open("g", "s:g:0", {})
    groups.open["g"] = left
    groups.abandon("g")
    groups.abandon("g")
    assert (left.is_abandoned, groups.open, groups.key_of("s", "g")) == (True, {}, "s:g:0")


def test_open_branches_are_saved_and_failures_are_not():
    groups = Groups()
    groups.open["g"] = Open("g", "k", {0: "begun"})
    groups.finished["k"] = {1: BranchOutcome("b", success=False), 2: BranchOutcome("c", success=True)}
    twin = pickle.loads(pickle.dumps(groups))
    assert (twin.open, twin.branches, list(twin.finished["k"])) == ({}, {"k": {0: "begun"}}, [2])
    assert list(groups.open_branches()) == ["begun"]
    assert groups.branches == {}


def test_surroundings_are_frozen_and_a_member_has_a_session_of_its_own():
    around = Surroundings("g", "s", "t")
    assert around.session_of("m") == "s_m"
    with pytest.raises(FrozenInstanceError):
        around.max_steps = 1  # type: ignore[misc]


def test_a_branch_here_and_one_away_inherit_the_same():
    context = ExecutionContext(TaskGraph(), max_steps=9, default_max_cycles=4, default_max_retries=2, config={"x": 1})
    context.workflow_name = "named"
    context.steps = 3
    here = context.create_branch_context("m").surroundings()
    away = surroundings_of(context, "g", may_jump=False)
    told = {
        "session_id",
        "group_id",
        "outside",
        "known_by_name",
        "returned_errors",
        "limits",
    }  # what a branch here looks up
    same = [part.name for part in fields(Surroundings) if part.name not in told]
    assert {name: getattr(here, name) for name in same} == {name: getattr(away, name) for name in same}
    assert (here.max_steps, here.workflow_name, here.trace_id) == (6, "named", context.session_id)


@dataclass(frozen=True)
class OnTheWay(Surroundings):
    """Stands for surroundings with what they need on their way to a worker."""

    channel: str = ""


def test_what_surroundings_need_on_their_way_is_not_handed_on_by_a_branch_that_is_away():
    branch = ExecutionContext(TaskGraph(), around=OnTheWay("g", "s", "t", max_steps=5, channel="c"), session_id="s_m")
    around = surroundings_of(branch, "inner", may_jump=True)
    assert type(around) is Surroundings
    assert (around.group_id, around.session_id, around.trace_id, around.max_steps) == ("inner", "s_m", "t", 5)


def test_settings_of_a_run_are_listed_where_they_are_given_and_in_its_surroundings_only():
    folder = Path(context_module.__file__).parent
    reads = {
        path.name
        for path in folder.glob("*.py")
        for found in ast.walk(ast.parse(path.read_text()))
        if isinstance(found, ast.Attribute) and found.attr == "channel_backend"
    }
    assert reads <= {"beginning.py", "context.py", "questions.py", "saving.py"}


def test_a_context_is_what_lower_floors_take_for_a_run():
    run: Run = ExecutionContext(TaskGraph())
    assert run.root is run
