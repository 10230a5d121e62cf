"""`>>`, `<<` and `|`: the edges they record and the chains and groups they give."""

from __future__ import annotations

import pytest

from graflow import chain, parallel, task, workflow
from graflow.core.context import ExecutionContext
from graflow.core.task import GroupExecutor, ParallelGroup, SequentialTask, Task
from graflow.core.workflow import get_current_workflow_context


@pytest.fixture
def wf():
    with workflow("operators") as wf:
        yield wf


def tasks(names):
    return [Task(name) for name in names]


def ids(steps):
    return [step.task_id for step in steps]


# -- chains -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "edges", "value"),
    [
        (lambda a, b, c, d: a >> b, "ab", "ab"),
        (lambda a, b, c, d: b << a, "ab", "ab"),
        (lambda a, b, c, d: (a >> b) >> c, "ab bc", "abc"),
        (lambda a, b, c, d: a >> (b >> c), "bc ab", "abc"),
        (lambda a, b, c, d: (a >> b) >> (c >> d), "ab cd bc", "abcd"),
        (lambda a, b, c, d: (c >> d) << (a >> b), "cd ab bc", "abcd"),
        (lambda a, b, c, d: (b >> c) << a, "bc ab", "abc"),
        (lambda a, b, c, d: a >> a, "aa", "aa"),
        (lambda a, b, c, d: a >> b >> a, "ab ba", "aba"),
        (lambda a, b, c, d: chain(a, b, c), "ab bc", "abc"),
        (lambda a, b, c, d: chain(chain(a, b), chain(c, d)), "ab cd bc", "abcd"),
        (lambda a, b, c, d: chain(a), "", "a"),
    ],
)
def test_chains_record_their_edges_and_keep_their_tasks(wf, build, edges, value):
    made = build(*tasks("abcd"))
    assert isinstance(made, SequentialTask)
    assert sorted(wf.graph.get_edges()) == sorted(tuple(edge) for edge in edges.split())
    assert ids(made.tasks) == list(value)
    assert made.task_id == made.leftmost.task_id == value[0]
    assert made.rightmost.task_id == value[-1]
    assert len(made) == len(value)
    assert ids(iter(made)) == list(value)
    assert (made[0].task_id, made[-1].task_id) == (value[0], value[-1])
    assert repr(made) == f"SequentialTask([{' >> '.join(value)}])"


def test_a_chain_is_no_node_and_a_list_of_its_own(wf):
    a, b, c = tasks("abc")
    short = a >> b
    longer, other = short >> c, short >> a
    assert (repr(short), repr(longer), repr(other)) == (
        "SequentialTask([a >> b])",
        "SequentialTask([a >> b >> c])",
        "SequentialTask([a >> b >> a])",
    )
    short.tasks.append(c)
    assert len(short) == 2
    assert list(wf.graph.nodes) == ["a", "b", "c"]


def test_chains_need_tasks():
    with pytest.raises(ValueError, match="requires at least one task"):
        SequentialTask([])
    with pytest.raises(ValueError, match="at least one"):
        chain()
    steps = Task("a") >> Task("b")
    assert chain(steps) is steps


def test_running_a_chain_runs_its_leftmost_task_only(wf):
    ran = []
    first, second = (task(name)(lambda name=name: ran.append(name) or name) for name in "ab")
    steps = first >> second
    assert steps.run() == "a"
    assert steps() == "a"
    assert ran == ["a", "a"]
    context = ExecutionContext(wf.graph)
    steps.set_execution_context(context)
    assert steps.run() == "a"
    assert all(step.get_execution_context() is context for step in steps)


@pytest.mark.parametrize("other", [5, "b", None, ["b"], lambda: 0])
def test_other_operands_are_type_errors(wf, other):
    a, b = tasks("ab")
    for left in (a, a >> b, a | b):
        for operation in (
            lambda: left >> other,
            lambda: left << other,
            lambda: left | other,
            lambda: other | left,
            lambda: other >> left,
        ):
            with pytest.raises(TypeError):
                operation()


def test_edges_of_a_group_are_edges_of_its_node_only(wf):
    x, a, b, y, z = tasks("xabyz")
    group = a | b
    made = x >> group >> y
    assert ids(made) == ["x", "ParallelGroup_1", "y"]
    group << z
    assert wf.graph.get_edges() == [("x", "ParallelGroup_1"), ("z", "ParallelGroup_1"), ("ParallelGroup_1", "y")]


