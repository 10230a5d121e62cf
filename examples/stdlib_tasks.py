"""What the workers do for `stdlib_report.py`: measure a few files of Python's standard library with `ast`."""

from __future__ import annotations

import ast
import sysconfig
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from graflow import task

STDLIB = Path(sysconfig.get_path("stdlib"))
FILES_PER_SHARD = 8
TOP = 10

_BRANCHES = (ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.Assert, ast.match_case)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)

# What the standard library's own tests do wrong on purpose is not our news.
warnings.filterwarnings("ignore", category=SyntaxWarning)
warnings.filterwarnings("ignore", category=DeprecationWarning, message="invalid (escape|octal)")


def list_shards() -> list[dict[str, Any]]:
    """The files of the standard library by package, large packages in several parts; paths are relative to it."""
    packages: defaultdict[str, list[str]] = defaultdict(list)
    for path in sorted(STDLIB.rglob("*.py")):
        parts = path.relative_to(STDLIB).parts
        if parts[0] not in {"site-packages", "dist-packages"}:
            packages[parts[0] if len(parts) > 1 else f"modules {parts[0][0].lower()}"].append("/".join(parts))
    return [
        {"name": f"{package} {start // FILES_PER_SHARD + 1}", "files": files[start : start + FILES_PER_SHARD]}
        for package, files in sorted(packages.items())
        for start in range(0, len(files), FILES_PER_SHARD)
    ]


@task
def analyse_shard(shard: dict[str, Any]) -> dict[str, Any]:
    """Totals of the files of one shard, its most complex functions, and the seconds that it took."""
    start = time.perf_counter()
    totals = {"files": 0, "lines": 0, "functions": 0, "classes": 0, "complexity": 0, "unreadable": 0}
    functions: list[tuple[int, int, str]] = []
    for name in shard["files"]:
        source = (STDLIB / name).read_bytes()
        totals["files"] += 1
        totals["lines"] += source.count(b"\n")
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError):
            totals["unreadable"] += 1
            continue
        found, classes = measure(tree, name)
        totals["classes"] += classes
        totals["functions"] += len(found)
        totals["complexity"] += sum(complexity for complexity, _lines, _name in found)
        functions += found
    return {
        "name": shard["name"],
        "totals": totals,
        "most_complex": sorted(functions, reverse=True)[:TOP],
        "longest": max(functions, key=lambda function: (function[1], function[2]), default=None),
        "seconds": time.perf_counter() - start,
    }


def measure(tree: ast.Module, name: str) -> tuple[list[tuple[int, int, str]], int]:
    """Cyclomatic complexity, length in lines and name of every function of a file, and the number of its classes."""
    functions: list[tuple[int, int, str]] = []
    classes = 0
    # A function counts for itself only: what is defined inside it is visited with a counter of its own.
    open_scopes: list[tuple[ast.AST, str]] = [(tree, f"{name}:")]
    while open_scopes:
        scope, prefix = open_scopes.pop()
        complexity = 1
        for node in nodes_of(scope):
            if isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
                classes += isinstance(node, ast.ClassDef)
                open_scopes.append((node, f"{prefix}{node.name}."))
            elif isinstance(node, ast.BoolOp):
                complexity += len(node.values) - 1
            elif isinstance(node, ast.comprehension):
                complexity += 1 + len(node.ifs)
            elif isinstance(node, _BRANCHES):
                complexity += 1
        if isinstance(scope, _FUNCTIONS):
            functions.append((complexity, (scope.end_lineno or scope.lineno) - scope.lineno + 1, prefix[:-1]))
    return functions, classes


def nodes_of(scope: ast.AST) -> Iterator[ast.AST]:
    """Every node below a scope down to, and with, the definitions of inner ones."""
    open_nodes = list(ast.iter_child_nodes(scope))
    while open_nodes:
        node = open_nodes.pop()
        yield node
        if not isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
            open_nodes.extend(ast.iter_child_nodes(node))
