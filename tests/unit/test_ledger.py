"""The books of a run, without a run around them."""

from __future__ import annotations

import pickle

from graflow.channels.memory_channel import MemoryChannel
from graflow.core.retry import RetryPolicy
from graflow.core.run.ledger import Ledger


def ledger(**options):
    return Ledger(MemoryChannel("books"), **options)


def branch_of(outer):
    inner = ledger()
    inner.join(outer)
    return inner


def test_results_are_kept_in_the_channel_and_listed_when_asked_for():
    books = ledger()
    books.set_result("a", 1)
    books.results = {}
    books.set_result("b", None)
    assert books.channel.get("a.__result__") == 1
    assert (books.get_result("b", 5), books.get_result("c", 5)) == (None, 5)
    assert books.results == {"b": None}


def test_steps_are_left_until_it_is_full():
    books = ledger(max_steps=2, steps=1)
    assert (books.steps_left, books.is_full, books.is_blank) == (1, False, False)
    books.steps = 3
    assert (books.steps_left, books.is_full) == (0, True)


def test_what_outer_runs_have_completed_counts_in_a_branch_and_not_the_other_way_round():
    outer = ledger()
    inner = branch_of(outer)
    outer.completed["a"] = inner.completed["b"] = None
    outer.returned_elsewhere = ["far"]
    assert [inner.has_completed(task_id) for task_id in ("a", "b", "far", "c")] == [True, True, True, False]
    assert not outer.has_completed("b")


def test_returned_errors_are_those_of_tasks_that_completed():
    outer = ledger()
    inner = branch_of(outer)
    for books, task_id in ((outer, "returned"), (outer, "raised"), (inner, "inside")):
        books.set_result(task_id, ValueError(task_id))
    outer.completed["returned"] = inner.completed["inside"] = None
    inner.returned_elsewhere = ["far"]
    assert inner.returned_errors == ["far", "inside", "returned"]


def test_limits_are_those_of_the_outer_run_also_when_they_are_set_later():
    outer = ledger()
    inner = branch_of(outer)
    outer.cycles.set_node_max_cycles("a", 3)
    inner.retries.set_node_policy("b", RetryPolicy(max_retries=2))
    assert inner.cycles.get_max_cycles_for_node("a") == 3
    assert outer.retries.get_max_retries_for_node("b") == 2


def test_an_execution_counts_once_a_retry_does_not_and_a_new_visit_has_its_full_budget():
    books = ledger()
    books.count_execution("a", "a")
    books.retries.increment("a", OSError())
    books.count_execution("a", "a")
    assert (books.cycles.cycle_counts, books.retries.retry_counts) == ({"a": 1}, {"a": 1})
    books.retried.add("a")
    books.count_execution("a", "a")
    assert (books.cycles.cycle_counts, books.retries.retry_counts, books.retried) == ({"a": 2}, {}, set())


def test_branches_add_what_they_did_since_they_began():
    books = ledger(steps=1)
    books.cycles.cycle_counts["a"] = 2
    books.add(["a", "b"], 2, {"a": 3, "b": 1}, {"b": 1}, begun_with={"a": 2})
    books.add(["a"], 1, {"a": 3}, {}, begun_with={"a": 2})
    assert list(books.completed) == ["a", "b"]
    assert books.steps == 4
    assert books.cycles.cycle_counts == {"a": 4, "b": 1}
    assert (books.retries.retry_counts, books.retried) == ({"b": 1}, {"b"})


def test_a_branch_that_began_at_nothing_adds_all_of_it():
    books = ledger()
    books.cycles.cycle_counts["a"] = 2
    books.add(["a"], 1, {"a": 1}, {})
    assert books.cycles.cycle_counts == {"a": 3}


def test_a_copy_by_pickle_goes_its_own_way():
    books = ledger(max_steps=7)
    books.completed["a"] = None
    twin = pickle.loads(pickle.dumps(books))
    twin.completed["b"] = None
    assert (list(books.completed), list(twin.completed), twin.max_steps) == (["a"], ["a", "b"], 7)
