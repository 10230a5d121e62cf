"""What belongs to a run or a loop belongs by object; ids mean nothing by themselves."""

from __future__ import annotations

import gc
import weakref
from contextlib import suppress

import pytest

from graflow import chain, parallel, task, workflow
from graflow.core.context import ExecutionContext
from graflow.core.graph import TaskGraph
from graflow.core.nodes.iteration import IterationTask
from graflow.core.task import ParallelGroup, Task
from graflow.core.workflow import clear_workflow_context, current_workflow_context
from graflow.exceptions import DuplicateTaskError, GraphCompilationError, ParallelGroupError


def completed(wf, **options):
    return wf.execute(ret_context=True, **options)[1].completed_tasks


# -- runs inside runs --------------------------------------------------------------------------------------------------


def test_a_failed_attempt_takes_out_only_what_it_added_to_its_own_run():
    tries: list[int] = []
    with workflow("outer") as wf:

        @task(max_retries=1)
        def work():
            with workflow("inner") as inner:
                Task("report")
                inner.execute()
            tries.append(1)
            if len(tries) == 1:
                raise ConnectionError("first try")

        Task("begin") >> work >> Task("report")
        assert completed(wf) == ["begin", "work", "report"]


def test_a_failed_attempt_takes_out_its_own_object_only():
    graph = TaskGraph()
    graph.add_node(Task("a", register_to_context=False))
    context = ExecutionContext(graph)
    late = Task("late", register_to_context=False)
    outer = context.executing_task(graph.get_node("a"))
    with outer, suppress(KeyError), context.executing_task(Task("inner", register_to_context=False)) as frame:
        frame.next_task(Task("late", register_to_context=False))
        graph.remove_node("late")
        graph.add_node(late)
        raise KeyError
    assert graph.get_node("late") is late


def test_an_instance_that_a_failed_attempt_bound_is_taken_out_again():
    tries: list[int] = []
    with workflow("w") as wf:

        @task
        def double(x):
            return 2 * x

        @task(inject_context=True, max_retries=1)
        def work(context):
            context.next_task(double(task_id="double_4", x=4))
            tries.append(1)
            if len(tries) == 1:
                raise ConnectionError("first try")

        Task("begin") >> work
        _, context = wf.execute("begin", ret_context=True)
    assert context.completed_tasks == ["begin", "work", "double_4"]
    assert context.get_result("double_4") == 8


# -- ids that look like passes -----------------------------------------------------------------------------------------


def test_an_id_that_looks_like_a_pass_is_a_task_of_its_own():
    seen: list[tuple[str, int, int]] = []
    with workflow("w") as wf:

        @task(max_retries=0, max_cycles=1)
        def battery():
            return 1

        @task(id="battery_cycle_1_25", max_cycles=3, max_retries=1, inject_context=True)
        def measure(context, number=0):
            seen.append((context.base_id, context.cycle_count, number))
            if len(seen) == 1:
                raise ConnectionError("busy")
            if context.can_iterate():
                context.next_iteration(number + 1)

        battery >> measure
        _, context = wf.execute(ret_context=True)
    name = "battery_cycle_1_25"
    assert seen == [(name, 1, 0), (name, 1, 0), (name, 2, 1), (name, 3, 2)]
    assert context.cycle_controller.get_cycle_count("battery") == 1
    assert sum(isinstance(context.graph.get_node(node), IterationTask) for node in context.graph.nodes) == 1


def test_a_pass_may_be_asked_for_by_the_id_of_another_pass():
    graph = TaskGraph()
    graph.add_node(Task("base", register_to_context=False))
    context = ExecutionContext(graph)
    first = context.next_iteration(1, task_id="base")
    second = context.next_iteration(2, task_id=first)
    assert [graph.get_node(name).base_id for name in (first, second)] == ["base", "base"]
    assert context.create_task_context(second).base_id == "base"


# -- shape -------------------------------------------------------------------------------------------------------------


def pieces(*names):
    clear_workflow_context()
    return [Task(name) for name in names]


@pytest.fixture(autouse=True)
def outside():
    clear_workflow_context()
    yield
    clear_workflow_context()


@pytest.mark.parametrize("where", ["right", "left", "both", "member"])
def test_a_chain_made_elsewhere_brings_its_edges(where):
    a, b, c = pieces("a", "b", "c")
    cleaning = a >> b >> c
    with workflow("w") as wf:
        if where == "right":
            Task("start") >> cleaning
        elif where == "left":
            cleaning >> Task("end")
        elif where == "both":
            chain(Task("x"), Task("y")) >> cleaning
        else:
            cleaning | Task("other")
    assert {("a", "b"), ("b", "c")} <= set(wf.graph.get_edges())
    with workflow("again") as wf:
        Task("start") >> cleaning
        assert completed(wf) == ["start", "a", "b", "c"]


