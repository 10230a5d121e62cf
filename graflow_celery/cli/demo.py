"""What `graflow serve --demo` shows: a flow over the files of Python's own library, on two private workers."""

from __future__ import annotations

import ast
import sysconfig
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from graflow import task
from graflow.flows import FlowRunner, flow
from graflow_celery.local import LocalCluster

FLOW: Final = "library_survey"
_WORKERS: Final = 2
_FILES: Final = 1500
_LARGEST: Final = 10


@task
def find(folder: str, most: int) -> dict[str, Any]:
    """How many files there are, and how large they are together."""
    paths = _files(folder, most)
    return {"folder": folder, "files": len(paths), "bytes": sum(Path(path).stat().st_size for path in paths)}


@task
def measure(path: str) -> dict[str, Any]:
    """Lines, functions and classes of one file."""
    source = Path(path).read_bytes()
    found: Counter[str] = Counter()
    try:
        found.update(type(node).__name__ for node in ast.walk(ast.parse(source)))
    except (SyntaxError, ValueError):
        found["unreadable"] = 1
    return {
        "name": Path(path).name,
        "lines": source.count(b"\n"),
        "functions": found["FunctionDef"] + found["AsyncFunctionDef"],
        "classes": found["ClassDef"],
        "unreadable": found["unreadable"],
    }


@task
def totals(files: list[dict[str, Any]]) -> dict[str, int]:
    """What there is in all files together."""
    names = ("lines", "functions", "classes", "unreadable")
    return {"files": len(files), **{name: sum(each[name] for each in files) for name in names}}


@task
def largest(files: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The files with the most lines."""
    return sorted(files, key=lambda each: (-each["lines"], each["name"]))[:_LARGEST]


@flow(FLOW)
def library_survey(folder: str = sysconfig.get_path("stdlib"), most: int = _FILES) -> None:
    """Measure each file of Python's library on a worker, and add up."""
    sums = totals(task_id="totals") | largest(task_id="largest")
    sums.set_group_name("sums")
    files = measure.map(_files(folder, most), name="files").with_execution("redis")
    find(task_id="find", folder=folder, most=most) >> files >> sums


def _files(folder: str, most: int) -> list[str]:
    found = Path(folder).rglob("*.py")
    return sorted(str(path) for path in found if not {"site-packages", "dist-packages"} & set(path.parts))[:most]


@contextmanager
def demo() -> Iterator[FlowRunner]:
    """A runner over a private store, Redis and workers, of which nothing is left afterwards; its flow has begun."""
    with (
        tempfile.TemporaryDirectory(prefix="graflow-demo-") as folder,
        LocalCluster(workers=_WORKERS, imports=[__name__], quiet=True) as cluster,
        FlowRunner(f"sqlite:///{folder}/flows.db", config=cluster.backend_config) as runner,
    ):
        runner.submit(FLOW)
        yield runner
