"""Every view in both themes: what axe-core finds, sideways scrolling, and a picture for whoever wants to look."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.page.e2e.conftest import Server, found_by_axe, pictured
from tests.support import wait_until

VIEWS = {
    "runs": "runs",
    "none": "runs?status=lost",
    "graph": "runs/seen-1",
    "step": "runs/seen-1?step=publish",
    "steps": "runs/seen-1?view=steps",
    "timeline": "runs/seen-1?view=timeline",
    "workers-of-members": "runs/seen-2?view=timeline&by=worker",
    "events": "runs/seen-1?view=events",
    "members": "runs/seen-2?step=pages&tab=members",
    "log": "runs/seen-2?step=pages&tab=logs",
    "feedback": "feedback",
    "question": "feedback?question={model}",
    "settled": "feedback?show=settled&question={settled}",
    "plain-inbox": "plain/feedback",
    "plain-question": "plain/feedback/{model}",
    "plain-login": "plain/login",
    "waiting-step": "runs/seen-3?step=ask",
    "flow": "flows/analysis",
    "workers": "workers",
    "groups": "groups",
    "stats": "stats",
    "unknown": "runs/nobody",
}


@pytest.fixture(scope="module")
def seen(server: Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Addresses of views of a server with a run that failed, one with members, and some that ask."""
    broken = tmp_path_factory.mktemp("views") / "broken"
    broken.touch()
    server.run("analysis", "seen-1", broken=str(broken))
    server.run("pages", "seen-2", count=300)
    wait_until(lambda: server.status("analysis", "seen-1") == "failed", 60)
    server.run("asks", "seen-3", kind="approval")
    server.run("asks", "seen-4", kind="model")
    server.run("asks", "seen-5", kind="approval")
    settled = server.question("seen-5")
    answer = {"value": False, "by": "ann", "reason": "Not before Monday"}
    httpx.post(f"{server.url}/api/v1/questions/{settled}/answers", json=answer, timeout=60).raise_for_status()
    wait_until(lambda: server.status("pages", "seen-2") == "completed", 60)
    server.question("seen-3")
    ids = {"model": server.question("seen-4"), "settled": settled}
    return {name: f"{server.url}/{path.format(**ids)}" for name, path in VIEWS.items()}


def test_stats_show_what_happened_over_the_period_and_how_times_are_distributed(
    seen: dict[str, str], page: Any
) -> None:
    page.goto(seen["stats"])
    for tile in ("Runs", "A run takes", "Members a second", "Wait for a worker"):
        page.locator("a.tile", has_text=tile).locator("svg rect").first.wait_for(state="attached")
    assert "B" in page.locator("a.tile", has_text="Store").locator("b").inner_text()  # kB or MB
    group = page.locator("tr", has=page.get_by_role("link", name="pages", exact=True))
    group.locator("svg rect").wait_for(state="attached")  # one alone, else this refuses


TIMELINE = """async () => {
  const { Timeline } = await import('./static/model/timeline.js')
  const query = { view: 'timeline' }
  const run = { path: 'pages/flows/x', run: { status: 'completed' }, store: { state: { route: { query } }, set() {} } }
  const timeline = new Timeline(run)
  await timeline.read()
  const rows = timeline.rows.map(({ name, bars, area }) => [name, bars.length, area ? area.peak : null])
  return { rows, gaps: timeline.gaps, problem: timeline.problem }
}"""


def test_a_timeline_of_areas_has_bars_of_single_steps_between_them(seen: dict[str, str], page: Any) -> None:
    columns = {"row": ["load", "tidy"], "step": ["load", "tidy"], "index": [None, None], "status": ["completed"] * 2}
    about = {"start": "2026-01-01T00:00:00Z", "from": 0, "to": 10, "by": "step", "mode": "bins", "bins": 5}
    told = {
        **about,
        "bars": {**columns, "from": [0, 8], "to": [1.5, 10]},
        "rows": [{"row": "pages", "busy": [0, 40, 20, 0, 0], "failed": [0, 0, 1, 0, 0]}],
    }
    page.route(
        "**/flows/x/timeline*", lambda route: route.fulfill(content_type="application/json", body=json.dumps(told))
    )
    page.goto(seen["runs"])
    found = page.evaluate(TIMELINE)
    assert found["problem"] is None
    assert found["rows"] == [["load", 1, None], ["pages", 0, 40], ["tidy", 1, None]]
    assert found["gaps"] == [[1.5, 2], [6, 8]], "nothing ran in between"


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", VIEWS)
def test_every_view_can_be_read_by_all_and_fits(seen: dict[str, str], browser: Any, name: str, theme: str) -> None:
    context = browser.new_context(viewport={"width": 1440, "height": 860}, color_scheme=theme, bypass_csp=False)
    try:
        page = context.new_page()
        page.goto(seen[name])
        page.locator("main#main:not([aria-busy=true])").wait_for(timeout=60_000)
        wait_until(lambda: page.locator("[aria-busy=true]").count() == 0, 60, interval=0.1)
        assert found_by_axe(page) == []
        assert page.title() != "graflow", "tabs and readers tell views apart"
        for width in (360, 1024, 1440):
            page.set_viewport_size({"width": width, "height": 860})
            assert page.evaluate("document.documentElement.scrollWidth") <= width, width
        pictured(page, f"{name}-{theme}")
    finally:
        context.close()