def test_a_group_made_elsewhere_brings_the_chains_behind_its_members():
    a, b, c, d, e = pieces("a", "b", "c", "d", "e")
    both = (a >> b) | (c >> d) | e
    with workflow("w") as wf:
        Task("start") >> both >> Task("end")
        done = completed(wf)
    assert sorted(done[1:-2]) == ["a", "b", "c", "d", "e"]
    assert done[-2:] == [both.task_id, "end"]


def test_a_chain_that_a_failed_attempt_queued_has_its_edges_in_the_next_one():
    a, b = pieces("a", "b")
    piece, tries = a >> b, []

    @task(inject_context=True, max_retries=1)
    def work(context):
        context.next_task(piece)
        tries.append(1)
        if len(tries) == 1:
            raise ConnectionError("first try")

    with workflow("w") as wf:
        Task("begin") >> work
        assert completed(wf) == ["begin", "work", "a", "b"]


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ({"policy": "best_effort"}, {}),
        ({"backend": "direct"}, {"backend": "threading"}),
        ({}, {"policy": "at_least_1"}),
    ],
)
def test_groups_with_other_settings_are_nested(left, right):
    right = {"policy": {"type": "at_least_n", "min_success": 1}} if "policy" in right else right
    with workflow("w") as wf:
        first = (Task("a") | Task("b")).with_execution(**left)
        second = (Task("c") | Task("d")).with_execution(**right)
        joined = first | second
    assert joined.tasks == [first, second]
    assert wf.graph.has_node(first.task_id)
    assert wf.graph.has_node(second.task_id)


def test_the_policy_of_a_group_holds_beside_a_tolerant_one():
    with workflow("w") as wf:
        optional = (Task("a") | Task("b")).with_execution(policy="best_effort")

        @task
        def must():
            raise ValueError("it must not fail")

        parallel(optional, must | Task("c")) >> Task("end")
        with pytest.raises(ParallelGroupError, match="must"):
            wf.execute()


def test_groups_with_equal_settings_are_one():
    with workflow("w"):
        first = (Task("a") | Task("b")).with_execution("direct", policy="best_effort")
        second = ParallelGroup([Task("c") >> Task("d"), Task("e")]).with_execution("direct", policy="best_effort")
        assert (first | second) is first
    assert [member.task_id for member in first.tasks] == ["a", "b", "c", "e"]


def test_a_graph_without_a_start_shows_a_cycle():
    with workflow("w") as wf:
        a, b, c = Task("a"), Task("b"), Task("c")
        a >> b >> a
        b >> c
        with pytest.raises(GraphCompilationError) as raised:
            wf.execute()
    assert str(raised.value) == (
        "Workflow 'w' has no start node, because each of its nodes is on a cycle or behind one: a >> b >> a. "
        "Name one with execute(start_node=...), or take an edge of the cycle out; nodes are ['a', 'b', 'c']"
    )


# -- one id, two tasks -------------------------------------------------------------------------------------------------


def loader(answer, name="load"):
    return task(id=name)(lambda: answer)


def test_two_functions_under_one_id_are_refused_with_both_places():
    orders, stock = loader("orders"), loader("stock")
    line = loader.__code__.co_firstlineno + 1
    with workflow("w") as wf:
        Task("start") >> orders
        for use in (lambda: wf.graph.get_node("start") >> stock, lambda: stock | Task("other")):
            with pytest.raises(DuplicateTaskError) as raised:
                use()
            assert str(raised.value) == (
                f"Duplicate task ID: load, for two tasks ({__file__}:{line} and {__file__}:{line}); "
                "give one of them another id, as in @task(id=...)"
            )
        orders >> Task("again")
        assert wf.graph.get_node("load") is orders


def test_a_group_under_a_taken_id_is_refused():
    both = ParallelGroup([Task("a"), Task("b")], name="both")
    with workflow("w"):
        ParallelGroup([Task("c"), Task("d")], name="both")
        with pytest.raises(DuplicateTaskError, match="both"):
            Task("start") >> both


def test_what_is_defined_anew_outside_any_workflow_starts_anew():
    for _ in range(2):
        load, save = loader(1), Task("save")
        load >> save
    load >> Task("more")
    wf = current_workflow_context()
    assert wf.graph.get_node("load") is load
    assert wf.graph.get_edges() == [("load", "save"), ("load", "more")]
    with pytest.raises(DuplicateTaskError):
        loader(2)


@pytest.mark.parametrize("backend", ["direct", "threading"])
def test_each_member_has_its_own_task_under_an_id(backend):
    with workflow("w") as wf:

        @task(inject_context=True)
        def visit(context, page):
            extra = task(id="extra")(lambda: page * 10)
            after = task(id=f"after{page}")(lambda extra: extra + page)
            context.next_task(extra >> after)

        visit.map([1, 2, 3], name="visits").with_execution(backend) >> Task("end")
        _, context = wf.execute(ret_context=True)
    assert [context.get_result(f"after{page}") for page in (1, 2, 3)] == [11, 22, 33]
    assert context.graph.has_node("extra")
    assert {f"after{page}" for page in (1, 2, 3)} <= set(context.graph.nodes)
    assert context.completed_tasks[-1] == "end"


