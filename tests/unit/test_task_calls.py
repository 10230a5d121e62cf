"""Tasks called as functions, methods as tasks, callables of every kind, and what is said when an argument lacks."""

from __future__ import annotations

import doctest
import functools
import inspect
import math
import operator
import pickle
import pydoc
import sys
import types
import typing
from abc import ABC, abstractmethod
from copy import copy as copied
from decimal import Decimal
from unittest.mock import Mock

import numpy as np
import pytest

from graflow import TaskExecutionContext, task, workflow
from graflow.core.context import ExecutionContext
from graflow.core.graph import TaskGraph
from graflow.core.handler import TaskHandler
from graflow.core.serialization import dumps, loads
from graflow.core.task import Task, TaskWrapper, chain, parallel
from graflow.exceptions import GraflowRuntimeError


class Service:
    def __init__(self, factor):
        self.factor = factor

    @task
    def scale(self, number: int = 2):
        return self.factor * number

    @task(inject_context=True)
    def named(context, self):  # noqa: N805 - as it is not meant to be written
        return context


# -- inside another task ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("has_run", [False, True])
def test_a_task_called_inside_a_task_executes_and_adds_nothing(has_run):
    tax = task("tax")(lambda price=0.0: price * 0.2)
    half = TaskWrapper("half", lambda price, by: price / by, register_to_context=False).instance("h", {"by": 2})
    if has_run:
        tax.run()
        half.run(price=1)
    with workflow("w") as wf:

        @task
        def bill():
            return tax(price=100.0), tax(50), tax(), half(price=9)

        bill >> Task("end")
        _, context = wf.execute(ret_context=True)
    assert context.get_result("bill") == (20.0, 10.0, 0.0, 4.5)
    assert list(context.graph.nodes) == ["bill", "end"]


def test_an_instance_with_an_id_is_made_inside_a_task_too():
    double = task("double")(lambda x: x * 2)
    with workflow("w") as wf:

        @task(inject_context=True)
        def grow(context):
            context.next_task(double(task_id="grown", x=4))

        assert wf.execute() == 8


def test_a_task_is_free_again_after_a_run():
    scale = task("scale")(lambda number=1: number)
    with workflow("one") as one:
        scale >> Task("end")
        one.execute()
    assert isinstance(scale(number=2), TaskWrapper)
    assert scale.run(number=3) == scale.run(number=3)
    with pytest.raises(GraflowRuntimeError):
        scale.get_execution_context()
    with workflow("two") as two:
        scale(task_id="second", number=5) >> scale(task_id="third", number=7)
        assert two.execute() == 7


def test_a_context_that_was_set_by_hand_stays_after_a_run():
    made, context = task("made")(lambda x=1: x), ExecutionContext(TaskGraph())
    made.set_execution_context(context)
    with ExecutionContext(TaskGraph()).executing_task(made):
        assert made.get_execution_context() is not context
    assert made.get_execution_context() is context
    assert made(x=3) == 3


def test_a_handler_may_run_the_task_in_a_thread_of_its_own():
    import threading

    class Elsewhere(TaskHandler):
        def execute_task(self, task, context):
            thread = threading.Thread(target=lambda: context.set_result(task.task_id, task.run()))
            thread.start()
            thread.join()
            return context.get_result(task.task_id)

    with workflow("w") as wf:
        wf.register_handler("elsewhere", Elsewhere())
        task("found")(lambda: 5) >> task("seen", handler="elsewhere")(lambda found: found + 1)
        assert wf.execute() == 6


# -- methods, builtins, partials --------------------------------------------------------------------------------------


def test_a_method_is_a_task_of_each_object():
    three, four = Service(3), Service(4)
    with workflow("w") as wf:
        task("start")(lambda: None) >> three.scale >> four.scale(task_id="more", number=10)
        result, context = wf.execute(ret_context=True)
    assert (context.get_result("scale"), result) == (6, 40)
    assert three.scale is three.scale
    assert three.scale is not four.scale
    assert isinstance(Service.scale, TaskWrapper)


class Slotted:
    __slots__ = ("factor",)

    def __init__(self, factor):
        self.factor = factor

    @task
    def scale(self, number: int = 2):
        return self.factor * number


class Doubled(Service):
    @task
    def scale(self, number: int = 2):
        return 2 * super().scale(number)


def test_a_copied_object_has_tasks_of_its_own():
    three = Service(3)
    three.scale.max_retries = 1
    four = copied(three)
    four.factor = 4
    assert (four.scale.run(), three.scale.run()) == (8, 6)
    assert three.scale.max_retries == 1


def test_an_object_without_a_namespace_has_tasks():
    three = Slotted(3)
    with workflow("w") as wf:
        task("start")(lambda: 5) >> three.scale(task_id="more", number=10) >> three.scale
        three.scale >> task("end")(lambda scale: scale + 1)
        assert wf.execute() == 7


