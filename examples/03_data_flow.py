"""Data: results by name, the channel, typed messages, and who wins when several sources know a parameter.

python examples/03_data_flow.py
"""

from __future__ import annotations

from typing import TypedDict

from graflow import task, workflow


class Progress(TypedDict):
    done: int
    total: int


@task(inject_context=True)
def produce(context, amount: int = 2) -> int:
    channel = context.get_channel()
    channel.set("unit", "kg")
    channel.append("log", "produced")
    channel.atomic_add("runs")
    context.get_typed_channel(Progress).send("progress", {"done": 1, "total": 2})
    return amount


@task
def label(produce: int, unit: str = "pieces") -> str:
    """`produce` is a result, `unit` a plain key of the channel, which beats the default."""
    return f"{produce} {unit}"


@task(inject_context=True)
def report(context, label: str) -> list[str]:
    channel = context.get_channel()
    progress = context.get_typed_channel(Progress).receive("progress")
    channel.append("log", f"reported {label}")
    return [*channel.get("log"), f"{progress['done']} of {progress['total']}", f"runs: {channel.get('runs')}"]


@task(resolve_keyword_args=False)
def literal(unit: str = "pieces") -> str:
    """This one asks the channel for nothing."""
    return unit


def main() -> None:
    with workflow("data") as wf:
        produce >> label >> report >> literal
        last, context = wf.execute(initial_channel={"amount": 5}, ret_context=True)
        print("label:", context.get_result("label"))
        print("report:", context.get_result("report"))
        print("literal:", last)


if __name__ == "__main__":
    main()
