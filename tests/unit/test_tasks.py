"""Tasks: what `@task` makes of a function, when it enters a graph, and what calling it means."""

from __future__ import annotations

import functools
import re

import pytest

from graflow import RetryPolicy, parallel, task, workflow
from graflow.core.context import ExecutionContext
from graflow.core.graph import TaskGraph
from graflow.core.task import Executable, ParallelGroup, Task, TaskWrapper
from graflow.core.workflow import get_current_workflow_context
from graflow.exceptions import ConfigError, DuplicateTaskError, GraflowRuntimeError


class Doubling(Executable):
    """What a user writes who wants a class."""

    def __init__(self, name: str, value: int) -> None:
        super().__init__()
        self.name = name
        self.value = value

    @property
    def task_id(self) -> str:
        return self.name

    def run(self, *args, **kwargs):
        return self.value * 2

    def __call__(self, *args, **kwargs):
        return self.run(*args, **kwargs)


# -- the decorator ----------------------------------------------------------------------------------------------------


def function(a, b=2):
    """Adds."""
    return a + b


@pytest.mark.parametrize(
    ("decorate", "task_id"),
    [
        (task, "function"),
        (task(), "function"),
        (task("x"), "x"),
        (task("x", max_cycles=3), "x"),
        (task(id="x"), "x"),
        (task(inject_context=True), "function"),
        (lambda func: task(id_or_func=func), "function"),
        (task("x", id="x"), "x"),
    ],
)
def test_every_form_of_the_decorator_gives_a_task(decorate, task_id):
    made = decorate(function)
    assert type(made) is TaskWrapper
    assert made.task_id == task_id
    assert made.func is function


def test_a_task_looks_like_its_function():
    made = task("other")(function)
    for name in ("__name__", "__module__", "__qualname__", "__doc__", "__annotations__"):
        assert getattr(made, name) == getattr(function, name)
    assert repr(made) == "TaskWrapper(other)"


def test_a_callable_without_a_name_gets_an_id_of_its_own():
    ids = {task(functools.partial(function, 1)).task_id for _ in range(20)}
    assert len(ids) == 20


def test_defaults_of_a_task():
    made = task(function)
    assert made.handler_type == "direct"
    assert made.inject_context is False
    assert made.resolve_keyword_args is True
    assert (made.max_cycles, made.max_retries, made.retry_policy) == (None, None, None)
    assert (made.timeout, made.cache, made.ttl, made.options) == (None, None, None, None)
    assert made._bound_kwargs == {}


def test_a_retry_policy_brings_its_number_of_retries():
    policy = RetryPolicy(max_retries=4)
    made = task(retry_policy=policy, max_retries=1, max_cycles=7, handler="mine")(function)
    assert made.retry_policy is policy
    assert (made.max_retries, made.max_cycles, made.handler_type) == (4, 7, "mine")
    assert task(max_retries=2)(function).max_retries == 2


def test_unknown_keywords_and_options_are_refused():
    with pytest.raises(TypeError):
        task(inject_llm_client=True)
    with pytest.raises(TypeError):
        TaskWrapper("x", function, prompt_manager=None)
    with pytest.raises(ConfigError, match=r"'prio'.*known are queue, priority"):
        task(options={"prio": 1})(function)
    with pytest.raises(TypeError, match="a function or an id"):
        task(5)
    with pytest.raises(ConfigError, match="options must be a mapping, not 5"):
        task(options=5)(function)
    with pytest.raises(ConfigError, match="retry_policy must be a RetryPolicy, not 3"):
        task(retry_policy=3)(function)


@pytest.mark.parametrize(
    "options",
    [
        {"queue": ""},
        {"queue": 3},
        {"priority": "high"},
        {"priority": -1},
        {"priority": 10},
        {"time_limit": 0},
        {"soft_time_limit": "1"},
        {"max_attempts": 0},
    ],
)
def test_options_are_checked_when_the_task_is_made(options):
    with pytest.raises(ConfigError, match=f"'function'.*{next(iter(options))}"):
        task(options=options)(function)


