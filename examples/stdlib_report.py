"""How complex is Python's own standard library? Its files are measured by Celery workers, or by threads.

python examples/stdlib_report.py                       # a private Redis and two worker processes
python examples/stdlib_report.py --redis redis://...   # workers that were started by hand
python examples/stdlib_report.py --backend threading   # no server at all
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import graflow_celery
from graflow import task, workflow
from graflow.coordination.coordinator import CoordinationBackend
from graflow.trace.progress import ProgressTracer, track

if not __package__:  # run as a file: its neighbours are found from the folder above, under the name that workers use
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from examples.stdlib_tasks import TOP, analyse_shard, list_shards

WORKERS = 2


@task
def summarise(shards: list[dict[str, Any]]) -> dict[str, Any]:
    """The shards' figures as one; the parameter is filled with the result of the group of that name."""
    totals: Counter[str] = Counter()
    for shard in shards:
        totals.update(shard["totals"])
    functions = [tuple(function) for shard in shards for function in shard["most_complex"]]
    longest = [tuple(shard["longest"]) for shard in shards if shard["longest"]]
    return {
        "totals": dict(totals),
        "most_complex": sorted(functions, reverse=True)[:TOP],
        "longest": max(longest, key=lambda function: (function[1], function[2])),
    }


def run(shards: list[dict[str, Any]], backend: str, config: dict[str, Any]) -> tuple[Any, Any, float]:
    """Measure the shards on a backend; returns their figures, the summary, and the seconds that it took."""
    with workflow(f"on the {backend} backend", tracer=ProgressTracer(delay=0, group="shards")) as wf:
        measured = analyse_shard.map(shards, name="shards", key=lambda shard: shard["name"])
        measured.with_execution(CoordinationBackend(backend), backend_config=config) >> summarise
        start = time.perf_counter()
        summary, context = wf.execute(ret_context=True)
        return context.get_result("shards"), summary, time.perf_counter() - start


def run_one_after_another(shards: list[dict[str, Any]]) -> tuple[Any, float]:
    """Measure the shards without a workflow; returns the summary and the seconds that it took."""
    start = time.perf_counter()
    summary = summarise.func([analyse_shard.func(shard) for shard in track(shards, "one after another")])
    return summary, time.perf_counter() - start


def cluster(options: argparse.Namespace) -> AbstractContextManager[Any]:
    """A private Redis with workers, where the run needs one."""
    if options.backend == "redis" and options.redis is None:
        if sys.stderr.isatty():
            print(f"Starting a private Redis and {WORKERS} workers", file=sys.stderr)
        return graflow_celery.LocalCluster(workers=WORKERS, imports=[analyse_shard.__module__])
    return nullcontext()


def backend_config(options: argparse.Namespace, private: Any) -> dict[str, Any]:
    if private is not None:
        return dict(private.backend_config)
    if options.redis is not None:
        return {"url": options.redis}
    return {"thread_count": WORKERS} if options.backend == "threading" else {}


def print_report(results: list[dict[str, Any]], summary: dict[str, Any]) -> None:
    totals = summary["totals"]
    print(f"\nPython {sys.version.split()[0]}: the standard library in {len(results)} shards\n")
    for name in ("files", "lines", "functions", "classes"):
        print(f"  {name:<12}{totals[name]:>12,}")
    print(f"  {'complexity':<12}{totals['complexity'] / max(totals['functions'], 1):>12.2f}  per function")
    print(f"  {'unreadable':<12}{totals['unreadable']:>12,}  files that hold no valid Python on purpose")
    print(f"  {'longest':<12}{summary['longest'][1]:>12,}  lines: {summary['longest'][2]}")
    print("\nThe most complex functions")
    for complexity, lines, name in summary["most_complex"]:
        print(f"  {complexity:>4}  {name} ({lines} lines)")
    print("\nThe slowest members")
    for result in sorted(results, key=lambda result: -result["seconds"])[:5]:
        print(f"  {result['seconds']:>6.2f} s  {result['name']} ({result['totals']['lines']:,} lines)")


def main() -> int:
    parser = argparse.ArgumentParser(description="A report on Python's standard library.")
    parser.add_argument("--backend", choices=[backend.value for backend in CoordinationBackend], default="redis")
    parser.add_argument("--redis", metavar="URL", help="use this Redis and its workers instead of private ones")
    parser.add_argument("--limit", type=int, metavar="N", help="measure the first N shards only")
    options = parser.parse_args()
    shards = list_shards()[: options.limit]

    with cluster(options) as private:
        results, summary, wall = run(shards, options.backend, backend_config(options, private))
    expected, serial = run_one_after_another(shards)

    print_report(results, summary)
    print(
        f"\n{wall:.1f} s on the {options.backend} backend, {serial:.1f} s one after another: {serial / wall:.2f} times"
    )
    same = summary == expected
    print("Both give the same numbers." if same else f"The numbers differ; one after another gives {expected}")
    return 0 if same else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("Interrupted; nothing is left behind.")
