"""Questions on the page: answered by forms of each kind, by two people at once, and beside the step that asks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.page.e2e.conftest import Server, pictured
from tests.support import wait_until


def fill_text(form: Any) -> None:
    form.get_by_label("Your answer").fill("line one\n<b>two</b>")


def fill_number(form: Any) -> None:
    form.get_by_label("Your answer").fill("1.5")
    form.get_by_role("button", name="Answer").click()
    form.get_by_text("1.5 is not of type 'integer'").wait_for()
    form.get_by_label("Your answer").fill("7")


def fill_choice(form: Any) -> None:
    form.get_by_role("button", name="Answer").click()
    form.get_by_text("This is needed").wait_for()
    form.get_by_label("<img src=x").check()


def fill_model(form: Any) -> None:
    form.get_by_label("version", exact=True).fill("1.2")
    form.get_by_label("region").fill("north")
    form.get_by_label("small").check()
    form.get_by_label("bold").check()


def fill_json(form: Any) -> None:
    form.get_by_label("Your answer").fill("[{")
    form.get_by_role("button", name="Answer").click()
    form.get_by_text("This is no JSON").wait_for()
    form.get_by_label("Your answer").fill('[{"a": 1}]')


MODEL = {
    "version": "1.2",
    "channel": "beta",
    "where": {"region": "north", "copies": 2},
    "tags": ["small", "<b>bold</b>"],
}
KINDS: dict[str, tuple[Callable[[Any], None], object]] = {
    "text": (fill_text, "line one\n<b>two</b>"),
    "number": (fill_number, 7),
    "choice": (fill_choice, "<img src=x onerror=alert(1)>"),
    "model": (fill_model, MODEL),
    "json": (fill_json, [{"a": 1}]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_answer_has_a_form(server: Server, page: Any, kind: str) -> None:
    fill, value = KINDS[kind]
    flow_id = f"form-{kind}"
    server.run("asks", flow_id, kind=kind)
    question = server.question(flow_id)
    page.goto(f"{server.url}/feedback?question={question}")
    form = page.locator("form.answer")
    form.wait_for()
    assert "<script>window.stolen = 1</script>" in page.locator(".prompt").inner_text()
    about = page.locator(".drawer .tree").inner_text()
    assert "<b>3</b>" in about
    assert "password: x" not in about
    fill(form)
    form.get_by_role("button", name="Answer").click()
    form.wait_for(state="detached")
    page.locator(".box").get_by_text("answered by").wait_for()
    assert server.outputs("asks", flow_id) == value
    assert page.evaluate("window.stolen") is None
    assert page.locator("img[src=x]").count() == 0, "an option is text"


def test_two_people_answer_at_once_and_the_second_is_told_who_was_first(
    server: Server, browser: Any, page: Any
) -> None:
    server.run("asks", "race", kind="approval")
    address = f"{server.url}/feedback?question={server.question('race')}"
    other_context = browser.new_context()
    try:
        other = other_context.new_page()
        for tab, name in ((page, "ann"), (other, "bob")):
            tab.goto(address)
            tab.get_by_label("Your name").fill(name)
        held: list[Any] = []

        def hold(route: Any) -> None:
            held.append(route)

        page.route("**/answers", hold)
        page.get_by_role("button", name="Reject").click()
        wait_until(lambda: page.evaluate("1") and held, 60)

        other.get_by_label("Reason").fill("as agreed")
        other.get_by_role("button", name="Approve").click()
        other.locator(".box").get_by_text("answered by bob").wait_for()
        held[0].continue_()
        late = page.get_by_role("alert")
        late.wait_for()
        told = late.inner_text()
        assert "came too late" in told
        assert "answered by bob" in told
        assert "approved" in told
        assert "as agreed" in told
    finally:
        other_context.close()
    assert server.outputs("asks", "race") is True


def test_the_form_is_also_beside_the_step_that_asks_and_the_bar_counts(server: Server, page: Any) -> None:
    before = httpx.get(f"{server.url}/api/v1/questions/count", timeout=60).json()["count"]
    server.run("asks", "beside", kind="approval")
    server.question("beside")
    page.goto(f"{server.url}/runs/beside?step=ask")
    bar = page.get_by_role("navigation", name="Views", exact=True)
    wait_until(lambda: f"Feedback {before + 1}" in " ".join(bar.inner_text().split()), 60, interval=0.1)
    header = page.locator("header.head .badge").first
    wait_until(lambda: "waiting" in header.inner_text(), 60, interval=0.1)
    drawer = page.locator("aside.drawer")
    drawer.get_by_label("Reason").fill("all is well")
    drawer.get_by_role("button", name="Approve").click()
    drawer.get_by_text("all is well").wait_for()
    assert server.outputs("asks", "beside") is True
    wait_until(lambda: "completed" in header.inner_text(), 60, interval=0.1)
    wait_until(lambda: f"Feedback {before + 1}" not in " ".join(bar.inner_text().split()), 60, interval=0.1)


def test_people_are_asked_again_by_a_retry_that_says_so(server: Server, page: Any) -> None:
    server.run("asks", "again", kind="approval")
    first = server.question("again")
    answer = {"value": True, "by": "ann"}
    httpx.post(f"{server.url}/api/v1/questions/{first}/answers", json=answer, timeout=60).raise_for_status()
    assert server.outputs("asks", "again") is True

    page.goto(f"{server.url}/runs/again?step=ask")
    page.get_by_text("answered by ann").wait_for()
    page.get_by_role("button", name="Retry this step…").click()
    page.get_by_label("all", exact=True).check()
    page.get_by_label("Ask people again").check()
    page.get_by_text("Same on the command line").click()
    page.get_by_text("graflow flow retry again ask --downstream all --ask-again", exact=True).wait_for()
    page.get_by_role("dialog").locator("button.primary:not([disabled])").click()
    page.get_by_role("dialog").wait_for(state="detached")
    assert server.question("again") != first

    page.goto(f"{server.url}/runs")
    page.get_by_role("button", name="waiting").click()
    page.get_by_role("row", name="again").wait_for()
    assert "status=waiting" in page.url


def test_the_inbox_fills_and_empties_while_somebody_looks(server: Server, page: Any) -> None:
    page.goto(f"{server.url}/feedback")
    page.get_by_role("heading", name="Feedback").wait_for()
    server.run("asks", "arrives", kind="text")
    row = page.get_by_role("row", name="arrives")
    row.wait_for()
    row.get_by_role("link", name="A text?").click()
    page.locator("form.answer").get_by_label("Your answer").fill("half a thought")
    question = server.question("arrives")
    audit = f"{server.url}/api/v1/questions/{question}/audit"
    wait_until(lambda: '"viewed"' in httpx.get(audit, timeout=60).text, 60, interval=0.1)
    answer = {"value": "by another way", "by": "cli"}
    httpx.post(f"{server.url}/api/v1/questions/{question}/answers", json=answer, timeout=60).raise_for_status()
    page.locator(".box").get_by_text("by another way").wait_for()
    row.wait_for(state="detached")
    page.get_by_role("link", name="Settled").click()
    page.get_by_role("row", name="arrives").wait_for()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_questions_are_answered_without_scripts(server: Server, browser: Any, theme: str) -> None:
    flow_id = f"plain-{theme}"
    server.run("asks", flow_id, kind="model")
    server.question(flow_id)
    context = browser.new_context(java_script_enabled=False, color_scheme=theme, viewport={"width": 390, "height": 800})
    try:
        tab = context.new_page()
        tab.goto(f"{server.url}/feedback")
        tab.get_by_role("link", name="Questions to people").click()
        row = tab.get_by_role("row", name="A model?").last
        pictured(tab, f"plain-inbox-{theme}")
        row.get_by_role("link").click()
        tab.get_by_label("version", exact=True).fill("3")
        tab.get_by_label("region").fill("south")
        tab.get_by_label("copies").fill("1.5")
        tab.get_by_role("button", name="Answer").click()
        tab.get_by_text("1.5 is not of type 'integer'").wait_for()
        pictured(tab, f"plain-question-{theme}")
        tab.get_by_label("copies").fill("4")
        tab.get_by_label("<b>bold</b>").check()
        tab.get_by_label("Your name").fill("ann")
        tab.get_by_role("button", name="Answer").click()
        tab.get_by_text("answered by ann").wait_for()
    finally:
        context.close()
    where = {"region": "south", "copies": 4}
    value = {"version": "3", "channel": "beta", "where": where, "tags": ["<b>bold</b>"]}
    assert server.outputs("asks", flow_id) == value
