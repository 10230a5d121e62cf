"""What `import graflow` adds to `import networkx`, in milliseconds.

python -m benchmarks.bench_import [--rounds N]
"""

from __future__ import annotations

import argparse
import json

from benchmarks.common import heading, in_process, medians, row

IMPORT = """
import importlib, sys, time
start = time.perf_counter()
importlib.import_module(sys.argv[1])
print(time.perf_counter() - start)
"""
LOADED = "import json, sys, graflow; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
UNWANTED = {"celery", "redis", "kombu", "asyncio", "rich", "matplotlib", "pydantic"}


def seconds(module: str) -> float:
    return float(in_process(IMPORT, module))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds

    seconds("graflow")  # compiles, once
    found = medians(rounds, networkx=lambda: seconds("networkx"), graflow=lambda: seconds("graflow"))
    heading("Importing")
    row("import networkx", f"{found['networkx'] * 1e3:.0f} ms", 1.0)
    row("import graflow", f"{found['graflow'] * 1e3:.0f} ms", found["graflow"] / found["networkx"])
    row("the difference", f"{(found['graflow'] - found['networkx']) * 1e3:.0f} ms", aim="at most 60 ms")
    unwanted = UNWANTED & set(json.loads(in_process(LOADED)))
    row("imported along that should not be", ", ".join(sorted(unwanted)) or "nothing", aim="nothing")


if __name__ == "__main__":
    main()
