"""What mypy says of tasks: each line with `# error:` must fail with that, each `# reveals:` shows that.

Pyright says the same, but for the block of bound arguments: it has no plugins.
"""

from __future__ import annotations

from typing import reveal_type

from graflow import TaskExecutionContext, task, workflow
from graflow.core.task import TaskWrapper
from graflow_celery import attach, submit


@task
def load(path: str) -> list[int]:
    return [len(path)]


@task(max_retries=2)
async def fetch(url: str, times: int = 1) -> bytes:
    return url.encode() * times


@task(inject_context=True)
def told(context: TaskExecutionContext, number: int) -> str:
    return context.task_id * number


@task
def any_keywords(**given: int) -> int:
    return sum(given.values())


class Service:
    @task
    def scale(self, number: int) -> float:
        return 2.0 * number

    @task(inject_context=True)
    def told(self, context: TaskExecutionContext, number: int) -> str:
        return context.task_id * number


def is_wanted() -> bool:
    return True


reveal_type(load.run(path="x"))  # reveals: list[int]
reveal_type(fetch.run("x"))  # reveals: bytes
reveal_type(told.run(number=3))  # reveals: str
reveal_type(load(task_id="a", path="x").run())  # reveals: list[int]
load.run(pth=3)  # error: Unexpected keyword argument "pth" for "run" of "TaskWrapper"; did you mean "path"?
load.run()  # error: Missing positional argument "path" in call to "run" of "TaskWrapper"
told.run(number="3")  # error: Argument "number" to "run" of "TaskWrapper" has incompatible type "str"; expected "int"
task(max_retrys=3)  # error: Unexpected keyword argument "max_retrys" for overloaded function "task"

# Bound arguments, with the plug-in: some may be left out, none may be unknown or of another type.
load(task_id="a")
told(task_id="b", number=3)
load(task_id="c", pth="x")  # error: Unexpected keyword argument "pth" for task; did you mean "path"?
load(pth="x")  # error: Unexpected keyword argument "pth" for task; did you mean "path"?
load(task_id="d", path=3)  # error: Argument "path" to task has incompatible type "Literal[3]?"; expected "str"
told(task_id="e", context=3)  # error: Unexpected keyword argument "context" for task
any_keywords(task_id="f", whatever=3)

# A method is the task of its object.
reveal_type(Service().scale.run(number=3))  # reveals: float
reveal_type(Service().told.run(number=3))  # reveals: str
reveal_type(Service().scale.map([1]).run())  # reveals: list[float]
Service().scale(task_id="g", number=3)
Service().scale.run(number="3")  # error: Argument "number" to "run" of "TaskWrapper" has incompatible type "str"
Service().told(task_id="h", context=3)  # error: Unexpected keyword argument "context" for task

reveal_type(load.map(["a"]).run())  # reveals: list[list[int]]
reveal_type(fetch.starmap([("a", 2)]).with_execution("threading").run())  # reveals: list[bytes]
reveal_type(submit(load.map(["a"])).results())  # reveals: list[list[int]]
reveal_type(submit(load.map(["a"]), policy="best_effort").results())  # reveals: list[list[int] | None]
reveal_type(submit(load | fetch).results())  # reveals: list[Any]
reveal_type(attach("run").results())  # reveals: list[Any]


async def awaited() -> None:
    reveal_type(await submit(fetch.map(["a"])))  # reveals: list[bytes]


with workflow("w") as wf:
    reveal_type(wf.execute())  # reveals: Any
    reveal_type(wf.execute(ret_context=True))  # reveals: tuple[Any, graflow.core.run.context.ExecutionContext]
    reveal_type(wf.execute(ret_context=is_wanted()))  # reveals: Any
    wf.execute(max_step=3)  # error: Unexpected keyword argument "max_step"


def any_task(made: TaskWrapper) -> None:
    made.run(1, number=2)
    made(1)
