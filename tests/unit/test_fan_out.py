"""`task.map(items)`: one member per item, and the list of their values as the group's result."""

from __future__ import annotations

import pytest

from graflow import task, workflow
from graflow.core.task import ParallelGroup, Task
from graflow.core.workflow import get_current_workflow_context
from graflow.exceptions import ParallelGroupError


def ids(group):
    return [member.task_id for member in group.tasks]


def run(group, **options):
    """The group's result after a run of it alone."""
    with workflow("w") as wf:
        Task("before") >> group
        _, context = wf.execute(ret_context=True, **options)
    return context.get_result(group.task_id)


@pytest.fixture
def doubled():
    def doubled(x, y=2):
        return x * y

    return task("base")(doubled)


def test_members_are_named_after_function_name_or_key(doubled):
    assert ids(doubled.map("ab")) == ["doubled[0]", "doubled[1]"]
    assert ids(doubled.map("ab", name="letters")) == ["letters[0]", "letters[1]"]
    assert ids(doubled.map("ab", name="letters", key=str.upper)) == ["letters[A]", "letters[B]"]
    group = doubled.map("ab", name="letters")
    assert isinstance(group, ParallelGroup)
    assert group.task_id == "letters"
    with pytest.raises(ValueError, match=r"'letters\[A\]'.*key="):
        doubled.map(["a", "A"], name="letters", key=str.upper)


def test_the_item_goes_to_the_first_free_parameter(doubled):
    assert run(doubled.map([1, 2, 3])) == [2, 4, 6]
    assert run(doubled(task_id="bound", x=10).map([1, 2])) == [10, 20]
    assert run(task("ctx", inject_context=True)(lambda ctx, x: (ctx.index, x)).map("ab", name="g")) == [
        (0, "a"),
        (1, "b"),
    ]
    assert run(task("kw")(lambda *rest, x: (rest, x)).map([1], name="g")) == [((), 1)]
    assert run(task("whole")(lambda x: x).map([{"x": 1}, (1, 2)], name="g")) == [{"x": 1}, (1, 2)]
    with pytest.raises(TypeError, match="no free parameter"):
        task("none")(lambda: 0).map([1])


def test_tuples_and_dictionaries_spread_over_parameters(doubled):
    assert run(doubled.starmap([(2,), (2, 3), {"x": 5, "y": 5}, {"x": 1}])) == [4, 6, 25, 2]
    with pytest.raises(TypeError, match="takes 2 free arguments"):
        doubled.starmap([(1, 2, 3)])
    with pytest.raises(TypeError, match=r"has no parameter 'z'.*its parameters are x, y"):
        doubled.starmap([{"x": 1}, {"x": 1, "z": 2}])
    assert run(task("any")(lambda **given: given).starmap([{"z": 2}])) == [{"z": 2}]
    bound = task("bound")(lambda x, y: (x, y))(task_id="b", y=1)
    assert run(bound.starmap([(5,), {"x": 5, "y": 6}])) == [(5, 1), (5, 6)]


@pytest.mark.parametrize("item", [5, "ab", b"ab", None], ids=repr)
def test_an_item_that_cannot_spread_is_refused(item, doubled):
    with pytest.raises(TypeError, match=r"starmap\(\) is a tuple or a mapping"):
        doubled.starmap([item])


def test_values_come_in_item_order_and_reach_the_next_task_by_name(doubled):
    with workflow("w") as wf:
        shards = doubled.map(range(20), name="shards").with_execution("threading", {"thread_count": 8})
        shards >> task("total")(lambda shards: sum(shards, 0))
        assert wf.execute() == 380


def test_failed_places_are_none_under_a_tolerant_policy_only():
    def picky(x):
        if x == 1:
            raise ValueError("not 1")
        return x

    group = task("picky")(picky).map(range(3), name="g")
    with pytest.raises(ParallelGroupError, match="not 1"):
        run(group)
    assert run(group.with_execution(policy="best_effort")) == [0, None, 2]


def test_no_items_give_an_empty_list(doubled):
    for backend in ("threading", "direct"):
        assert run(doubled.map([], name="none").with_execution(backend)) == []


def test_mapping_registers_nothing_and_takes_the_unconnected_template_out():
    with workflow("w") as wf:
        template, used = task("template")(lambda x: x), task("used")(lambda x=0: x)
        Task("a") >> used
        template.map([1])
        used.map([1])
        assert list(wf.graph.nodes) == ["used", "a"]
    task("outside")(lambda x: x).map([1])
    assert get_current_workflow_context() is None


def test_a_mapped_group_does_not_grow_and_can_be_a_member(doubled):
    with workflow("w") as wf:
        group = doubled.map([1, 2], name="shards")
        both = group | Task("other")
        assert ids(both) == ["shards", "other"]
        assert len(group.tasks) == 2
        _, context = wf.execute(ret_context=True)
    assert context.get_result("shards") == [2, 4]


def test_a_name_that_is_taken_is_refused_when_the_group_is_used(doubled):
    with workflow("w"):
        taken, other = Task("shards"), Task("other")
        with pytest.raises(ValueError, match=r"'shards'.*name="):
            other >> doubled.map([1], name="shards")
    assert taken.task_id == "shards"


def test_ten_thousand_members_share_one_function(doubled):
    group = doubled.map(range(10_000))
    assert {id(member.func) for member in group.tasks} == {id(doubled.func)}
