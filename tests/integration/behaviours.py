"""Tasks of random workflows: what each one does is data, so that every backend can run it."""

from __future__ import annotations

from typing import Any

from graflow import TaskExecutionContext, task


@task(inject_context=True)
def act(ctx: TaskExecutionContext, behaviour: str, name: str) -> Any:
    """Do one of the things that a member may do, and give a value that says what was seen."""
    channel = ctx.get_channel()
    seen = channel.get("last")
    channel.set(f"own_{name}", name)
    channel.append("trail", name)
    channel.atomic_add("count", 1)
    if behaviour == "write":
        channel.set("last", name)
    elif behaviour == "delete":
        channel.delete("given")
    elif behaviour == "spawn":
        ctx.next_task(child.instance(f"{name}_child", {"name": name}))
    elif behaviour == "iterate" and ctx.can_iterate():
        ctx.next_iteration()
    elif behaviour == "fail":
        raise ValueError(f"{name} fails")
    elif behaviour == "jump":
        ctx.next_task(aside)
    elif behaviour == "terminate":
        ctx.terminate_workflow(f"{name} has enough")
    return [name, behaviour, seen if seen in {None, "start"} else "written", ctx.cycle_count]


@task
def child(name: str) -> str:
    return f"child of {name}"


@task
def aside() -> str:
    return "aside"
