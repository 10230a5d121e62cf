"""The parallel part of a workflow on Celery workers; here with a private Redis and two worker processes.

    python examples/08_distributed.py

With workers of your own: `celery -A graflow_celery worker --graflow-import examples.tasks` from the folder above,
and `backend_config={"url": "redis://..."}` in place of the cluster's.
"""

from __future__ import annotations

import sys
from pathlib import Path

import graflow_celery
from graflow import task, workflow
from graflow.coordination.coordinator import CoordinationBackend

if not __package__:  # run as a file: its neighbours are found from the folder above, under the name that workers use
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from examples.tasks import extract_data, transform_data


@task
def amounts(extracts: list[list[dict[str, int]]]) -> list[int]:
    """Runs here; the parameter is filled with the values that the workers sent back, in order."""
    return [sum(row["amount"] for row in rows) for rows in extracts]


def main() -> None:
    factor = 10
    scale = task("scale")(lambda number: number * factor)  # no module holds it: it goes by value, signed

    with graflow_celery.LocalCluster(workers=2, imports=["examples.tasks"]) as cluster:
        with workflow("import") as wf:
            extracts = extract_data.map(["orders", "returns"], name="extracts")
            extracts.with_execution(CoordinationBackend.REDIS, backend_config=cluster.backend_config)
            extracts >> amounts
            value, context = wf.execute(ret_context=True)
            print("amounts:", value)

        rows = context.get_result("extracts")
        handle = graflow_celery.submit(transform_data.map(rows), backend_config=cluster.backend_config)
        print("taxes:", [sum(row["tax"] for row in taxed) for taxed in handle.results(timeout=30)])

        handle = graflow_celery.submit(scale.map(range(3), name="scaled"), backend_config=cluster.backend_config)
        for outcome in handle.outcomes(timeout=30):
            print(f"{outcome.task_id} of {handle.status().total}: {outcome.value}, attempt {outcome.attempts}")


if __name__ == "__main__":
    main()
