"""Tasks of random workflows: what each one does is data, so that every backend can run it."""

from __future__ import annotations

import datetime as dt
import decimal
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from graflow import TaskExecutionContext, chain, task
from graflow.core.handlers.group_policy import GroupExecutionPolicy
from graflow.core.task import ParallelGroup
from graflow.exceptions import ParallelGroupError

Action = Sequence[Any]  # the name of a function below, and its arguments

VALUES: Final[dict[str, Any]] = {
    "nothing": None,
    "falsy": ["", 0, False, {}, []],
    "typed": ({1}, b"\x00", decimal.Decimal("1.10"), dt.date(2024, 2, 29), float("inf")),
    "keys": {1: "one", (1, 2): "pair", "$t": "tag"},
    "error": ValueError("a value, not a failure"),
}


class UnpicklableError(Exception):
    """Carries what no other process can have."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.lock = threading.Lock()


class FirstMemberPolicy(GroupExecutionPolicy):
    """Accepts a group whose first member has succeeded."""

    def on_group_finished(self, group_id: str, tasks: Any, results: Any, context: Any) -> None:
        first = tasks[0].task_id
        if not results[first].success:
            failed = [(first, str(results[first].error_message))]
            raise ParallelGroupError(f"{group_id} without its first member", group_id, failed, [])


FAILURES: Final[dict[str, Any]] = {
    "plain": ValueError,
    "key": lambda name: KeyError((name, 1)),
    "wordless": lambda name: RuntimeError(),
    "unpicklable": UnpicklableError,
}


@task(inject_context=True)
def act(ctx: TaskExecutionContext, data: Any = None, do: Sequence[Action] = (), name: str = "") -> Any:
    """Do what a task may do, one thing after another, and give a value that says what was seen."""
    channel, first = ctx.get_channel(), ctx.cycle_count == 1
    seen: list[Any] = [name, ctx.cycle_count, ctx.retry_count, data]
    for kind, *arguments in do:
        if kind in {"set", "append", "prepend"}:
            getattr(channel, kind)(arguments[0], name, *arguments[1:])
        elif kind in {"get", "delete", "exists", "atomic_add"}:
            answer = getattr(channel, kind)(*arguments)
            seen.append(None if kind == "atomic_add" else answer)
        elif kind == "start":
            channel.set(arguments[0], arguments[1])
        elif kind == "count_under_lock":
            with channel.lock(arguments[0]):
                channel.set(arguments[0], channel.get(arguments[0], 0) + 1)
        elif kind == "delete_under_lock":
            with channel.lock(arguments[0]):
                channel.delete(arguments[0])
        elif kind == "result":
            result = ctx.get_result(arguments[0], "none yet")
            seen.append("error" if isinstance(result, Exception) else result)
        elif kind == "place":
            seen.append((ctx.index, ctx.attempt, ctx.max_cycles, ctx.max_retries, ctx.is_cancelled()))
        elif kind == "note":
            with Path(arguments[0]).open("a", encoding="utf-8") as notes:
                notes.write(f"{name}\n")
        elif kind == "checkpoint":
            ctx.checkpoint(path=arguments[0])
        elif kind == "workflow":
            seen.append((ctx.execution_context.workflow_name, ctx.execution_context.start_node))
        elif kind == "fail" or (kind == "flaky" and ctx.retry_count < arguments[1]):
            raise FAILURES[arguments[0]](name)
        elif kind == "value":
            return VALUES[arguments[0]]
        elif first or kind in {"iterate", "terminate", "cancel"}:
            ask(ctx, kind, arguments, name)
    return seen


def ask(ctx: TaskExecutionContext, kind: str, arguments: Sequence[Any], name: str) -> None:
    """Ask the run for something."""
    if kind == "spawn":
        ctx.next_task(acting(f"{name}_child", arguments[0]), goto=arguments[1])
    elif kind == "spawn_chain":
        ctx.next_task(chain(*(acting(f"{name}_link{place}", do) for place, do in enumerate(arguments[0]))))
    elif kind == "spawn_group":
        group = [acting(f"{name}_part{place}", do) for place, do in enumerate(arguments[0])]
        ctx.next_task(ParallelGroup(group, name=f"{name}_parts").with_execution(arguments[1], policy=arguments[2]))
    elif kind == "spawn_unnamed_group":
        group = [acting(f"{name}_part{place}", []) for place in range(2)]
        ctx.next_task(ParallelGroup(group).with_execution(arguments[0]))
    elif kind == "jump":
        ctx.next_task(ASIDES[arguments[0]])
    elif kind == "goto":
        ctx.next_task(arguments[0], goto=True)
    elif kind == "iterate" and ctx.can_iterate():
        ctx.next_iteration(arguments[0])
    elif kind == "terminate":
        ctx.terminate_workflow(f"{name} has enough")
    elif kind == "cancel":
        ctx.cancel_workflow(f"{name} has too much")


def acting(name: str, do: Sequence[Action]) -> Any:
    """A task of this name that does these things."""
    return act.instance(name, {"do": do, "name": name})


@task
def taking(t1: Any = "-", t2: Any = "-", t3: Any = "-", k0: Any = "-", k1: Any = "-") -> Any:
    """What the channel holds under the names of these parameters."""
    return [t1, t2, t3, k0, k1]


@task
def mapped(item: Any, k0: Any = "-") -> Any:
    if item == "bad":
        raise ValueError(item)
    return item, k0


@task
def aside() -> str:
    return "aside"


@task
def apart() -> str:
    return "apart"


ASIDES: Final = {"aside": aside, "apart": apart}
