"""Flows that workers of the tests import; as a program it executes one: `on_workers.py FLOW FOLDER FLOW_ID`."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

from graflow import TaskExecutionContext, parallel, task
from graflow.flows import FlowRunner, flow
from tests.support import wait_until


def note(folder: str, name: str) -> None:
    with (Path(folder) / "ran").open("a", encoding="utf-8") as file:
        file.write(f"{name}\n")


@task
def load(folder: str) -> list[int]:
    note(folder, "load")
    return list(range(4))


@task
def inner(folder: str, name: str) -> str:
    note(folder, name)
    return name


@task
def page(folder: str, number: int) -> int:
    note(folder, f"page {number}")
    return number * 10


@task
def gated(folder: str, number: int) -> int:
    note(folder, f"begun {number}")
    if number:
        wait_until((Path(folder) / "go").exists)
    note(folder, f"ended {number}")
    return number


@task(inject_context=True)
def report(context: TaskExecutionContext, folder: str) -> list[Any]:
    note(folder, "report")
    return [context.flow.flow_id, [context.get_result(f"page{number}") for number in range(4)]]


@task(inject_context=True)
def killer(context: TaskExecutionContext, folder: str) -> int:
    note(folder, f"attempt {context.flow.attempt}")
    if context.flow.attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return context.flow.attempt


@task(inject_context=True)
def keyed(context: TaskExecutionContext) -> list[Any]:
    seen = context.flow
    return [seen.flow_name, seen.inputs, seen.attempt, seen.idempotency_key.removeprefix(seen.flow_id)]


@task
def behind(value: int = 1) -> int:
    return value


@task(inject_context=True)
def gathered(context: TaskExecutionContext) -> list[Any]:
    return [context.get_result(name) for name in ("k0", "k2", "k3")]


@flow("keys_on_workers")
def keys_on_workers(backend: str) -> None:
    inner = parallel(keyed(task_id="k2"), keyed(task_id="k3")).set_group_name("inner").with_execution(backend)
    branch = behind(task_id="m1") >> inner
    group = parallel(keyed(task_id="k0"), branch).set_group_name("outer").with_execution(backend)
    behind(task_id="first") >> group >> gathered


@flow("pages_on_workers")
def pages_on_workers(folder: str, nested: bool = False) -> None:
    members = [page(task_id=f"page{number}", folder=folder, number=number) for number in range(4)]
    if nested:
        group = parallel(*(inner(task_id=f"in{n}", folder=folder, name=f"in{n}") for n in range(2)))
        members[0] = members[0] >> group.set_group_name("inner").with_execution("redis")
    pages = parallel(*members).set_group_name("pages").with_execution("redis")
    load(task_id="load", folder=folder) >> pages >> report(task_id="report", folder=folder)


@task(cache=True)
def squared(folder: str, number: int) -> int:
    note(folder, f"squared {number}")
    return number * number


@flow("kept_on_workers")
def kept_on_workers(folder: str, numbers: list[int]) -> None:
    squared(folder=folder).map(numbers, name="squares").with_execution("redis")


@flow("gated_on_workers")
def gated_on_workers(folder: str) -> None:
    members = [gated(task_id=f"g{number}", folder=folder, number=number) for number in range(2)]
    load(task_id="load", folder=folder) >> parallel(*members).set_group_name("gates").with_execution("redis")


@flow("waiting_on_workers")
def waiting_on_workers(folder: str) -> None:
    load(task_id="load", folder=folder) >> gated(task_id="gate", folder=folder, number=1)


@task(inject_context=True)
def approve(context: TaskExecutionContext, folder: str) -> bool:
    note(folder, "approve")
    return context.request_approval("Deploy?", timeout=0.05)


@task(inject_context=True)
def deploy(context: TaskExecutionContext, folder: str) -> list[Any]:
    note(folder, "deploy")
    return [context.get_result("page"), context.get_result("approve")]


@flow("asks_on_workers")
def asks_on_workers(folder: str) -> None:
    members = parallel(page(task_id="page", folder=folder, number=1), approve(task_id="approve", folder=folder))
    members.set_group_name("asks").with_execution("redis") >> deploy(task_id="deploy", folder=folder)


@task(inject_context=True)
def telling(context: TaskExecutionContext, folder: str, number: int) -> int:
    context.progress(1, total=2, message="half")
    wait_until((Path(folder) / "go").exists)
    return number


@flow("telling_on_workers")
def telling_on_workers(folder: str) -> None:
    members = [telling(task_id=f"t{number}", folder=folder, number=number) for number in range(4)]
    parallel(*members).set_group_name("telling").with_execution("redis", {"batch_size": 1})


@flow("killed_on_workers")
def killed_on_workers(folder: str) -> None:
    load(task_id="load", folder=folder) >> killer(task_id="killer", folder=folder)


if __name__ == "__main__":
    FlowRunner(backend="redis", recovery=False).execute(sys.argv[1], {"folder": sys.argv[2]}, sys.argv[3])
