"""An outcome speaks for its own branch: what it may say, and what is refused whoever signed it."""

from __future__ import annotations

from typing import Any

import pytest

from graflow.channels.branch import ChannelWrite
from graflow.core.branches.outcome import BranchOutcome, Requests
from graflow.core.decorators import task
from graflow.core.graph import TaskGraph
from graflow.core.nodes.arguments import RESULT_SUFFIX
from graflow.core.nodes.executable import ParallelGroup
from graflow.core.nodes.plain import Task, TaskElsewhere
from graflow.exceptions import PayloadError
from graflow_celery.client.confinement import check_confined, ids_inside

OWN = {"member", "follower"}


@pytest.fixture
def graph() -> TaskGraph:
    made = TaskGraph()
    for name in ("before", "member", "follower", "other member", "after"):
        made.add_node(task(id=name)(lambda: None))
    made.add_name(TaskElsewhere("added earlier"))
    return made


def outcome(**parts: Any) -> BranchOutcome:
    usual = {"results": [("member", 1)], "completed": ["member"], "steps": 1, "cycle_counts": {"member": 1}}
    return BranchOutcome("member", success=True, value=1, **{**usual, **parts})


@pytest.mark.parametrize(
    "said",
    [
        outcome(),
        outcome(results=[("member", 1), ("follower", 2)], completed=["member", "follower"], steps=2),
        outcome(results=[("member", 1), ("new", 2)], requests=Requests(nodes=[("new", ["member"])])),
        outcome(results=[("member", 1), ("added earlier", 2)], requests=Requests(nodes=[("added earlier", [])])),
        outcome(requests=Requests(jumps=["before", "outer"], exits=[("follower", "after")])),
        outcome(requests=Requests(checkpoint={"metadata": {}, "path": None})),
        outcome(writes=[ChannelWrite("key", 1), ChannelWrite("follower" + RESULT_SUFFIX, 1)]),
        outcome(retry_counts={"member": 2}),
    ],
)
def test_what_a_branch_says_of_itself_is_taken(graph: TaskGraph, said: BranchOutcome) -> None:
    check_confined(said, OWN, graph, {"outer"})


@pytest.mark.parametrize(
    "said",
    [
        outcome(results=[("before", "FORGED")]),
        outcome(results=[("member", 1), ("other member", "FORGED")]),
        outcome(completed=["member", "after"]),
        outcome(cycle_counts={"member": 1, "after": 100}),
        outcome(retry_counts={"after": 3}),
        outcome(requests=Requests(nodes=[("after", [])])),
        outcome(requests=Requests(passes={"after": "member"})),
        outcome(requests=Requests(exits=[("before", "after")])),
        outcome(writes=[ChannelWrite("before" + RESULT_SUFFIX, "FORGED")]),
    ],
)
def test_what_it_says_of_other_tasks_is_refused(graph: TaskGraph, said: BranchOutcome) -> None:
    with pytest.raises(PayloadError, match="does not belong to its branch"):
        check_confined(said, OWN, graph)


def test_what_it_says_of_tasks_of_the_runs_around_is_refused(graph: TaskGraph) -> None:
    for said in (outcome(completed=["member", "outer"]), outcome(writes=[ChannelWrite("outer" + RESULT_SUFFIX, 1)])):
        with pytest.raises(PayloadError, match="'outer', which does not belong to its branch"):
            check_confined(said, OWN, graph, {"outer"})


@pytest.mark.parametrize("said", [Requests(jumps=["nowhere"]), Requests(exits=[("member", "nowhere")])])
def test_a_way_that_leads_to_no_task_of_the_run_is_refused(graph: TaskGraph, said: Requests) -> None:
    with pytest.raises(PayloadError, match="'nowhere', which is no task of this run"):
        check_confined(outcome(requests=said), OWN, graph)


def test_a_path_for_a_checkpoint_is_refused(graph: TaskGraph) -> None:
    with pytest.raises(PayloadError, match="path for a checkpoint"):
        check_confined(outcome(requests=Requests(checkpoint={"metadata": {}, "path": "/x"})), OWN, graph)


def test_members_of_groups_inside_a_branch_are_its_own() -> None:
    def group(name: str, *members: Any) -> ParallelGroup:
        return ParallelGroup(list(members), name=name)

    leaves = [Task(f"leaf{index}") for index in range(2)]
    inside = ids_inside([Task("plain"), group("outer", group("inner", *leaves), Task("beside"))])
    assert sorted(inside) == ["beside", "inner", "leaf0", "leaf1"]
