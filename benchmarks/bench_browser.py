"""How the page feels in Chromium with a run of many nodes and members, beside an empty page of the same server.

python -m benchmarks.bench_browser [--members 100000] [--nodes 1000]; `make page-test` installs what it takes
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.bench_page import written
from benchmarks.bench_server import Server
from benchmarks.common import heading
from graflow.state import open_store

ROUNDS = 3
PATIENCE = 120_000  # ms
SWITCHES = ("--no-sandbox", "--disable-gpu", "--enable-precise-memory-info")
PAINTED = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null"
FILES = """performance.getEntriesByType('resource')
  .filter((each) => each.name.includes('/static/')).map((each) => each.encodedBodySize)"""
FRAMES = """(milliseconds) => new Promise((resolve) => {
  const times = []
  const begin = performance.now()
  const tick = (now) => { times.push(now); now - begin < milliseconds ? requestAnimationFrame(tick) : resolve(times) }
  requestAnimationFrame(tick)
})"""


def opened(browser: Any, url: str, ready: str) -> tuple[Any, float, float]:
    """A page, and the milliseconds until its first paint and until something is there."""
    page = browser.new_context(viewport={"width": 1440, "height": 860}).new_page()
    page.set_default_timeout(PATIENCE)
    began = time.perf_counter()
    page.goto(url)
    page.locator(ready).first.wait_for(state="attached")
    there = (time.perf_counter() - began) * 1000
    return page, page.evaluate(PAINTED) or 0.0, there


def first(browser: Any, server: Server) -> None:
    """Print how long it takes until a large run is seen, above an empty page."""
    floor, paint, drawn = [], [], []
    for _ in range(ROUNDS):
        page, at, _there = opened(browser, f"{server.url}/plain/login", "body")
        floor.append(at)
        page.context.close()
        page, at, there = opened(browser, f"{server.url}/runs/r1", "flow-graph [role=option]")
        paint.append(at)
        drawn.append(there)
        page.context.close()
    ground = statistics.median(floor)
    print(f"  first paint of a page without scripts           {ground:>8.0f} ms")
    print(f"  first paint of the run, above that              {statistics.median(paint) - ground:>8.0f} ms   aim 300")
    print(f"  its graph is drawn, above that                  {statistics.median(drawn) - ground:>8.0f} ms   aim 600")


def panned(page: Any) -> None:
    """Print how smoothly the graph moves under the mouse."""
    box = page.locator("flow-graph").bounding_box()
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    rates = []
    for _ in range(ROUNDS):
        page.mouse.move(*middle)
        page.mouse.down()
        counted = page.evaluate_handle(f"({{ frames: ({FRAMES})(1500) }})")
        for place in range(60):
            page.mouse.move(middle[0] - 4 * place, middle[1] - 2 * place)
        times = counted.evaluate("(found) => found.frames")
        page.mouse.up()
        rates.append(1000 * (len(times) - 1) / (times[-1] - times[0]))
    print(f"  frames a second while the graph is moved        {statistics.median(rates):>8.0f}      gate 30")


def table(browser: Any, server: Server, members: int) -> None:
    """Print how the table of all members behaves."""
    page, _, _ = opened(browser, f"{server.url}/runs/r1?step=group&tab=members", "member-table [role=row]")
    times = []
    for _ in range(ROUNDS):
        page.locator("member-table").evaluate("(rows) => { rows.scrollTop = 0 }")
        page.locator("member-table [aria-rowindex='2']").wait_for(state="attached")
        began = time.perf_counter()
        page.locator("member-table").evaluate("(rows) => { rows.scrollTop = rows.scrollHeight }")
        page.locator(f"[data-index='{members - 1}']").wait_for(state="attached")
        times.append((time.perf_counter() - began) * 1000)
    rows = page.locator("member-table [role=row]").count()
    print(f"  jump to the last of the members                 {statistics.median(times):>8.0f} ms   aim 200")
    print(f"  rows in the page                                {rows:>8}      gate 80")
    page.context.close()


def weight(page: Any) -> None:
    """Print what the page takes of the browser."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")
    session.send("HeapProfiler.collectGarbage")
    told = {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}
    elements = page.evaluate("document.querySelectorAll('*').length")
    sizes = [page.evaluate("performance.getEntriesByType('navigation')[0].encodedBodySize"), *page.evaluate(FILES)]
    print(f"  JavaScript heap                                 {told['JSHeapUsedSize'] / 1e6:>8.1f} MB   gate 60")
    print(f"  elements                                        {elements:>8}      gate 5,000")
    print(f"  files that were asked for                       {len(sizes):>8}      gate 24")
    print(f"  their size with gzip                            {sum(sizes) / 1000:>8.1f} kB   gate 60")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, default=100_000)
    parser.add_argument("--nodes", type=int, default=1_000)
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    program = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        sys.exit("make page-test installs what this takes")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        url = f"sqlite:///{Path(folder)}/flows.db"
        store = open_store(url)
        written(store, given.nodes, given.members)
        store.close()
        server = Server(url)
        browser = playwright.chromium.launch(executable_path=program, args=list(SWITCHES))
        try:
            heading(f"Chromium, {given.nodes:,} nodes and {given.members:,} members")
            first(browser, server)
            page, _, _ = opened(browser, f"{server.url}/runs/r1", "flow-graph [role=option]")
            panned(page)
            weight(page)
            table(browser, server, given.members)
        finally:
            browser.close()
            server.close()


if __name__ == "__main__":
    main()
