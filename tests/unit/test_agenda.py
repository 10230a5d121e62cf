"""What a run has yet to do, without a run around it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from graflow.core.branches.scope import BranchScope
from graflow.core.graph import TaskGraph
from graflow.core.nodes.iteration import IterationTask
from graflow.core.run.agenda import Agenda
from graflow.core.run.frame import Frame, Interrupted
from graflow.core.task import Task
from graflow.exceptions import UnknownNodeError
from graflow.trace.base import Tracer


def plain(task_id):
    return Task(task_id, register_to_context=False)


@pytest.fixture
def owner():
    graph = TaskGraph()
    for task_id in "abcd":
        graph.add_node(plain(task_id))
    return SimpleNamespace(graph=graph, tracer=Tracer(), steps=0)


@pytest.fixture
def agenda(owner):
    return Agenda(owner)


def never(seconds):
    raise AssertionError(f"nothing to wait for, yet {seconds} s were")


def drain(agenda, pause=never):
    found = []
    while (spec := agenda.next(pause)) is not None:
        found.append(spec.task_id)
    return found


def queue(agenda, *task_ids):
    return [agenda.add(agenda._owner.graph.get_node(task_id)) for task_id in task_ids]


def pass_of(base_id, number):
    return IterationTask(f"{base_id}_cycle_{number}_abcdef01", base_id, None, "direct")


def test_entries_come_in_order_and_what_is_requeued_before_all(agenda):
    queue(agenda, "a", "b")
    first = agenda.next(never)
    agenda.requeue(first)
    assert agenda.is_active("a")
    assert drain(agenda) == ["a", "b"]
    assert not agenda.has_work()


def test_a_failed_task_waits_for_its_policys_own_figure_when_nothing_else_runs(agenda):
    queue(agenda, "a")
    agenda.retry_later(agenda.next(never), 5.0)
    assert agenda.is_active("a")
    assert [spec.task_id for spec in agenda.pending()] == ["a"]
    waited = []
    assert drain(agenda, waited.append) == ["a"]
    assert waited == [5.0]


def test_what_is_ready_goes_before_a_wait_and_shortens_it(agenda, owner):
    queue(agenda, "a", "b")
    agenda.retry_later(agenda.next(never), 5.0)
    assert agenda.next(never).task_id == "b"
    owner.steps = 1
    waited = []
    assert agenda.next(waited.append).task_id == "a"
    assert 0 < waited[0] < 5.0


def test_a_wait_that_is_over_goes_before_the_queue(agenda):
    queue(agenda, "a", "b")
    agenda.retry_later(agenda.next(never), 0.0)
    assert drain(agenda) == ["a", "b"]


def test_joins_that_wait_for_each_other_are_let_in_oldest_first(agenda):
    agenda.joins.waiting = {"c": {"d": None}, "d": {"c": None}}
    assert agenda.next(never).task_id == "c"
    assert list(agenda.joins.waiting) == ["d"]


def test_a_pass_makes_its_base_active_until_it_is_taken(agenda):
    agenda.add(pass_of("a", 1))
    assert ("a" in agenda.passes, agenda.is_active("a")) == (True, True)
    agenda.next(never)
    assert ("a" in agenda.passes, agenda.is_active("a")) == (False, False)


def test_a_pass_that_is_requeued_counts_once(agenda):
    agenda.add(pass_of("a", 1))
    agenda.requeue(agenda.next(never))
    agenda.next(never)
    assert "a" not in agenda.passes


def test_a_pass_that_is_withdrawn_is_not_waited_for(agenda):
    spec = agenda.add(pass_of("a", 1))
    agenda.withdraw(spec)
    agenda.withdraw(spec)
    assert "a" not in agenda.passes
    assert drain(agenda) == []


def test_a_repetition_asks_once_for_what_the_interrupted_execution_had_asked_for(agenda, owner):
    queue(agenda, "b", "c")
    frame = Frame("a")
    frame.repeats = Interrupted(queued=["b"], born=[])
    agenda.add_for(frame, owner.graph.get_node("b"))
    agenda.add_for(frame, owner.graph.get_node("b"))
    assert drain(agenda) == ["c", "b", "b"]
    assert [spec.task_id for spec in frame.queued] == ["b", "b"]


def test_the_start_is_queued_once_and_only_where_nothing_waits(agenda):
    agenda.start_node = "a"
    agenda.start(is_fresh=False)
    assert drain(agenda) == []
    agenda.start(is_fresh=True)
    agenda.start(is_fresh=True)
    assert drain(agenda) == ["a"]


def test_a_start_that_the_graph_lacks_is_awaited_and_refused_in_the_end(agenda):
    agenda.start_node, agenda.awaits_start = "z", True
    assert agenda.has_work()
    with pytest.raises(ValueError, match="Start node 'z' not found"):
        agenda.start(is_fresh=False)


def test_an_edge_without_a_task_is_an_error_that_names_it(agenda, owner):
    owner.graph.add_edge("a", "nowhere")
    with pytest.raises(UnknownNodeError, match="'nowhere'"):
        agenda.queue_node("nowhere")


def test_a_branch_holds_its_own_nodes_and_later_ones(agenda, owner):
    agenda.scope = BranchScope({"a"}, owner.graph)
    owner.graph.add_node(plain("new"))
    assert [agenda.in_scope(task_id) for task_id in ("a", "b", "new")] == [True, False, True]


def test_what_is_saved_goes_on_elsewhere_with_the_running_entry_first(agenda, owner):
    agenda.start_node = "a"
    queue(agenda, "a", "b")
    agenda.running = agenda.next(never)
    agenda.retry_later(queue(agenda, "c")[0], 9.0)
    frame = Frame("a")
    agenda.add_for(frame, owner.graph.get_node("d"))
    frame.note_born(owner.graph.get_node("d"))
    agenda.joins.waiting["d"] = {"c": None}

    twin = Agenda.from_saved(owner, agenda.saved(frame))

    assert [spec.task_id for spec in twin.pending()][:2] == ["a", "c"]
    assert (twin.start_node, twin.joins.waiting) == ("a", {"d": {"c": None}})
    assert (twin.interrupted["a"].queued, twin.interrupted["a"].born) == (["d"], ["d"])
    twin.joins.waiting["d"].clear()
    assert agenda.joins.waiting == {"d": {"c": None}}
    assert agenda.interrupted == {}