# -- groups -----------------------------------------------------------------------------------------------------------


def test_a_group_is_a_node_that_counts_from_one_in_each_workflow():
    for _ in range(2):
        with workflow("w") as wf:
            a, b, c, d, e, f = tasks("abcdef")
            first = a | b
            named = ParallelGroup([c, d], name="named")
            third = e | f
            assert [group.task_id for group in (first, named, third)] == ["ParallelGroup_1", "named", "ParallelGroup_3"]
            assert repr(first) == "ParallelGroup(['a', 'b'])"
            assert first.tasks == [a, b]
            assert wf.graph.get_node("ParallelGroup_1") is first


def test_a_name_that_is_taken_is_skipped_when_groups_are_counted(wf):
    Task("ParallelGroup_1")
    group = Task("a") | Task("b")
    assert wf.graph.get_node(group.task_id) is group


def test_a_group_can_be_renamed_and_keeps_its_edges(wf):
    x, a, b, y = tasks("xaby")
    group = a | b
    x >> group >> y
    assert group.set_group_name("both") is group
    assert group.task_id == "both"
    assert wf.graph.get_edges() == [("x", "both"), ("both", "y")]
    assert list(wf.graph.nodes) == ["x", "a", "b", "y", "both"]
    for taken in ("x", "a"):
        with pytest.raises(ValueError, match=taken):
            group.set_group_name(taken)
    assert group.set_group_name("both").task_id == "both"
    with pytest.raises(ValueError, match="'y'"):
        ParallelGroup([a, b], name="y")
    wf.execute()


def test_members_are_unique_and_keep_their_first_place(wf):
    a, b, c = tasks("abc")
    assert ids(ParallelGroup([a, b, a, c, b]).tasks) == ["a", "b", "c"]
    group = a | b
    assert (group | a) is group
    assert ids(group.tasks) == ["a", "b"]
    assert ids((a | a).tasks) == ["a"]
    assert (group | group) is group
    assert (group | (group >> c)) is group
    assert group not in group.tasks


def test_a_renamed_member_is_still_the_same_member(wf):
    a, b, c, d = tasks("abcd")
    inner = a | b
    outer = ParallelGroup([inner, c])
    inner.set_group_name("inner")
    outer |= inner >> d
    assert ids(outer.tasks) == ["inner", "c"]
    assert wf.graph.get_start_nodes() == [outer.task_id]


def test_a_task_joins_a_group_on_its_side(wf):
    a, b, c, d = tasks("abcd")
    group = b | c
    assert (a | group) is group
    assert (group | d) is group
    assert ids(group.tasks) == ["a", "b", "c", "d"]
    assert wf.graph.get_edges() == []


def test_chains_contribute_their_leftmost_tasks(wf):
    a, b, c, d, e, f = tasks("abcdef")
    left, right = a >> b, c >> d
    group = left | right
    assert type(group) is ParallelGroup
    assert ids(group.tasks) == ["a", "c"]
    assert (group | (e >> f)) is group
    assert ids(group.tasks) == ["a", "c", "e"]
    assert wf.graph.get_edges() == [("a", "b"), ("c", "d"), ("e", "f")]
    g, h, i = tasks("ghi")
    assert ids((g | (h >> i)).tasks) == ["g", "h"]


def test_a_chain_joins_the_group_on_its_right_in_front(wf):
    a, b, c, d, e, f = tasks("abcdef")
    group = c | d
    assert ((a >> b) | group) is group
    assert ids(group.tasks) == ["a", "c", "d"]
    leading = ParallelGroup([e]) >> f
    assert (leading | group) is group
    assert ids(group.tasks) == [leading.task_id, "a", "c", "d"]
    group >> Task("after")
    assert (b | group) is group


def test_a_group_without_successors_is_absorbed(wf):
    x, y, a, b, c, d = tasks("xyabcd")
    left, right = a | b, c | d
    x >> left
    y >> right
    assert (left | right) is left
    assert ids(left.tasks) == ["a", "b", "c", "d"]
    assert right.task_id not in wf.graph.nodes
    assert wf.graph.get_edges() == [("x", left.task_id), ("y", left.task_id)]
    _, context = wf.execute("x", ret_context=True)
    assert context.completed_tasks == ["x", "a", "b", "c", "d", left.task_id]


