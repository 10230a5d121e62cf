"""What type checkers say of tasks: each line with `# error:` must fail with that, each `# reveals:` shows that."""

from __future__ import annotations

from typing import reveal_type

from graflow import TaskExecutionContext, task, workflow
from graflow.core.task import TaskWrapper


@task
def load(path: str) -> list[int]:
    return [len(path)]


@task(max_retries=2)
async def fetch(url: str, times: int = 1) -> bytes:
    return url.encode() * times


@task(inject_context=True)
def told(context: TaskExecutionContext, number: int) -> str:
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

with workflow("w") as wf:
    reveal_type(wf.execute())  # reveals: Any
    reveal_type(wf.execute(ret_context=True))  # reveals: tuple[Any, graflow.core.run.context.ExecutionContext]
    reveal_type(wf.execute(ret_context=is_wanted()))  # reveals: Any
    wf.execute(max_step=3)  # error: Unexpected keyword argument "max_step"


def any_task(made: TaskWrapper) -> None:
    made.run(1, number=2)
    made(1)
