"""How a task finds its arguments: channel < bound < injected context < caller."""

from __future__ import annotations

import functools
import logging

import pytest

from graflow import task, workflow
from graflow.core.context import ExecutionContext
from graflow.core.graph import TaskGraph
from graflow.core.nodes.arguments import fillable_parameters, free_parameters
from graflow.core.task import Task


def positional_only(a, /, b, c=1):
    return a, b, c


def variadic(a, *rest, k=0, **options):
    return a, rest, k, options


@functools.wraps(positional_only)
def wrapped(*args, **kwargs):
    return positional_only(*args, **kwargs)


class Adder:
    def __call__(self, x, y=2):
        return x + y

    def method(self, z):
        return z


@pytest.mark.parametrize(
    ("func", "positional", "names"),
    [
        (positional_only, 0, ("a", "b", "c")),
        (positional_only, 1, ("b", "c")),
        (positional_only, 2, ("c",)),
        (wrapped, 1, ("b", "c")),
        (wrapped, 2, ("c",)),
        (variadic, 0, ("a", "k")),
        (variadic, 3, ("k",)),
        (Adder(), 0, ("x", "y")),
        (Adder(), 1, ("y",)),
        (Adder().method, 0, ("z",)),
        (functools.partial(variadic, 1), 0, ("k",)),
        (functools.partial(variadic, k=1), 0, ("a",)),
        (dict, 0, ()),
        (lambda: 0, 0, ()),
    ],
)
def test_parameters_that_are_filled_by_name(func, positional, names):
    assert fillable_parameters(func, positional) == names


def test_items_of_a_fan_out_go_to_free_parameters():
    assert free_parameters(lambda ctx, a, b: 0, inject_context=True, bound={"a": 1}) == ["b"]
    assert free_parameters(positional_only, inject_context=False, bound={}) == ["a", "b", "c"]


# -- by the engine ----------------------------------------------------------------------------------------------------


def run_with(made, **channel):
    """The value of the task in a run whose channel holds these keys."""
    context = ExecutionContext(TaskGraph())
    for key, value in channel.items():
        context.channel.set(key, value)
    with context.executing_task(made):
        return made.run()


@pytest.fixture
def adding():
    return task(lambda x, y=10: (x, y))


def test_a_key_of_the_channel_fills_a_parameter(adding):
    assert run_with(adding, x=1) == (1, 10)


@pytest.mark.parametrize("value", [None, 0, "", False, []])
def test_a_key_beats_a_default_whatever_its_value(adding, value):
    assert run_with(adding, x=1, y=value) == (1, value)


def test_the_key_that_beats_a_default_is_in_the_debug_log(adding, caplog):
    with caplog.at_level(logging.DEBUG, logger="graflow"):
        run_with(adding, x=1, y=2)
    assert "'y'" in caplog.text


def test_the_result_of_a_task_beats_a_plain_key(adding):
    assert run_with(adding, **{"x": 1, "x.__result__": 2, "y.__result__": None}) == (2, None)


def test_nothing_is_converted(adding):
    assert run_with(adding, x="5", y=b"6") == ("5", b"6")


def test_the_stored_exception_of_a_failed_task_is_no_argument(adding):
    assert run_with(adding, **{"x.__result__": ValueError("failed"), "x": 4}) == (4, 10)
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'x'"):
        run_with(adding, **{"x.__result__": ValueError("failed")})


def test_an_exception_that_a_task_returned_is_its_result():
    with workflow("w") as wf:
        found = task("found")(lambda: ValueError("a value"))
        found >> task("shown")(lambda found: f"{found}")
        assert wf.execute() == "a value"


def test_bound_beats_the_channel_and_the_caller_beats_both(adding):
    bound = adding(task_id="bound", x=3)
    assert run_with(bound, x=1, y=2) == (3, 2)
    context = ExecutionContext(TaskGraph())
    context.channel.set("y", 2)
    with context.executing_task(bound):
        assert bound.run(x=7) == (7, 2)
        assert bound.run(7, y=8) == (7, 8)


def test_bound_arguments_reach_a_function_that_takes_any_keywords():
    assert task(lambda **options: options)(task_id="x", a=1, b=2)() == {"a": 1, "b": 2}


def test_what_is_passed_by_position_is_not_filled_again():
    made = task(variadic)
    context = ExecutionContext(TaskGraph())
    for key in ("a", "k", "rest", "options"):
        context.channel.set(key, f"channel {key}")
    with context.executing_task(made):
        assert made.run(1) == (1, (), "channel k", {})
        assert made.run(1, 2, 3) == (1, (2, 3), "channel k", {})
        assert made.run() == ("channel a", (), "channel k", {})


def test_the_injected_context_is_never_looked_up():
    made = task(inject_context=True)(lambda ctx, a: (str(ctx)[:4], a))
    assert run_with(made, ctx="wrong", a=1) == ("Task", 1)
    strict = task(inject_context=True)(positional_only)
    assert run_with(strict, a="wrong", b=2)[1:] == (2, 1)


def test_resolution_can_be_switched_off():
    made = task(resolve_keyword_args=False)(lambda x=1, y=2: (x, y))
    bound = made(task_id="bound", x=3)
    assert run_with(made, x=5, **{"y.__result__": 6}) == (1, 2)
    assert run_with(bound, x=5) == (3, 2)


def test_what_is_missing_is_pythons_own_error():
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'x'"):
        task(lambda x: x).run()
    with pytest.raises(TypeError, match="unexpected keyword argument 'z'"):
        task(lambda x: x).run(x=1, z=2)


def test_data_of_an_iteration_wins_over_a_key_and_a_bound_value_of_that_name():
    seen = []

    @task(inject_context=True, max_cycles=3)
    def looping(ctx, data=None, other=0):
        seen.append((data, other))
        if len(seen) < 3:
            ctx.next_iteration({"pass": len(seen)})

    with workflow("w") as wf:
        looping(task_id="bound", other=9) >> Task("after")
        wf.execute("bound", initial_channel={"data": "key", "other": "key"})
    assert seen == [("key", 9), ({"pass": 1}, 9), ({"pass": 2}, 9)]
    seen.clear()
    with workflow("w") as wf:
        looping(task_id="bound", data="bound")
        wf.execute("bound")
    assert [data for data, _ in seen] == ["bound", {"pass": 1}, {"pass": 2}]