@pytest.mark.parametrize("side", [0, 1])
def test_a_group_with_successors_becomes_a_member(wf, side):
    a, b, c, d = tasks("abcd")
    groups = [a | b, c | d]
    groups[side] >> Task("after")
    made = groups[0] | groups[1]
    assert made not in groups
    assert made.tasks == groups
    assert all(group.task_id in wf.graph.nodes for group in groups)
    assert made._has_successors() is False
    assert groups[side]._has_successors() is True


def test_edges_to_members_are_no_successors(wf):
    a, b = tasks("ab")
    group = a | b
    wf.add_edge(group.task_id, "a")
    assert group._has_successors() is False


def test_a_group_cannot_be_a_member_of_itself_in_any_depth(wf):
    a, b, c = tasks("abc")
    inner = a | b
    outer = ParallelGroup([inner, c])
    with pytest.raises(ValueError, match=r"'ParallelGroup_1' is inside 'ParallelGroup_2'"):
        inner | (outer >> Task("after"))


def test_parallel_folds_the_operator(wf):
    a, b, c, d = tasks("abcd")
    assert ids(parallel(a, b, c, d).tasks) == ["a", "b", "c", "d"]
    for few in ((), (a,)):
        with pytest.raises(ValueError, match="two"):
            parallel(*few)


def test_overlapping_groups_share_no_member_twice(wf):
    a, b, c = tasks("abc")
    assert ids(((a | b) | (b | c)).tasks) == ["a", "b", "c"]


# -- what a group hands on --------------------------------------------------------------------------------------------


def test_settings_of_a_group_change_only_where_given(wf):
    group = Task("a") | Task("b")
    assert group._execution_config == {"backend": None, "backend_config": {}, "policy": "strict"}
    assert group.with_execution("redis", {"host": "h", "key_prefix": "p"}, policy="best_effort") is group
    group.with_execution(backend_config={"host": "other", "thread_count": 2})
    group.with_execution()
    assert group._execution_config == {
        "backend": "redis",
        "backend_config": {"host": "other", "key_prefix": "p", "thread_count": 2},
        "policy": "best_effort",
    }


def test_running_a_group_asks_the_executor_with_its_settings(wf, mocker):
    asked = mocker.patch("graflow.core.task.GroupExecutor.execute_parallel_group")
    group = (Task("a") | Task("b")).with_execution("direct", {"timeout": 3}, {"type": "at_least_n", "min_success": 1})
    context = ExecutionContext(wf.graph)
    group.set_execution_context(context)
    assert group.run() is None
    asked.assert_called_once_with(
        group.task_id,
        group.tasks,
        context,
        backend="direct",
        backend_config={"timeout": 3},
        policy={"type": "at_least_n", "min_success": 1},
    )
    assert GroupExecutor.execute_parallel_group is asked


def test_a_groups_own_result_is_none_and_the_value_of_its_workflow_what_its_members_returned(wf):
    a, b = task("a")(lambda: 1), task("b")(lambda: 2)
    a | b
    value, context = wf.execute(ret_context=True)
    assert value == [1, 2]
    assert [context.get_result(name, "absent") for name in ("a", "b", "ParallelGroup_1")] == [1, 2, None]


def test_a_pending_task_is_registered_with_its_group():
    a, b, c = tasks("abc")
    group = ParallelGroup([a, b])
    group | c
    graph = get_current_workflow_context().graph
    assert list(graph.nodes) == ["a", "b", "ParallelGroup_1", "c"]
    assert not any(member._pending_registration for member in group.tasks)


@pytest.mark.parametrize("backend", ["threading", "direct"])
def test_a_task_in_front_of_a_group_becomes_a_member_and_runs_once(backend):
    runs = []
    with workflow("w") as wf:
        a, b, c = (task(name)(lambda name=name: runs.append(name)) for name in "abc")
        (a | (b | c)).with_execution(backend)
        assert wf.graph.get_edges() == []
        wf.execute()
    assert sorted(runs) == ["a", "b", "c"]


@pytest.mark.parametrize("backend", ["threading", "direct"])
def test_overlapping_groups_run_a_common_member_once(backend):
    runs = []
    with workflow("w") as wf:
        a, b, c = (task(name)(lambda name=name: runs.append(name)) for name in "abc")
        ((a | b) | (b | c)).with_execution(backend)
        wf.execute()
    assert sorted(runs) == ["a", "b", "c"]