@pytest.mark.parametrize("value", [0, -1, "5", True])
def test_times_are_checked_when_the_task_is_made(value):
    with pytest.raises(ConfigError, match="'function': timeout must be seconds above 0"):
        task(timeout=value)(function)


def test_stand_ins_can_be_functions(mocker):
    assert task("stand_in")(mocker.Mock(return_value=5))() == 5
    assert TaskWrapper("other", mocker.MagicMock(return_value=6), register_to_context=False).run(x=1) == 6


def test_known_options_are_kept():
    options = {"queue": "big", "priority": 3, "time_limit": 2.5, "soft_time_limit": 1, "max_attempts": 1}
    assert task(options=options)(function).options == options


# -- registration -----------------------------------------------------------------------------------------------------


def test_tasks_enter_the_current_workflow_when_they_are_created():
    with workflow("w") as wf:
        a, b = Task("a"), task("b")(function)
        c = b(task_id="c", a=1)
        group = ParallelGroup([a, b])
    assert list(wf.graph.nodes) == ["a", "b", "c", "ParallelGroup_1"]
    assert not any(node._pending_registration for node in (a, b, c, group))


@pytest.mark.parametrize("again", [lambda _: Task("x"), lambda _: task("x")(function), lambda base: base(task_id="x")])
def test_an_id_is_taken_once(again):
    with workflow("w"):
        base = task("base")(function)
        Task("x")
        with pytest.raises(DuplicateTaskError) as raised:
            again(base)
    assert raised.value.task_id == "x"


def test_without_a_workflow_a_task_waits_for_its_first_operator():
    a, b, c = Task("a"), task("b")(function), task("c")(function)(task_id="c1", a=1)
    assert all(node._pending_registration is True for node in (a, b, c))
    assert get_current_workflow_context() is None
    a >> b
    assert a._pending_registration is False
    assert b._pending_registration is False
    assert c._pending_registration is True
    wf = get_current_workflow_context()
    assert re.fullmatch(r"[0-9a-f]+", wf.name)
    assert list(wf.graph.nodes) == ["a", "b"]


def test_a_group_counts_as_an_operator():
    a, b = Task("a"), Task("b")
    ParallelGroup([a, b])
    graph = get_current_workflow_context().graph
    assert list(graph.nodes) == ["a", "b", "ParallelGroup_1"]
    assert a._pending_registration is False


def test_the_second_of_two_pending_tasks_with_one_id_is_refused():
    first, second, other = Task("a"), Task("a"), Task("b")
    with workflow("w") as wf:
        first >> other
        with pytest.raises(DuplicateTaskError, match=r"^Duplicate task ID: a$"):
            second >> other
    assert wf.graph.get_node("a") is first
    assert list(wf.graph.nodes) == ["a", "b"]


def test_one_task_can_stand_in_several_workflows():
    a, b = Task("a"), Task("b")
    for _ in range(2):
        with workflow("w") as wf:
            a >> b
        assert list(wf.graph.nodes) == ["a", "b"]


# -- executables ------------------------------------------------------------------------------------------------------


def test_an_executable_needs_an_id_and_a_body():
    with pytest.raises(TypeError):
        Executable()


def test_a_class_of_the_users_own_is_a_full_citizen():
    with workflow("w") as wf:
        first, second, third = (Doubling(name, number) for number, name in enumerate("abc", 1))
        assert first._pending_registration is True
        first >> (second | third)
        _, context = wf.execute(ret_context=True)
    assert [context.get_result(name) for name in "abc"] == [2, 4, 6]
    assert first.handler_type == "direct"


def test_equality_is_identity():
    assert Task("a") != Task("a")
    assert len({Task("a"), Task("a")}) == 2


def test_without_a_context_there_is_none_to_get():
    made = Task("a")
    with pytest.raises(GraflowRuntimeError, match="'a'"):
        made.get_execution_context()
    context = ExecutionContext(TaskGraph())
    made.set_execution_context(context)
    assert made.get_execution_context() is context
    assert "_execution_context" not in made.__getstate__()
    assert context not in made.__getstate__().values()


