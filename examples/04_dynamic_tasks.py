"""Tasks that decide while they run what comes next: new tasks, loops, jumps, an early end.

python examples/04_dynamic_tasks.py
"""

from __future__ import annotations

from graflow import task, workflow
from graflow.exceptions import GraflowWorkflowCanceledError


@task(inject_context=True)
def plan(context) -> None:
    for city in ("Oslo", "Rome"):

        @task(f"visit_{city}")
        def visit(city: str = city) -> str:
            return f"seen {city}"

        context.next_task(visit)


@task(inject_context=True, max_cycles=5)
def halve(context, value: float = 40.0) -> float:
    if value > 10 and context.can_iterate():
        context.next_iteration(value / 2)
    return value


@task(inject_context=True)
def decide(context, halve: float) -> None:
    if halve <= 10:
        context.next_task(context.graph.get_node("small"), goto=True)


@task(inject_context=True)
def small(context) -> None:
    context.terminate_workflow("nothing left to do")


@task(inject_context=True)
def big(context) -> None:
    context.cancel_workflow("too big")


def main() -> None:
    with workflow("dynamic") as wf:
        plan >> halve >> decide >> big >> small
        _value, context = wf.execute(ret_context=True)
        print(context.stop_reason, "-", context.ctrl_message)
        print("cities:", context.get_result("visit_Oslo"), "and", context.get_result("visit_Rome"))
        print("halved to:", context.get_result("halve"))
        try:
            wf.execute("big")
        except GraflowWorkflowCanceledError as error:
            print("canceled:", error)


if __name__ == "__main__":
    main()
