"""Tasks, chains, groups and graphs as bytes, with plain pickle and with cloudpickle."""

from __future__ import annotations

import pickle
import subprocess
import sys
import types

import cloudpickle
import pytest

from graflow import RetryPolicy, chain, parallel, task, workflow
from graflow.core.context import ExecutionContext
from graflow.core.graph import TaskGraph
from graflow.core.serialization import dumps, loads
from graflow.core.task import Task, TaskWrapper
from graflow.core.workflow import get_current_workflow_context
from graflow.exceptions import DuplicateTaskError
from tests.unit.test_tasks import Doubling


@task
def doubled(x: int) -> int:
    """Twice."""
    return 2 * x


@task("renamed", inject_context=True, max_retries=2, max_cycles=4, retry_policy=RetryPolicy(3), timeout=5.0)
def with_options(ctx, x):
    return ctx, x


class Steps:
    @task
    def inside(x):  # noqa: N805 - a task in a class body is a plain function
        return x + 1


def plain(obj):
    return pickle.loads(pickle.dumps(obj))


def by_cloud(obj):
    return loads(dumps(obj))


either = pytest.mark.parametrize("copied", [plain, by_cloud, lambda obj: pickle.loads(cloudpickle.dumps(obj))])


@either
def test_a_decorated_function_of_a_module_survives(copied):
    twin = copied(doubled)
    assert twin is not doubled
    assert twin.func is doubled.func
    assert twin.func(5) == 10
    assert twin(task_id="x", x=4)() == 8
    assert (twin.task_id, twin.__name__, twin.__doc__) == ("doubled", "doubled", "Twice.")


@either
def test_options_and_bound_arguments_survive(copied):
    twin = copied(with_options(task_id="bound", x=[1]))
    assert twin._bound_kwargs == {"x": [1]}
    assert (twin.task_id, twin.inject_context, twin.max_cycles, twin.max_retries) == ("bound", True, 4, 3)
    assert twin.retry_policy == RetryPolicy(3)
    assert twin.timeout == 5.0
    assert twin.func("ctx", 1) == ("ctx", 1)


@either
def test_a_task_in_a_class_body_and_a_plain_task_survive(copied):
    assert copied(Steps.inside).func(1) == 2
    assert repr(copied(Task("a"))) == "Task(a)"
    assert copied(Doubling("d", 4)).run() == 8


def test_lambdas_and_closures_survive_cloudpickle():
    factor = 3
    made = task("times")(lambda x: x * factor)
    twin = by_cloud(made)
    assert twin.func(4) == 12
    assert twin.run(x=5) == 15
    with pytest.raises((pickle.PicklingError, AttributeError)):
        plain(made)


def test_unpickling_registers_nothing():
    with workflow("w") as wf:
        data = dumps([Task("a"), doubled(task_id="b", x=1), task("c")(lambda: 0)])
    with workflow("v") as other:
        loads(data)
        assert list(other.graph.nodes) == []
    with wf:
        loads(data)
    assert list(wf.graph.nodes) == ["a", "b", "c"]
    loads(data)
    assert get_current_workflow_context() is None


def test_a_loaded_task_enters_a_graph_by_its_first_operator():
    with workflow("w") as wf:
        by_cloud(Task("a", register_to_context=False)) >> by_cloud(doubled)
    assert list(wf.graph.nodes) == ["a", "doubled"]


@either
def test_the_execution_context_stays_behind(copied):
    made = doubled(task_id="x", x=1)
    made.set_execution_context(ExecutionContext(TaskGraph()))
    assert not hasattr(copied(made), "_execution_context") or copied(made)._execution_context is None


@either
def test_chains_and_groups_survive(copied):
    with workflow("w"):
        steps = Task("a") >> Task("b") >> Task("c")
        shorter = chain(Task("d"), Task("e"))
        shorter >> Task("f")
        group = parallel(Task("g"), Task("h")).set_group_name("both").with_execution("direct", policy="best_effort")
    assert repr(copied(steps)) == "SequentialTask([a >> b >> c])"
    assert repr(copied(shorter)) == "SequentialTask([d >> e])"
    twin = copied(group)
    assert (twin.task_id, repr(twin)) == ("both", "ParallelGroup(['g', 'h'])")
    assert twin._execution_config == group._execution_config
    twin.with_execution("threading", {"thread_count": 1})
    assert group._execution_config["backend_config"] == {}


@either
def test_a_graph_with_nested_groups_survives_and_runs(copied):
    with workflow("w") as wf:
        inner = parallel(doubled(task_id="x1", x=1), doubled(task_id="x2", x=2))
        outer = parallel(inner, doubled(task_id="x3", x=3)).with_execution("direct", {"host": "there", "password": "p"})
        inner >> doubled(task_id="x4", x=4)
        outer >> doubled(task_id="x5", x=5)
    twin = copied(wf.graph)
    assert twin.get_edges() == wf.graph.get_edges()
    assert twin.get_start_nodes() == wf.graph.get_start_nodes()
    twin.get_node(outer.task_id)._execution_config["backend_config"].clear()
    context = ExecutionContext.create(twin)
    context.execute()
    assert [context.get_result(f"x{n}") for n in range(1, 6)] == [2, 4, 6, 8, 10]
    twin.add_node(Task("new", register_to_context=False))
    assert not wf.graph.has_node("new")


def test_a_task_drags_nothing_of_its_decorator_along():
    assert b"graflow.core.decorators" not in dumps(task("local")(lambda: 0))
    assert len(pickle.dumps(doubled)) < 1000


def test_another_attribute_of_that_name_is_not_mistaken_for_the_function():
    module = types.ModuleType("tests_pickling_scratch")
    sys.modules[module.__name__] = module
    try:
        exec("def f():\n    return 'mine'", module.__dict__)
        mine = module.f
        module.f = Task("f")
        made = TaskWrapper("f", mine)
        assert "_func_reference" not in made.__getstate__()
    finally:
        del sys.modules[module.__name__]


def test_modules_registered_for_pickling_by_value_travel_as_code():
    module = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(module)
    try:
        data = dumps(doubled)
    finally:
        cloudpickle.unregister_pickle_by_value(module)
    twin = loads(data)
    assert twin.func is not doubled.func
    assert twin.func(3) == 6


def test_a_task_of_a_script_works_in_another_process(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, pickle, graflow\n"
        "from graflow.core.serialization import dumps\n"
        "@graflow.task\n"
        "def double(x):\n    return helper(x)\n"
        "def helper(x):\n    return 2 * x\n"
        "assert pickle.loads(pickle.dumps(double)).func is double.func\n"
        "open(sys.argv[1], 'wb').write(dumps([double, double(task_id='five', x=5)]))\n",
        encoding="utf-8",
    )
    target = tmp_path / "tasks"
    subprocess.run([sys.executable, str(script), str(target)], check=True, timeout=60)
    double, five = loads(target.read_bytes())
    assert double.run(x=4) == 8
    assert five() == 10


def test_an_instance_of_a_copy_is_no_other_task_than_that_of_the_original():
    """As when an envelope brings back, with its code, a task that this process has too."""
    made = task(id="made")(lambda number: number)
    graph = TaskGraph()
    made(task_id="x", number=[1]).register_in(graph)
    assert by_cloud(made).instance("x", {"number": [1]}).register_in(graph) is graph
    with pytest.raises(DuplicateTaskError):
        made.instance("x", {"number": [1]}).register_in(graph)