def test_a_plain_task_does_nothing_and_shows_its_id():
    made = Task("a", register_to_context=False)
    assert made.run() is None
    assert made() is None
    assert str(made) == repr(made) == "Task(a)"
    assert (made.__name__, made.__qualname__) == ("a", "a")
    assert isinstance(made.__module__, str)


def test_a_task_that_is_not_to_register_stays_out_of_the_graph():
    with workflow("w") as wf:
        Task("a", register_to_context=False)
        TaskWrapper("b", function, register_to_context=False)
    assert list(wf.graph.nodes) == []


# -- two ways to call -------------------------------------------------------------------------------------------------


def test_without_a_context_a_call_without_arguments_executes():
    assert task(lambda: 5)() == 5
    assert task(function)(task_id="x", a=1)() == 3


def test_keywords_without_a_context_make_an_instance():
    options = {"handler": "h", "max_cycles": 2, "max_retries": 3, "resolve_keyword_args": False, "timeout": 1.0}
    base = task("base", **options)(function)
    made = base(task_id="x", a=1)
    assert type(made) is TaskWrapper
    assert (made.task_id, made._bound_kwargs, made.func) == ("x", {"a": 1}, function)
    assert base._bound_kwargs == {}
    for option in ("inject_context", "handler_type", *list(options)[1:], "retry_policy"):
        assert getattr(made, option) == getattr(base, option)
    assert base(task_id="y")._bound_kwargs == {}


def test_an_instance_without_an_id_is_named_after_the_function():
    made = task("base")(function)(a=1)
    assert re.fullmatch(r"function_[0-9a-f]{8}", made.task_id)


def test_positional_arguments_make_no_instance():
    with pytest.raises(TypeError, match="does not support positional arguments"):
        task(function)(1)


def test_with_a_context_a_call_executes_with_the_arguments_of_the_caller():
    made = task(function)
    made.set_execution_context(ExecutionContext(TaskGraph()))
    assert made(1) == 3
    assert made(1, b=5) == 6
    assert made(a=1, b=1) == 2


def test_positional_arguments_follow_the_injected_context():
    made = task(inject_context=True)(lambda ctx, x: (str(ctx), x))
    made.set_execution_context(ExecutionContext(TaskGraph()))
    assert made(7) == ("TaskExecutionContext(task_id=<lambda>, cycle_count=1)", 7)
    assert made.func("ctx", 5) == ("ctx", 5)


def test_run_always_executes_and_leaves_no_context_behind():
    made = task(lambda x, y: x + y)
    assert made.run(x=5, y=3) == 8
    assert made.run(5, y=3) == 8
    assert made(task_id="later", x=1, y=1)() == 2
    with pytest.raises(GraflowRuntimeError):
        made.get_execution_context()


def test_run_gives_a_context_to_who_asks_for_one():
    made = task(inject_context=True)(lambda ctx, x=1: (ctx.cycle_count, x))
    assert made.run() == (1, 1)
    assert made() == (1, 1)
    assert made.run(x=4) == (1, 4)


def test_a_failing_run_leaves_no_context_behind():
    made = task(lambda a=0: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        made.run()
    assert isinstance(made(task_id="x", a=1), TaskWrapper)


def test_a_parameter_may_be_called_self():
    made = task(lambda self: self)
    assert made(task_id="x", self=3)() == 3
    assert made.run(self=4) == 4


def test_the_state_of_a_task_holds_its_bound_arguments():
    assert task(function).__getstate__()["_bound_kwargs"] == {}
    assert task(function)(task_id="x", a=1).__getstate__()["_bound_kwargs"] == {"a": 1}


def test_tasks_that_did_not_run_still_make_instances_after_a_run():
    with workflow("w") as wf:
        jumping = task("jumping", inject_context=True)(lambda ctx: ctx.terminate_workflow("enough"))
        skipped = task("skipped")(function)
        jumping >> skipped
        wf.execute()
        assert isinstance(skipped(task_id="x", a=1), TaskWrapper)


def test_a_group_needs_tasks():
    with pytest.raises(TypeError):
        parallel(Task("a"), 5)
