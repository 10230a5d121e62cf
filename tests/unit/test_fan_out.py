"""`task.map(items)`: one member per item, and the list of their values as the group's result."""

from __future__ import annotations

import pickle
import tracemalloc
from copy import deepcopy

import pytest

from graflow import task, workflow
from graflow.core.branches.data_nodes import DATA_NODES
from graflow.core.handlers.group_policy import AtLeastNGroupPolicy
from graflow.core.task import ParallelGroup, Task
from graflow.core.workflow import get_current_workflow_context
from graflow.exceptions import ConfigError, ParallelGroupError


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


@pytest.mark.parametrize(
    "make", [lambda: iter([1]), lambda: (x for x in "ab"), lambda: map(str, [1]), lambda: zip([1])]
)
def test_an_item_that_can_be_read_only_once_is_refused(make, doubled):
    with pytest.raises(ConfigError, match=r"item of base\.map\(\) is a .* only once: .* Give list"):
        doubled.map([[1], make()])
    for item in ((1, make()), {"y": make(), "x": 1}, {"x": make()}):
        with pytest.raises(ConfigError, match=r"value in an item of base\.starmap\(\) is a .* only once"):
            doubled.starmap([(1, 2), item])
    assert run(doubled.map(x for x in [1, 2])) == [2, 4], "the items themselves are taken once, at the call"


@pytest.mark.parametrize("item", [5, "ab", b"ab", None], ids=repr)
def test_an_item_that_cannot_spread_is_refused(item, doubled):
    with pytest.raises(TypeError, match=r"starmap\(\) is a tuple or a mapping"):
        doubled.starmap([item])


def test_values_come_in_item_order_and_reach_the_next_task_by_name(doubled):
    with workflow("w") as wf:
        shards = doubled.map(range(20), name="shards").with_execution("threading", {"thread_count": 8})
        shards >> task("total")(lambda shards: sum(shards, 0))
        assert wf.execute() == 380


@pytest.mark.parametrize("backend", ["threading", "direct"])
def test_without_a_name_the_values_go_by_the_id_of_the_task_too(backend):
    def length(word):
        return len(word)

    with workflow("w") as wf:
        sizes, capitals = task("sizes")(length).map(["a", "bc"]), task("capitals")(str.upper).map([])
        (
            sizes.with_execution(backend)
            >> capitals
            >> task("seen")(lambda sizes, length, capitals: (sizes, length, capitals))
        )
        assert wf.execute() == ([1, 2], [1, 2], [])
    with workflow("named") as wf:
        task("sizes")(length).map(["a"], name="chosen") >> task("seen")(lambda chosen, sizes=None: (chosen, sizes))
        assert wf.execute() == ([1], None)


def test_the_values_do_not_stand_for_a_step_of_the_same_id():
    def count(word="abc"):
        return len(word)

    with workflow("w") as wf:
        step = task("counted")(count)
        step >> step.map(["a"]) >> task("seen")(lambda counted, count: (counted, count))
        assert wf.execute() == (3, [1])


def test_a_mapped_group_inside_a_member_keeps_the_id_of_its_task():
    group = task("sizes")(length_of).map(["a"])
    payload = DATA_NODES["group"].take(group, lambda member: {"id": member.task_id})
    made = DATA_NODES["group"].make(payload, lambda _: Task("length_of[0]", register_to_context=False))
    assert (made.task_id, made.template_id) == ("length_of", "sizes")


def length_of(word):
    return len(word)


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


def test_a_policy_that_wants_successes_refuses_a_group_of_no_items(doubled):
    with pytest.raises(ValueError, match="min_success=1 is larger than the group of 0 tasks"):
        run(doubled.map([], name="none").with_execution(policy=AtLeastNGroupPolicy(1)))


@pytest.mark.parametrize("name", ["", 0, 3.5, b"x"])
def test_names_that_are_no_text_are_refused_wherever_they_are_given(doubled, name):
    with workflow("w") as wf:
        group = ParallelGroup([Task("a"), Task("b")])
        for give in (
            lambda: doubled.map([1], name=name),
            lambda: doubled(task_id=name, x=1),
            lambda: Task(name),
            lambda: ParallelGroup([wf.graph.get_node("a")], name=name),
            lambda: group.set_group_name(name),
        ):
            with pytest.raises(ConfigError, match="must be text that is not empty, not "):
                give()


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


