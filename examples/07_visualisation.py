"""Pictures: a workflow as text and as Mermaid, and the graph of what really ran.

python examples/07_visualisation.py
"""

from __future__ import annotations

from graflow import task, workflow
from graflow.trace.noop import NoopTracer
from graflow.utils.graph import build_graph, draw_ascii, draw_mermaid


@task
def fetch() -> list[int]:
    return [1, 2]


@task
def clean(fetch: list[int]) -> list[int]:
    return fetch


@task
def check(fetch: list[int]) -> bool:
    return bool(fetch)


@task
def store() -> str:
    return "stored"


def main() -> None:
    tracer = NoopTracer()
    with workflow("pictures", tracer=tracer) as wf:
        fetch >> (clean | check).set_group_name("work") >> store
        print("defined:")
        print(wf.graph)

        wf.execute()
        print("\nran:", tracer.get_execution_order())
        print(draw_ascii(tracer.get_runtime_graph()))

        graph = build_graph(fetch)
        print("\nedges with members:", sorted(graph.get_edges()))
        print("\nMermaid:")
        print(draw_mermaid(graph.nx_graph()))


if __name__ == "__main__":
    main()
