"""Workers and queues on the page, as a plug-in tells of them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.page.e2e.conftest import Server, found_by_axe, pictured

JSON = "application/json"
WORKERS = [
    {
        "name": f"{name}@here",
        "status": "running",
        "queues": ["fast", "slow"],
        "slots": 4,
        "busy": 1,
        "now": [{"run_id": "loose", "name": "pages", "index": 417}],
        "beat": "2026-01-01T00:00:00Z",
        "version": "0.1.0",
        "done": 12_345,
        "lost": lost,
        "is_same_code": lost == 0,
    }
    for name, lost in (("ada", 0), ("bor", 3))
]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_workers_and_queues_are_told_with_what_they_ended(server: Server, browser: Any, theme: str) -> None:
    looks = 0

    def queues(route: Any) -> None:
        nonlocal looks
        looks += 1
        lonely = {
            "name": "lonely",
            "messages": 7,
            "workers": 0,
            "slots": 0,
            "oldest": "2026-01-01T00:00:00Z",
            "done": 0,
        }
        fast = {"name": "fast", "messages": 0, "workers": 2, "slots": 8, "oldest": None, "done": 100_000 * looks}
        route.fulfill(body=json.dumps({"items": [fast, lonely], "reason": None}), content_type="application/json")

    context = browser.new_context(viewport={"width": 1440, "height": 860}, color_scheme=theme)
    try:
        page = context.new_page()
        page.set_default_timeout(60_000)
        told = json.dumps({"items": WORKERS, "reason": None})
        page.route("**/api/v1/workers", lambda route: route.fulfill(body=told, content_type="application/json"))
        page.route("**/api/v1/queues", queues)
        page.goto(f"{server.url}/workers")
        old = page.locator("tr", has_text="bor@here")
        assert "other code" in old.inner_text()
        assert [old.locator("td").nth(place).inner_text() for place in (3, 5, 6)] == ["1/4", "12,345", "3"]
        assert "other code" not in page.locator("tr", has_text="ada@here").inner_text()
        lonely = page.locator("tr", has_text="lonely")
        assert "nobody listens" in lonely.inner_text()
        assert lonely.locator("time[datetime^='2026-01-01']").count() == 1
        page.locator("tr", has_text="fast").locator("td", has_text=" /s").wait_for()  # after the second look
        assert found_by_axe(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= 1440
        pictured(page, f"workers-busy-{theme}")
    finally:
        context.close()


def test_a_member_that_runs_tells_how_far_it_is(server: Server, page: Any) -> None:
    group = {"run_id": "loose", "name": "pages", "status": "running", "size": 4, "counts": {"running": 1, "pending": 3}}
    looks = 0

    def member(route: Any) -> None:
        nonlocal looks
        looks += 1
        told = {"index": 2, "status": "running", "attempts": 1, "worker": "ada@here"}
        told["progress"] = {"done": min(looks, 3), "total": 1_000, "message": "pages read"}
        route.fulfill(body=json.dumps(told), content_type="application/json")

    rows = {"rows": [[2, "running", 1, "ada@here", None, None]], "total": 1, "size": 4, "offset": 0}
    page.route("**/api/v1/groups/loose", lambda route: route.fulfill(body=json.dumps(group), content_type=JSON))
    page.route(
        "**/api/v1/groups/loose/members?*", lambda route: route.fulfill(body=json.dumps(rows), content_type=JSON)
    )
    page.route("**/api/v1/groups/loose/members/2", member)
    page.goto(f"{server.url}/groups/loose?index=2")
    page.get_by_text("3 of 1,000 pages read").wait_for()
    assert found_by_axe(page) == []
