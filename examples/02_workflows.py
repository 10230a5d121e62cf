"""Workflows: chains, diamonds, where a run starts, and what it leaves behind.

python examples/02_workflows.py
"""

from __future__ import annotations

from graflow import chain, task, workflow
from graflow.exceptions import GraflowRuntimeError


@task
def fetch() -> list[int]:
    return [3, 1, 2]


@task
def smallest(fetch: list[int]) -> int:
    return min(fetch)


@task
def largest(fetch: list[int]) -> int:
    return max(fetch)


@task
def spread(smallest: int, largest: int) -> int:
    print("  the join runs once")
    return largest - smallest


@task
def fails() -> None:
    raise ValueError("no data today")


def main() -> None:
    with workflow("diamond") as wf:
        fetch >> (smallest | largest).set_group_name("measures") >> spread
        print("nodes:", sorted(wf.graph.nodes))
        value, context = wf.execute(ret_context=True)
        print("spread:", value)
        print("order:", context.completed_tasks)
        print("again:", wf.execute())

    with workflow("a chain, started in the middle") as wf:
        chain(fetch, smallest, largest)
        print("from 'largest':", wf.execute("largest", initial_channel={"fetch": [10, 20]}))

    with workflow("a failure") as wf:
        fails >> fetch
        try:
            wf.execute()
        except GraflowRuntimeError as error:
            print("error:", error, "- cause:", type(error.cause).__name__)


if __name__ == "__main__":
    main()
