"""Groups: members side by side, fan-out over data, and which failures a group tolerates.

python examples/05_groups_and_policies.py
"""

from __future__ import annotations

from graflow import parallel, task, workflow
from graflow.coordination.coordinator import CoordinationBackend
from graflow.core.handlers.group_policy import AtLeastNGroupPolicy, CriticalGroupPolicy
from graflow.exceptions import ParallelGroupError


@task(inject_context=True)
def primary(context) -> None:
    context.get_channel().atomic_add("answers")


mirror = primary(task_id="mirror")  # the same function under another id


@task
def broken() -> str:
    raise ConnectionError("unreachable")


@task
def count(answers: int = 0) -> int:
    return answers


@task
def square(number: int) -> int:
    return number * number


@task
def total(squares: list[int]) -> int:
    return sum(squares)


def main() -> None:
    for policy in ("strict", "best_effort", AtLeastNGroupPolicy(2), CriticalGroupPolicy(["broken"])):
        with workflow("policies") as wf:
            parallel(primary, broken, mirror).set_group_name("sources").with_execution(policy=policy) >> count
            try:
                print(f"{policy if isinstance(policy, str) else policy.get_name()}: {wf.execute()} answers")
            except ParallelGroupError as error:
                print(f"{policy if isinstance(policy, str) else policy.get_name()}: failed {error.failed_tasks}")

    for backend in (CoordinationBackend.THREADING, CoordinationBackend.DIRECT):
        with workflow("fan-out") as wf:
            squares = square.map(range(5), name="squares").with_execution(backend, {"thread_count": 2})
            squares >> total
            print(f"{backend.value}: total {wf.execute()}")


if __name__ == "__main__":
    main()