def test_each_pass_has_its_own_task_under_an_id():
    ran: list[int] = []
    with workflow("w") as wf:

        @task(inject_context=True)
        def step(context, number=0):
            context.next_task(task(id="extra")(lambda: ran.append(number)))
            if number < 2:
                context.next_iteration(number + 1)

        step >> Task("end")
        assert completed(wf)[-1] == "end"
    assert ran == [0, 1, 2]


def noting(ran):
    def note(x):
        ran.append(x)

    return note


def by_map(made, number):
    return made.map([number, -number], name="pair")


def by_name(made, number):
    return ParallelGroup([made(task_id="a", x=number), made(task_id="b", x=-number)], name="pair")


def by_renaming(made, number):
    return (made(task_id="a", x=number) | made(task_id="b", x=-number)).set_group_name("pair")


@pytest.mark.parametrize("make", [by_map, by_name, by_renaming])
def test_each_pass_has_its_own_group_under_a_name(make):
    ran: list[int] = []
    with workflow("w") as wf:
        note = task(id="note")(noting(ran))

        @task(inject_context=True)
        def step(context, number=1):
            context.next_task(make(note, number))
            if number < 3:
                context.next_iteration(number + 1)

        wf.execute("step")
    assert sorted(ran) == [-3, -2, -1, 1, 2, 3]


@pytest.mark.parametrize("backend", ["direct", "threading"])
def test_each_member_has_its_own_group_under_a_name(backend):
    ran: list[int] = []
    with workflow("w") as wf:
        note = task(id="note")(noting(ran))

        @task(inject_context=True)
        def member(context, number):
            context.next_task(note.map([number, -number], name="pair"))

        Task("start") >> member.map([1, 2, 3], name="members").with_execution(backend)
        wf.execute("start")
    assert sorted(ran) == [-3, -2, -1, 1, 2, 3]


@pytest.mark.parametrize("make", [by_map, by_name, by_renaming])
def test_two_groups_of_one_name_in_one_execution_are_refused(make):
    with workflow("w") as wf:
        note = task(id="note")(lambda x: x)

        @task(inject_context=True)
        def step(context):
            context.next_task(make(note, 1))
            context.next_task(note.map([5], name="pair"))

        with pytest.raises(ValueError, match="'pair' here: the id is already taken; give it another name="):
            wf.execute("step")


def test_two_tasks_of_one_id_in_one_execution_are_refused():
    with workflow("w") as wf:

        @task(inject_context=True)
        def step(context):
            context.next_task(loader(1, "extra"))
            with pytest.raises(DuplicateTaskError):
                loader(2, "extra")
            with pytest.raises(DuplicateTaskError):
                loader(3, "end")

        step >> Task("end")
        assert completed(wf)[-1] == "end"


@pytest.mark.parametrize("join", [lambda pair: pair[0] | pair[1], ParallelGroup, lambda pair: parallel(*pair)])
def test_two_tasks_of_one_id_are_no_members_of_one_group(join):
    class Service:
        @task
        def load(self):
            return self

    pieces()
    for tasks in ([loader(1), loader(2)], [Service().load, Service().load]):
        with workflow("w"), pytest.raises(DuplicateTaskError, match="load"):
            join(tasks)


def test_the_graph_of_a_run_can_be_collected():
    with workflow("w") as wf:
        Task("a") >> loader(1)
        context = wf.execute(ret_context=True)[1]
    graph = weakref.ref(context.graph)
    del context
    gc.collect()
    assert graph() is None


def test_a_group_with_a_made_up_name_takes_another_one_where_that_is_taken():
    before, left, right = (task(id=name)(lambda name=name: name) for name in ("before", "left", "right"))
    prepared = before >> (left | right)
    with workflow("joined") as wf:
        start, a, b = (task(id=name)(lambda name=name: name) for name in ("start", "a", "b"))
        start >> (a | b) >> prepared
    assert wf.execute() == ["left", "right"]
    assert {"ParallelGroup_1", "ParallelGroup_2"} <= set(wf.graph.nodes)
    assert prepared.rightmost.task_id == "ParallelGroup_2"


def test_tasks_that_members_make_under_one_id_are_no_repeats_of_one_another():
    with workflow("each") as wf:

        @task(inject_context=True)
        def member(context, number):
            extra = task(id="extra")(lambda: number)
            context.next_task(extra)

        member.map(range(5), name="members").with_execution("direct")
    _, context = wf.execute(ret_context=True)
    assert context.ledger.repeats == 0