def test_a_method_that_calls_the_one_it_replaces_stays_the_same_task():
    service = Doubled(3)
    with workflow("w") as wf:
        task("start")(lambda: 0) >> service.scale
        assert [wf.execute(), wf.execute(), service.scale.run()] == [12, 12, 12]


def test_a_task_is_replaced_for_one_object(monkeypatch):
    three = Service(3)
    monkeypatch.setattr(three.scale, "func", lambda: "replaced")
    assert (three.scale.run(), Service(3).scale.run()) == ("replaced", 6)


@pytest.mark.parametrize("copy", [lambda value: loads(dumps(value)), lambda value: pickle.loads(pickle.dumps(value))])
def test_the_task_of_an_object_is_pickled_with_the_object(copy):
    assert copy(Service(5).scale).run() == 10


def test_a_class_with_task_methods_adds_no_node():
    with workflow("w") as wf:

        class Inner:
            @task
            def step(self):
                return 1

        assert list(wf.graph.nodes) == []
        task("start")(lambda: 0) >> Inner().step
        assert wf.execute() == 1


def test_a_task_may_be_an_abstract_method():
    class Loader(ABC):
        @task
        @abstractmethod
        def load(self): ...

    class Ones(Loader):
        @task
        def load(self):
            return [1]

    with pytest.raises(TypeError, match="abstract"):
        Loader()
    assert Ones().load.run() == [1]


def test_a_task_that_is_only_an_attribute_of_a_class_is_no_method():
    made = task("made")(lambda x: x)
    holder = type("Holder", (), {"made": made})()
    assert holder.made is made


def test_a_class_method_is_a_task_once_it_has_its_class():
    class Loader:
        start = 3

        @classmethod
        def load(cls, more=1):
            return cls.start + more

    assert task(Loader.load).run(2) == 5
    for decorate in (task, task("load"), lambda method: TaskWrapper("load", method)):
        with pytest.raises(TypeError, match=r"class method .*task\(Loader.load\)"):
            decorate(vars(Loader)["load"])


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="classmethod asks nobody there")
def test_a_task_below_classmethod_is_refused_before_it_goes_without_its_class():
    class Loader:
        @classmethod
        @task
        def load(cls, more=1):
            return cls, more

    with pytest.raises(TypeError, match="class method"):
        _ = Loader.load


def test_positional_only_parameters_are_filled_like_others():
    def work(a, b=7, /, c=0):
        return a, b, c

    with workflow("w") as wf:
        task("a")(lambda: 1) >> task("work")(work)
        assert wf.execute(initial_channel={"c": 3}) == (1, 7, 3)
    assert task(work)(task_id="x", a=4, b=5)() == (4, 5, 0)
    assert task(work).run(1, c=2) == (1, 7, 2)
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'a'"):
        task(work).run(b=1)


@pytest.mark.parametrize(
    ("func", "items", "values"),
    [
        (str.upper, ["a", "b"], ["A", "B"]),
        (math.sqrt, [1, 4], [1.0, 2.0]),
        (int, ["1", "2"], [1, 2]),
        (functools.partial(pow, 2), [3, 4], [8, 16]),
        (functools.partial(lambda amount, rate: amount * rate, rate=2), [3, 4], [6, 8]),
        (functools.partial(lambda *parts: parts, "a"), [3, 4], [("a", 3), ("a", 4)]),
        (lambda *parts, joined=None: (parts, joined), [3, 4], [((3,), None), ((4,), None)]),
        (lambda *parts, joined: (parts, joined), [3, 4], [((), 3), ((), 4)]),
        (functools.lru_cache(lambda number: number * 2), [3, 4], [6, 8]),
        (operator.itemgetter("size"), [{"size": 3}, {"size": 4}], [3, 4]),
        (staticmethod(lambda number: number * 2), [3, 4], [6, 8]),
        (np.negative, [3, 4], [-3, -4]),
        (Mock(side_effect=abs), [-3, 4], [3, 4]),
    ],
)
def test_map_over_any_callable(func, items, values):
    with workflow("w") as wf:
        task("start")(lambda: None) >> task("f")(func).map(items, name="all")
        _, context = wf.execute(ret_context=True)
    assert context.get_result("all") == values


def by_position(func):
    """A decorator that forgets that arguments have names."""

    @functools.wraps(func)
    def wrapper(*args):
        return func(*args)

    return wrapper


def with_a_first_argument(func):
    """A decorator that gives an argument itself, and shows it all the same."""

    @functools.wraps(func)
    def wrapper(path):
        return func("db", path)

    return wrapper


