"""`task.map` and `task.starmap`: their members, their results, and what they leave in the workflow."""

from __future__ import annotations

from typing import Any

import pytest

from graflow import task, workflow
from graflow.core.building.scopes import current_scope
from graflow_celery import submit
from tests.integration.members import double, fail_odd, listing, noop, scaled, total, who

pytestmark = pytest.mark.redis


def ids(group: Any) -> list[str]:
    return [member.task_id for member in group.tasks]


def test_members_are_named_after_the_group_and_the_index_or_the_key() -> None:
    assert ids(double.map("ab")) == ["double[0]", "double[1]"]
    assert ids(double.map("ab", name="shards")) == ["shards[0]", "shards[1]"]
    assert ids(double.map("ab", key=str.upper)) == ["double[A]", "double[B]"]
    assert ids(scaled.starmap([(1, 2)], name="s", key=lambda item: item[1])) == ["s[2]"]
    assert double.map("ab", name="shards").task_id == "shards"
    assert double.map("ab").task_id == "double"


def test_two_items_of_one_key_are_an_error_and_not_one_member_less() -> None:
    with pytest.raises(ValueError, match=r"double\[same\]"):
        double.map([1, 2], key=lambda _: "same")


@pytest.mark.parametrize("items", [5, None])
def test_what_cannot_be_iterated_is_an_error_at_once(items: Any) -> None:
    with pytest.raises(TypeError):
        double.map(items)


def test_a_task_that_takes_nothing_cannot_be_mapped() -> None:
    with pytest.raises(TypeError, match="listing"):
        listing.map([1])


@pytest.mark.slow
def test_ten_thousand_members_come_back_in_order(config: dict[str, Any]) -> None:
    assert submit(noop.map(range(10_000)), config).results(timeout=60) == list(range(10_000))


def test_the_item_goes_to_the_first_parameter_that_is_free(config: dict[str, Any]) -> None:
    assert submit(scaled(task_id="by-three", factor=3).map([1, 2]), config).results(timeout=120) == [3, 6]
    assert submit(scaled(task_id="of-five", x=5).map([1, 2]), config).results(timeout=120) == [5, 10]


def test_tuples_and_dicts_spread_over_the_parameters(config: dict[str, Any]) -> None:
    group = scaled.starmap([(2, 3), {"x": 4, "factor": 5}, {"factor": 7, "x": 1}])
    assert submit(group, config).results(timeout=120) == [6, 20, 7]
    assert submit(noop.map([{"x": 1}, (1, 2)]), config).results(timeout=120) == [{"x": 1}, (1, 2)]
    with pytest.raises(TypeError, match="2 free arguments"):
        scaled.starmap([(1, 2, 3)])


def test_with_a_context_the_item_goes_to_the_parameter_after_it(config: dict[str, Any]) -> None:
    handle = submit(who.map("ab"), config)
    assert handle.results(timeout=120) == [(handle.run_id, 0, 1), (handle.run_id, 1, 1)]


def test_any_iterable_is_taken_once(config: dict[str, Any]) -> None:
    assert submit(double.map(x for x in range(3)), config).results(timeout=120) == [0, 2, 4]
    assert sorted(submit(double.map({3, 4}), config).results(timeout=120)) == [6, 8]


@pytest.mark.parametrize("backend", ["redis", "threading", "direct"])
def test_the_next_task_takes_the_list_by_the_name_of_the_group(backend: str, config: dict[str, Any]) -> None:
    report = task(id="report")(lambda shards: {"values": shards})
    with workflow("report") as wf:
        shards = noop.map("cab", name="shards").with_execution(backend, backend_config=config)
        listing >> shards >> report
        assert wf.execute() == {"values": ["c", "a", "b"]}


def test_failed_places_of_a_tolerant_group_are_none(config: dict[str, Any]) -> None:
    kept = task(id="kept")(lambda shards: shards)
    with workflow("w") as wf:
        fail_odd.map(range(3), name="shards").with_execution("redis", config, "best_effort") >> kept
        assert wf.execute() == [0, None, 2]


def test_an_empty_fan_out_completes_at_once_with_an_empty_list(config: dict[str, Any]) -> None:
    kept = task(id="kept")(lambda shards: shards)
    with workflow("w") as wf:
        noop.map([], name="shards").with_execution("redis", {**config, "queue": "nobody"}) >> kept
        assert wf.execute() == []
    assert submit(noop.map([]), {**config, "queue": "nobody"}).results(timeout=1) == []


def test_members_of_a_group_made_with_operators_keep_results_of_their_own(config: dict[str, Any]) -> None:
    with workflow("w") as wf:
        both = (double(task_id="a", x=1) | double(task_id="b", x=2)).with_execution("redis", config)
        both >> task(id="sum")(lambda a, b: a + b)
        _, context = wf.execute(ret_context=True)
    assert context.get_result("sum") == 6
    assert context.get_result(both.task_id) is None


def test_mapping_outside_a_workflow_makes_none() -> None:
    double.map([1, 2])
    noop.map([])
    assert current_scope() is None


def test_a_mapped_group_and_its_base_are_in_the_graph_only_when_used(config: dict[str, Any]) -> None:
    with workflow("w") as wf:
        square = task(id="square")(lambda x: x * x)
        assert "square" in wf.graph.nodes
        group = square.map([1, 2, 3], name="squares")
        assert list(wf.graph.nodes) == []
        for _ in range(2):
            assert submit(square.map([1, 2]), config).results(timeout=120) == [1, 4]
        assert list(wf.graph.nodes) == []
        group.with_execution("redis", config) >> task(id="sum")(lambda squares: sum(squares, 0))
        assert set(wf.graph.nodes) >= {"squares", "sum"}
        assert "square" not in wf.graph.nodes
        assert wf.execute() == 14


def test_a_base_that_is_a_step_of_its_own_stays_one(config: dict[str, Any]) -> None:
    with workflow("w") as wf:
        first = task(id="first")(lambda x=1: x + 1)
        shards = first.map([5, 6], name="shards").with_execution("redis", config)
        first = task(id="again")(lambda x=1: x + 1)
        first >> shards >> total
        first.map([1], name="unused")
        assert set(wf.graph.nodes) >= {"again", "shards", "total"}
        assert wf.execute() == 13
