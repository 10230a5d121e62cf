"""What is said of mistakes that people make first, word by word: what is wrong, then what to do."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from graflow import TaskExecutionContext, chain, parallel, task, workflow
from graflow.channels.factory import ChannelFactory
from graflow.core.task import ParallelGroup
from graflow.exceptions import GraflowError
from graflow_celery import LocalCluster, TaskWorker, attach, submit

HERE = __file__
FILLED = (
    "A parameter is filled by a bound argument, by the result of the task of its name, or by the channel key of its "
    "name; "
)


def plain(x: int = 0) -> int:
    return x


@task
def one(x: int) -> int:
    return x


@task
def two(x: int) -> int:
    return x


def run(make: Callable[[], Any], **options: Any) -> Any:
    """Run a workflow of what is made in its block."""
    with workflow("w") as wf:
        make()
        return wf.execute(**options)


def duplicate() -> None:
    task(id="load")(lambda: 1)
    task(id="load")(lambda: 2)


def cycle() -> None:
    a, b = (task(id=name)(lambda: 1) for name in "ab")
    a >> b
    b >> a


def nothing_fills() -> None:
    task(id="s")(plain_y)


def plain_y(y: int) -> int:
    return y


def takes_context(ctx: Any) -> None:
    """Is not told to get it."""


def takes_annotated(run: TaskExecutionContext) -> None:
    """Is not told to get it."""


def without_parameter() -> None:
    """Has no place for the context."""


class Shop:
    @task
    def open(self) -> str:
        return "open"


def by_class() -> None:
    task(id="s")(Shop.open.func)


def goes_to(target: Any) -> Callable[[], Any]:
    return lambda: task(id="s", inject_context=True)(lambda ctx: ctx.next_task(target))


def of_unknown_handler() -> None:
    task(id="s", handler="docker")(plain)


LISTED = "tasks that run side by side are a group: a | b, or parallel(*tasks)"


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        # operators and what is like them
        (lambda: one >> plain, ">> takes tasks, and 'plain' is none yet; write @task above it, or task(plain)"),
        (lambda: plain >> one, ">> takes tasks, and 'plain' is none yet; write @task above it, or task(plain)"),
        (lambda: one | plain, "| takes tasks, and 'plain' is none yet; write @task above it, or task(plain)"),
        (lambda: one >> [one, two], f">> takes tasks, not a list of them; {LISTED}"),
        (lambda: (one, two) >> one, f">> takes tasks, not a tuple of them; {LISTED}"),
        (lambda: one >> "two", ">> takes tasks, not 'two'; give the task itself, not its id"),
        (lambda: one >> None, ">> takes tasks, not None"),
        (lambda: chain([one, two]), "chain() takes tasks, not a list of them; write chain(*tasks)"),
        (chain, "chain() requires at least one task; write chain(*tasks) when they are in a list"),
        (lambda: parallel([one, two]), f"parallel() takes tasks, not a list of them; {LISTED}"),
        (
            lambda: parallel(one),
            "parallel() requires at least two tasks; one needs no group, and task.map(items) makes one of items",
        ),
        (
            lambda: ParallelGroup([plain]),  # type: ignore[list-item]
            "A group takes tasks, and 'plain' is none yet; write @task above it, or task(plain)",
        ),
        (
            lambda: one.map(3),  # type: ignore[arg-type]
            "one.map() takes the items, one for each member, not 3; give a list or a range",
        ),
        (
            lambda: one.starmap(None),  # type: ignore[arg-type]
            "one.starmap() takes the items, one for each member, not None; give a list or a range",
        ),
        # options
        (lambda: task(3), "@task takes a function or an id, not 3"),  # type: ignore[call-overload]
        (
            lambda: task(max_retries="3")(plain),  # type: ignore[call-overload]
            "Task 'plain': max_retries must be a whole number of at least 0, not '3'",
        ),
        (
            lambda: task(inject_context=True)(without_parameter),
            (
                "Task 'without_parameter': inject_context=True gives the context as the first argument, and the "
                "function takes none; write def without_parameter(context)"
            ),
        ),
        (
            lambda: (one | two).with_execution("thread"),
            "Unknown coordination backend 'thread'; known are redis, threading, direct; did you mean 'threading'?",
        ),
        (
            lambda: (one | two).with_execution("celery"),
            "Unknown coordination backend 'celery'; known are redis, threading, direct; did you mean 'redis'?",
        ),
        (
            lambda: (one | two).with_execution({"url": "x"}),  # type: ignore[arg-type]
            (
                "Unknown coordination backend {'url': 'x'}; known are redis, threading, direct; "
                "settings are its backend_config="
            ),
        ),
        (
            lambda: (one | two).with_execution(policy="bestefort"),
            (
                "Unknown group policy 'bestefort'; known: at_least_n, best_effort, critical, strict; "
                "did you mean 'best_effort'?"
            ),
        ),
        (
            lambda: ChannelFactory.create_channel("reddis", "c"),
            "Unknown channel backend 'reddis'; known are: memory, redis",
        ),
        # workflows
        (
            lambda: workflow(one),  # type: ignore[arg-type]
            'The name of a workflow must be text, not TaskWrapper(one); write `with workflow("name"):`',
        ),
        (
            lambda: run(lambda: None),
            "Workflow 'w' has no tasks: make them inside its block; a group of map() joins it with >> or |",
        ),
        (
            lambda: run(cycle),
            (
                "Workflow 'w' has no start node, because each of its nodes is on a cycle or behind one: a >> b >> a. "
                "Name one with execute(start_node=...), or take an edge of the cycle out; nodes are ['a', 'b']"
            ),
        ),
        (
            lambda: run(lambda: one(task_id="s", x=1), start_node="t"),
            "Start node 't' not found in graph. Available nodes: ['s']",
        ),
        (
            lambda: run(lambda: one(task_id="s", x=1), start_node=one),
            "start_node takes the id of a task, not TaskWrapper(one); give 'one'",
        ),
        (
            lambda: run(lambda: one(task_id="s", x=1), start_node=10),
            "start_node takes the id of a task, not 10; a limit of steps is given by name, as max_steps=",
        ),
        (
            lambda: run(of_unknown_handler),
            "Unknown handler type: docker; known are direct; add it with wf.register_handler()",
        ),
        (
            lambda: run(duplicate),
            (
                f"Duplicate task ID: load, for two tasks ({HERE}:{inspect.getsourcelines(duplicate)[1] + 1} and "
                f"{HERE}:{inspect.getsourcelines(duplicate)[1] + 2}); give one of them another id, as in @task(id=...)"
            ),
        ),
        # while a task runs
        (
            lambda: run(nothing_fills),
            (
                "Task 's' failed: TypeError: plain_y() missing 1 required positional argument: 'y'. "
                f"{FILLED}there is no result or key yet"
            ),
        ),
        (
            lambda: run(lambda: task(id="s")(takes_context)),
            (
                "Task 's' failed: TypeError: takes_context() missing 1 required positional argument: 'ctx'. "
                "Where 'ctx' is meant to be the task context, @task(inject_context=True) passes it"
            ),
        ),
        (
            lambda: run(lambda: task(id="s")(takes_annotated)),
            (
                "Task 's' failed: TypeError: takes_annotated() missing 1 required positional argument: 'run'. "
                "The parameter 'run' is annotated as the task context, which @task(inject_context=True) passes"
            ),
        ),
        (
            lambda: run(by_class),
            (
                "Task 's' failed: TypeError: Shop.open() missing 1 required positional argument: 'self'. "
                "A method becomes a task of its object: use it as <object>.<method>"
            ),
        ),
        (
            lambda: run(goes_to("other")),
            (
                "Task 's' failed: ValueError: next_task('other'): no task has this id; there are s. "
                "A task that is new is given as such, not by its id"
            ),
        ),
        (
            lambda: run(goes_to(plain)),
            (
                "Task 's' failed: TypeError: next_task() takes tasks, and 'plain' is none yet; "
                "write @task above it, or task(plain)"
            ),
        ),
        (
            lambda: one(3),
            (
                "Task 'one' does not support positional arguments when it is called outside a run; bind by keyword to "
                "make a task instance, or call .run(...) or .func(...)"
            ),
        ),
        (lambda: one(y=3), "Task 'one' has no parameter 'y', which is bound; its parameters are x"),
        # workers
        (
            lambda: submit(plain),  # type: ignore[arg-type]
            "submit() takes a ParallelGroup or a sequence of tasks, not the function plain; write @task above it",
        ),
        (
            lambda: submit([plain]),  # type: ignore[list-item]
            "submit() takes tasks, not the function plain; write @task above it",
        ),
        (lambda: attach(None), "attach() takes the run_id of a handle, as text, not None"),  # type: ignore[arg-type]
        (
            lambda: submit(one.map([1]), {"key_prefix": 5}),
            "backend_config['key_prefix']: Input should be a valid string, not 5",
        ),
        (
            lambda: submit(one.map([1]), {"leese": 5}),
            "Unknown key 'leese' in backend_config; did you mean 'lease'?",
        ),
        (
            lambda: LocalCluster(workers="2"),  # type: ignore[arg-type]
            "workers must be a whole number, at least 0, not '2'",
        ),
        (
            lambda: LocalCluster(imports="etl"),  # type: ignore[arg-type]
            "imports= takes a sequence of modules or {resolver id: [modules]}, not 'etl'",
        ),
        (
            lambda: TaskWorker("redis://elsewhere"),  # type: ignore[arg-type]
            "TaskWorker takes settings or a RedisTaskQueue, not a str",
        ),
    ],
)
def test_a_mistake_is_told_with_its_remedy(mistake: Callable[[], Any], words: str) -> None:
    with pytest.raises((GraflowError, TypeError, ValueError)) as caught:
        mistake()
    assert str(caught.value) == words


def test_what_was_a_mistake_elsewhere_works_here() -> None:
    assert run(lambda: task(id="s")(Shop().open)) == "open"
    assert run(lambda: task(id="s")(lambda x, /: x)(task_id="t", x=1)) == 1