def in_another_order(func):
    @functools.wraps(func)
    def wrapper(unit, value=0):
        return func(value, unit)

    return wrapper


def with_the_first_by_name(func):
    @functools.wraps(func)
    def wrapper(value, *rest):
        return func(value, *rest)

    return wrapper


@functools.singledispatch
def described(value, unit="m"):
    return f"{value!r} {unit}"


described.register(int, lambda value, unit="m": f"{value} whole {unit}")


class Scale:
    @functools.singledispatchmethod
    def of(self, value):
        return value

    half = functools.partialmethod(of, 0.5)


@pytest.mark.parametrize(
    ("func", "value"),
    [
        (described, "7 whole m"),
        (functools.partial(described, unit="cm"), "7 whole cm"),
        (by_position(lambda value, unit="m": (value, unit)), (7, "m")),
    ],
    ids=["singledispatch", "partial", "by position"],
)
def test_a_function_that_knows_its_arguments_by_position_gets_them_so(func, value):
    with workflow("w") as wf:
        task("value")(lambda: 7) >> task("used")(func)
        assert wf.execute() == value
    assert task(func).map([7], name="all").run() == [value]


def test_a_wrapper_is_given_arguments_by_the_names_that_it_has_itself():
    load = task("load")(with_a_first_argument(lambda db, path: (db, path)))
    with workflow("w") as wf:
        task("path")(lambda: "p") >> load
        assert wf.execute() == ("db", "p")
    with workflow("w") as wf:
        task("measured")(in_another_order(lambda value, unit: (value, unit)))(task_id="one", value=1, unit="m")
        assert wf.execute() == (1, "m")
    with workflow("w") as wf:
        task("measured")(with_the_first_by_name(lambda value, unit: (value, unit)))(task_id="one", value=1, unit="m")
        assert wf.execute() == (1, "m")


@pytest.mark.parametrize("decorate", [task, task("x"), lambda func: TaskWrapper("x", func)])
@pytest.mark.parametrize("name", ["of", "half"])
def test_what_only_a_class_makes_methods_of_is_no_function(decorate, name):
    with pytest.raises(TypeError, match=r"not <?functools\..*; make the task of what an object has of it, as in load"):
        decorate(vars(Scale)[name])


def test_what_cannot_be_called_is_no_function():
    with pytest.raises(TypeError, match=r"^@task takes a function or an id, not 5; write @task above a def, or give"):
        task(5)
    with pytest.raises(TypeError, match=r"^Task 'x' needs a function, not 5; write @task above a def, or give"):
        task("x")(5)


def test_tools_that_look_into_functions_find_that_of_a_task():
    def scale(number: Decimal) -> Decimal:
        """Twice as much.

        >>> 1 + 1
        2
        """
        return number * 2

    made = task(scale)
    assert inspect.getsource(made) == inspect.getsource(scale)
    assert inspect.getdoc(made) == inspect.getdoc(scale)
    assert inspect.unwrap(made) is scale
    assert typing.get_type_hints(made) == {"number": Decimal, "return": Decimal}
    assert "scale(number: 'Decimal') -> 'Decimal'\n    Twice as much." in pydoc.render_doc(
        made, renderer=pydoc.plaintext
    )
    module = types.ModuleType(__name__)
    module.made = made
    (found,) = [test for test in doctest.DocTestFinder().find(module, module=False) if test.examples]
    assert found.name == f"{__name__}.made"


def test_what_a_partial_has_given_is_not_overruled_by_the_channel():
    with workflow("w") as wf:
        task("rate")(lambda: 99) >> task("price")(functools.partial(lambda amount, rate: amount * rate, rate=2))
        assert wf.execute(initial_channel={"amount": 10}) == 20


def test_a_function_that_a_test_puts_in_place_is_called_with_what_it_takes(monkeypatch):
    with workflow("w") as wf:
        task("url")(lambda: "there") >> (fetch := task("fetch")(lambda url: url))
        assert wf.execute() == "there"
        with monkeypatch.context() as patched:
            patched.setattr(fetch, "func", lambda: "fake")
            assert wf.execute() == "fake"
        assert wf.execute() == "there"


def test_the_signature_of_a_task_is_that_of_its_function():
    def work(a: int, /, b: str = "x", *, c) -> float: ...

    assert inspect.signature(task(work)) == inspect.signature(work)
    assert list(inspect.signature(TaskWrapper).parameters)[:2] == ["task_id", "func"]


# -- what is said -----------------------------------------------------------------------------------------------------

FILLED = (
    "A parameter is filled by a bound argument, by the result of the task of its name, or by the channel key of its "
    "name"
)


def said_by(made, **channel):
    context = ExecutionContext(TaskGraph())
    for key, value in channel.items():
        context.channel.set(key, value)
    with pytest.raises(TypeError) as missing, context.executing_task(made):
        made.run()
    return str(missing.value)