@pytest.fixture
def column_of():
    """How many bytes a member a fan-out takes, with the fan-out."""

    def measured(fan_out):
        tracemalloc.start()
        try:
            group = fan_out()
            return group, tracemalloc.get_traced_memory()[1] / len(group.members)
        finally:
            tracemalloc.stop()

    return measured


def test_a_fan_out_of_many_items_makes_no_task_before_one_is_asked_for(doubled, column_of):
    many, pairs = range(100_000), [{"x": number} for number in range(100_000)]
    for fan_out in (
        lambda: doubled.map(many),
        lambda: doubled.map([*many]),
        lambda: doubled.map(many, key=str),
        lambda: doubled.starmap(pairs),
    ):
        group, each = column_of(fan_out)
        assert each < 150
        assert len(group.members) == len(group.member_ids) == 100_000
        assert len(repr(group)) < 100
        assert group.member_ids[-1] == "doubled[99999]"
        assert group.members.is_untouched
        assert group.members._made is None


def test_items_are_taken_as_they_are_when_the_fan_out_is_made(doubled):
    numbers = [1, 2]
    group = doubled.map(numbers)
    numbers.append(3)
    assert run(group) == [2, 4]
    assert doubled.map(range(3)).members.items == range(3)
    group = doubled.map((number for number in (1, 2)), key=lambda number: number)
    assert (run(group), ids(group)) == ([2, 4], ["doubled[1]", "doubled[2]"])
    again = {"x": 0}

    def growing():
        for number in range(3):
            again["x"] = number
            yield again

    assert run(doubled.starmap(growing())) == [0, 2, 4]


def test_a_member_is_the_same_task_at_each_look_and_a_changed_one_is_told(doubled):
    for change in (
        lambda members: setattr(members[1], "func", len),
        lambda members: members[1].bound_arguments.update(y=5),
        lambda members: setattr(members[1], "_task_id", "another"),
        lambda members: members.pop(),
        lambda members: members.append(Task("added")),
    ):
        group = doubled.map([10, 20, 30], name="shards")
        assert group.tasks[1] is group.members[1] is group.tasks[1]
        assert group.members == group.tasks
        assert group.members.is_untouched
        change(group.tasks)
        assert not group.members.is_untouched
        assert list(group.member_ids) == ids(group)
        assert len(group.members) == len(group.tasks)


def test_ids_of_members_are_found_without_making_them(doubled):
    regular = doubled.map(range(1000)).member_ids
    keyed = doubled.map("abc", name="letters", key=str.upper).member_ids
    assert (regular.index("doubled[999]"), keyed.index("letters[C]")) == (999, 2)
    assert (regular[-1], regular[2:4]) == ("doubled[999]", ["doubled[2]", "doubled[3]"])
    assert list(keyed) == ["letters[A]", "letters[B]", "letters[C]"]
    wrong = ["doubled[1000]", "doubled[-1]", "doubled[01]", "doubled[1]x", "doubled[]", "doubled[²]", "x[1]", "", None]
    assert not any(task_id in regular for task_id in wrong)
    assert "letters[D]" not in keyed
    with pytest.raises(ValueError, match=r"x\[1\]"):
        regular.index("x[1]")


def test_a_fan_out_that_was_pickled_is_the_same_with_and_without_its_tasks():
    group = twice(task_id="by three", factor=3).map(range(4), name="shards")
    untouched = pickle.loads(pickle.dumps(group))
    assert untouched.members._made is None
    assert group.tasks
    for copy in (untouched, pickle.loads(pickle.dumps(group)), deepcopy(group)):
        assert ids(copy) == ids(group)
        assert run(copy) == [0, 3, 6, 9]


def test_members_keep_the_function_that_they_were_made_with(doubled):
    group = doubled.map([1, 2])
    doubled.func = len
    assert run(group) == [2, 4]


@task
def twice(x, factor=2):
    return x * factor
