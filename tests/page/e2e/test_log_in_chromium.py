"""The log of a step on the page: any number of lines, filters by the server, links to lines, following."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.page.e2e.conftest import Server, found_by_axe, pictured
from tests.support import wait_until

LINES = 35_000
PAGE = 1000


def line(number: int) -> dict[str, Any]:
    level = "ERROR" if number % 1000 == 17 else "OUT"
    text = f"line {number} \x1b[31mred\x1b[0m <script>window.stolen = 1</script>"
    return {"at": "2026-11-28T06:00:00Z", "level": level, "text": text, "step": "pages", "visit": 1, "index": number}


class Said:
    """Stands in for the log of the server, which has lines of members on workers alone."""

    def __init__(self) -> None:
        self.lines = [line(number) for number in range(1, LINES + 1)]
        self.asked = 0

    def answer(self, route: Any) -> None:
        self.asked += 1
        given = {name: values[0] for name, values in parse_qs(urlsplit(route.request.url).query).items()}
        found = [
            each
            for each in self.lines
            if given.get("search", "") in each["text"] and (given.get("level") != "ERROR" or each["level"] == "ERROR")
        ]
        begin = int(given.get("after") or 0)
        end = min(len(found), begin + PAGE)
        page = {"lines": found[begin:end], "cursor": str(end), "next_cursor": str(end) if end < len(found) else None}
        route.fulfill(status=200, content_type="application/json", body=json.dumps(page))


@pytest.fixture
def log(server: Server, page: Any) -> Iterator[Said]:
    server.run("pages", "said", count=3)
    wait_until(lambda: server.status("pages", "said") == "completed", 60)
    said = Said()
    page.route("**/flows/said/logs*", said.answer)
    yield said
    page.unroute_all(behavior="wait")


def test_a_long_log_is_read_as_far_as_it_is_looked_at(server: Server, page: Any, log: Said) -> None:
    page.goto(f"{server.url}/runs/said?step=pages&tab=logs")
    lines = page.get_by_role("table", name="Log")
    lines.get_by_text("line 1 red <script>").wait_for()
    assert page.evaluate("window.stolen") is None
    assert lines.get_by_role("row").count() <= 80
    assert found_by_axe(page) == []
    pictured(page, "log-light")
    assert log.asked == 1, "the rest is read when it comes into sight"
    file = page.get_by_role("link", name="Download").get_attribute("href")
    assert file == "api/v1/pages/flows/said/logs?step=pages&download=1"

    page.get_by_label("Level").select_option("ERROR")
    lines.get_by_text("line 34017").wait_for(state="attached")
    assert "level=ERROR" in page.url
    page.get_by_label("Search lines").fill("line 17 ")
    page.keyboard.press("Enter")
    wait_until(lambda: lines.get_by_role("row").count() == 1, 60, interval=0.1)


def test_a_link_leads_to_its_line_and_following_shows_what_comes(server: Server, page: Any, log: Said) -> None:
    page.goto(f"{server.url}/runs/said?step=pages&tab=logs&line=2500")
    lines = page.get_by_role("table", name="Log")
    chosen = lines.locator(".l-row.at")
    chosen.get_by_text("line 2500 ").wait_for()
    assert lines.get_by_role("row").count() <= 80
    lines.get_by_role("link", name="Link to line 2502", exact=True).click()
    page.wait_for_url("**line=2502**")
    chosen.get_by_text("line 2502 ").wait_for()

    page.get_by_role("button", name="Follow").click()
    lines.get_by_text(f"line {LINES} ").wait_for()
    assert lines.get_by_role("row").count() <= 80