def needs(load):
    return load


def needs_context(context: TaskExecutionContext):
    return context


@pytest.mark.parametrize(
    ("func", "channel", "text"),
    [
        (needs, {}, f"needs() missing 1 required positional argument: 'load'. {FILLED}; there is no result or key yet"),
        (
            needs,
            {"lod.__result__": 1, "limit": 2},
            f"needs() missing 1 required positional argument: 'load'. {FILLED}; there are lod, limit",
        ),
        (
            needs,
            {"load.__result__": OSError("gone")},
            (
                "needs() missing 1 required positional argument: 'load'. The task 'load' has no value for it: it "
                "failed, and its group went on (OSError: gone). Give 'load' a default, such as None"
            ),
        ),
        (
            needs_context,
            {},
            (
                "needs_context() missing 1 required positional argument: 'context'. The parameter 'context' is "
                "annotated as the task context, which @task(inject_context=True) passes"
            ),
        ),
        (
            Service.scale.func,
            {},
            (
                "Service.scale() missing 1 required positional argument: 'self'. A method becomes a task of its "
                "object: use it as <object>.<method>"
            ),
        ),
    ],
)
def test_a_missing_argument_says_how_it_would_be_filled(func, channel, text):
    assert said_by(task("made")(func), **channel) == text


def test_a_type_error_of_the_function_itself_is_left_alone():
    def broken():
        raise TypeError("its own")

    assert said_by(task(broken)) == "its own"


def test_a_join_after_a_tolerated_failure_says_so():
    with workflow("w") as wf:
        task("bad")(lambda: 1 / 0) | task("good")(lambda: 1)
        group = wf.graph.task_at("ParallelGroup_1").with_execution(policy="best_effort")
        group >> task("join")(lambda good, bad: (good, bad))
        with pytest.raises(TypeError, match="The task 'bad' has no value for it: it failed, and its group went on"):
            wf.execute()


LIST = "takes tasks, not a list of them; tasks that run side by side are a group: a | b, or parallel(*tasks)"
PLAIN = "takes tasks, and 'needs' is none yet; write @task above it, or task(needs)"


@pytest.mark.parametrize(
    ("use", "text"),
    [
        (lambda a: a >> [a, a], f">> {LIST}"),
        (lambda a: [a, a] >> a, f">> {LIST}"),
        (lambda a: a << [a], f"<< {LIST}"),
        (lambda a: [a] << a, f"<< {LIST}"),
        (lambda a: a | [a], f"| {LIST}"),
        (lambda a: (a >> a) >> [a], f">> {LIST}"),
        (lambda a: a >> needs, f">> {PLAIN}"),
        (lambda a: needs >> a, f">> {PLAIN}"),
        (lambda a: needs | a, f"| {PLAIN}"),
        (lambda a: a >> "b", ">> takes tasks, not 'b'; give the task itself, not its id"),
        (lambda a: a >> 5, ">> takes tasks, not 5"),
        (lambda a: chain([a, a]), "chain() takes tasks, not a list of them; write chain(*tasks)"),
        (lambda a: chain(a, needs), f"chain() {PLAIN}"),
        (lambda a: parallel([a, a]), f"parallel() {LIST}"),
        (lambda a: parallel(a, needs), f"parallel() {PLAIN}"),
    ],
)
def test_operators_say_what_to_write_instead_of_what_is_no_task(use, text):
    with workflow("w"):
        made = Task("a")
        with pytest.raises(TypeError) as refused:
            use(made)
    assert str(refused.value) == text


# -- jumps by name ----------------------------------------------------------------------------------------------------


def test_next_task_takes_the_id_of_a_task():
    with workflow("w") as wf:

        @task(inject_context=True)
        def check(context):
            assert context.next_task("cleanup") == "cleanup"

        cleanup = task("cleanup")(lambda: "clean")
        check >> Task("skipped") >> cleanup
        value, context = wf.execute(ret_context=True)
    assert (value, context.completed_tasks) == ("clean", ["check", "cleanup"])


@pytest.mark.parametrize(
    ("target", "error", "text"),
    [
        (
            "cleanp",
            ValueError,
            (
                "next_task('cleanp'): no task has this id; there are check. A task that is new is given as such, not "
                "by its id"
            ),
        ),
        (needs, TypeError, f"next_task() {PLAIN}"),
        (7, TypeError, "next_task() takes tasks, not 7"),
    ],
)
def test_next_task_says_what_it_takes(target, error, text):
    with workflow("w") as wf:
        task("check", inject_context=True)(lambda context: context.next_task(target))
        with pytest.raises(error) as refused:
            wf.execute()
    assert text in str(refused.value)
