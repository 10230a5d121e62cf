"""Tasks: plain functions that can also be connected.

python examples/01_basics.py
"""

from __future__ import annotations

from graflow import RetryPolicy, task, workflow

attempts = []


@task
def greet(name: str = "world") -> str:
    """A task is a function with an id; called without arguments it simply runs."""
    return f"hello, {name}"


@task("shout", inject_context=True)
def louder(context, greet: str) -> str:
    """The parameter `greet` is filled with the result of the task of that name."""
    return f"{greet.upper()}! (task {context.task_id}, pass {context.cycle_count})"


@task(retry_policy=RetryPolicy(max_retries=3, initial_interval=0.01))
def unreliable() -> int:
    """Fails twice; the engine tries again."""
    attempts.append("try")
    if len(attempts) < 3:
        raise ConnectionError("nobody answers")
    return len(attempts)


def main() -> None:
    print("alone:", greet())
    print("the function itself:", greet.func("function"))
    print("with arguments:", greet.run(name="argument"))

    with workflow("bound arguments") as wf:
        greet(task_id="greet_ada", name="Ada") >> greet(task_id="greet_grace", name="Grace")
        last, context = wf.execute(ret_context=True)
        print("first:", context.get_result("greet_ada"))
        print("last:", last)

    with workflow("results by name") as wf:
        greet >> louder
        print("in a workflow:", wf.execute())

    with workflow("retries") as wf:
        wf.add_node("unreliable", unreliable)
        print("attempts:", wf.execute())


if __name__ == "__main__":
    main()
