"""How the page feels in Chromium with a run of many nodes and members, beside an empty page of the same server.

python -m benchmarks.bench_browser [--members 100000] [--nodes 1000] [--tabs 50] [--minutes 2]

`make page-test` installs what it takes. Heap and elements are told before and after so many minutes of changes.
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
from benchmarks.bench_server import Server, changing
from benchmarks.common import heading
from graflow.state import StateStore, open_store
from graflow.state.changes import Change, Entry, MemberRow, StepRow
from graflow.state.statuses import Move

ROUNDS = 3
PATIENCE = 120_000  # ms
LIVE = "live"
BETWEEN = 0.02  # seconds between two changes
SETTLED = 5_000  # ms
WATCH = """
window.seen = []
let spent = 0
const frame = window.requestAnimationFrame.bind(window)
const timed = (work) => function (...given) {
  const begun = performance.now()
  try { return work.apply(this, given) } finally { spent += performance.now() - begun }
}
window.requestAnimationFrame = (work) => frame(timed(work))
const listen = EventSource.prototype.addEventListener
EventSource.prototype.addEventListener = function (kind, work, ...more) {
  if (kind !== 'change') return listen.call(this, kind, work, ...more)
  return listen.call(this, kind, (event) => {
    const before = spent
    timed(work)(event)
    frame(() => frame(() => window.seen.push([JSON.parse(event.data).seq, Date.now(), spent - before])))
  }, ...more)
}"""
"""Notes each change that the page is told of: when it had been drawn, and the milliseconds of scripts until then."""

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


def opened(browser: Any, url: str, ready: str, script: str = "") -> tuple[Any, float, float]:
    """A page, and the milliseconds until its first paint and until something is there."""
    page = browser.new_context(viewport={"width": 1440, "height": 860}).new_page()
    page.add_init_script(script)
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


def weighed(page: Any) -> tuple[float, int]:
    """Megabytes of the JavaScript heap without what is garbage, and elements."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")
    session.send("HeapProfiler.collectGarbage")
    told = {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}
    return told["JSHeapUsedSize"] / 1e6, page.evaluate("document.querySelectorAll('*').length")


def weight(page: Any) -> None:
    """Print what the page takes of the browser."""
    megabytes, elements = weighed(page)
    sizes = [page.evaluate("performance.getEntriesByType('navigation')[0].encodedBodySize"), *page.evaluate(FILES)]
    print(f"  JavaScript heap                                 {megabytes:>8.1f} MB   gate 60")
    print(f"  elements                                        {elements:>8}      gate 5,000")
    print(f"  files that were asked for                       {len(sizes):>8}      gate 24")
    print(f"  their size with gzip                            {sum(sizes) / 1000:>8.1f} kB   gate 60")


def _step_and_member(number: int) -> Change:
    """A change of the run that goes on: of a step and of a member."""
    step, member = f"step_{1 + number % 900}", number % 1000
    now = time.time()
    rows = [StepRow(step, 1, {"status": ("running", "completed")[number // 900 % 2], "started_at": now})]
    status = ("running", "completed", "failed")[number // 1000 % 3]
    members = [MemberRow("group", 1, member, {"status": status, "attempts": 1, "started_at": now})]
    ended = Entry("group.members", "group", 1, data={"outcomes": [{"index": member}]})
    return Change(LIVE, Move.STEP, 1, now, [Entry("step.started", step, 1), ended], rows, members)


def updates(browser: Any, server: Server, store: StateStore, minutes: float) -> None:
    """Print how late changes are seen, what they cost a page that shows them, and whether that grows meanwhile."""
    page, _, _ = opened(browser, f"{server.url}/runs/{LIVE}", "flow-graph [role=option]", WATCH)
    page.locator(".dot.live").wait_for()
    with changing(store, _step_and_member, BETWEEN) as told:
        page.wait_for_timeout(SETTLED)
        before = weighed(page)
        page.wait_for_timeout(minutes * 60_000)
        after = weighed(page)
    seen = page.evaluate("window.seen")
    late, spent = [at - told[seq] * 1000 for seq, at, _ in seen if seq in told], [each for _, _, each in seen]
    print(f"  {len(told):,} changes in {minutes:g} min, told in {len(seen):,} events")
    for title, found, aim in (("from a change until it is drawn", late, 300), ("scripts for an event", spent, 10)):
        p95 = statistics.quantiles(found, n=20)[18]
        print(f"  {title:<32} p50 {statistics.median(found):>8.1f} ms, p95 {p95:.1f} ms   aim {aim} at p95")
    print(f"  heap, before and after               {before[0]:>8.1f} MB, {after[0]:.1f} MB   gate 60, no growth")
    print(f"  elements, before and after           {before[1]:>8,}, {after[1]:,}   gate 5,000")
    page.context.close()


def tabs(browser: Any, server: Server, store: StateStore, count: int) -> None:
    """Print what so many tabs that show one run take of the server while that changes."""
    pages = [opened(browser, f"{server.url}/runs/{LIVE}?view=steps", "tbody tr")[0] for _ in range(count)]
    for page in pages:
        page.locator(".dot.live").wait_for()
    with changing(store, _step_and_member, BETWEEN) as told:
        pages[0].wait_for_timeout(SETTLED)
        cpu, began = server.cpu, time.monotonic()
        pages[0].wait_for_timeout(10_000)
        share = (server.cpu - cpu) / (time.monotonic() - began)
    print(
        f"  {count} tabs on one run, {1 / BETWEEN:.0f} changes a second ({len(told)}): "
        f"server {share * 100:.0f} % of a core, aim 25"
    )
    for page in pages:
        page.context.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, default=100_000)
    parser.add_argument("--nodes", type=int, default=1_000)
    parser.add_argument("--tabs", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=2.0)
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
        written(store, given.nodes, 1_000, LIVE, is_over=False)
        server = Server(url)
        browser = playwright.chromium.launch(executable_path=program, args=list(SWITCHES))
        try:
            heading(f"Chromium, {given.nodes:,} nodes and {given.members:,} members")
            first(browser, server)
            page, _, _ = opened(browser, f"{server.url}/runs/r1", "flow-graph [role=option]")
            panned(page)
            weight(page)
            page.context.close()
            table(browser, server, given.members)
            heading("While it changes")
            updates(browser, server, store, given.minutes)
            tabs(browser, server, store, given.tabs)
        finally:
            browser.close()
            server.close()
            store.close()


if __name__ == "__main__":
    main()
