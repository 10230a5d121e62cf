"""What the page looks at: graph, steps, members, and how states look."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs the extra [api]")

from fastapi.testclient import TestClient

from graflow import task
from graflow.api.runs import timeline
from graflow.core.context import TaskExecutionContext
from graflow.flows import FlowRunner
from graflow.state import FlowStatus, MemoryStore, StepStatus
from graflow.state.changes import Change, Entry, StepRow
from graflow.state.statuses import Move
from tests.api.conftest import Clients
from tests.api.flows import problem
from tests.state.support import AT, begin, group_row, member, move

RUN = "/api/v1/pages/flows/r1"
ROTTEN = 3


@task
def load(password: str = "") -> int:
    return 10


@task
def read(number: int) -> str:
    if number == ROTTEN:
        raise ValueError(f"page {number} is rotten")
    return f"page {number}"


@task(inject_context=True)
def grow(context: TaskExecutionContext) -> int:
    @task(id="extra")
    def extra() -> int:
        return 2

    context.next_task(extra)
    return 1


def pages(count: int = 10) -> None:
    _ = (
        load(task_id="load", password="hunter2")
        >> read.map(range(count), name="pages").with_execution(policy="best_effort")
        >> grow(task_id="grow")
    )


@pytest.fixture(scope="module")
def runner() -> Iterator[FlowRunner]:
    runner = FlowRunner("memory://", recovery=False)
    runner.register(pages)
    state = runner.execute("pages", {"count": 10}, "r1")
    assert state.status is FlowStatus.COMPLETED, state.error
    return runner


@pytest.fixture
def client(clients: Clients, runner: FlowRunner) -> TestClient:
    return clients(runner)


def got(client: TestClient, path: str, **parameters: Any) -> Any:
    answer = client.get(path, params=parameters)
    assert answer.status_code == 200, answer.text
    assert client.get(path, params=parameters, headers={"If-None-Match": answer.headers["etag"]}).status_code == 304
    return answer.json()


# -- graph -------------------------------------------------------------------------------------------------------------


def test_a_graph_has_places_sizes_and_what_was_added(client: TestClient) -> None:
    graph = got(client, f"{RUN}/graph")
    assert graph["nodes"]["name"] == ["load", "pages", "grow", "extra"]
    assert graph["nodes"]["size"] == [None, 10, None, None]
    assert graph["nodes"]["height"] == [36, 62, 36, 36]
    assert graph["nodes"]["added"] == [False, False, False, True]
    assert list(zip(graph["edges"]["from"], graph["edges"]["to"], strict=True)) == [(0, 1), (1, 2), (2, 3)]
    assert graph["nodes"]["x"] == sorted(graph["nodes"]["x"])
    assert (graph["direction"], graph["truncated"], graph["edges"]["closing"], graph["folds"]) == (
        "right",
        False,
        [],
        {},
    )
    assert got(client, f"{RUN}/graph", direction="down")["direction"] == "down"
    problem(client.get(f"{RUN}/graph", params={"direction": "up"}), 422, "request-invalid")


# -- steps -------------------------------------------------------------------------------------------------------------


def test_all_steps_come_in_columns_with_counts_and_strips(client: TestClient) -> None:
    told = got(client, f"{RUN}/steps")
    steps = told["steps"]
    assert len({len(column) for column in steps.values()}) == 1
    assert steps["step"] == ["load", "pages", "grow", "extra"]
    assert steps["status"] == ["completed"] * 4
    assert steps["size"] == [None, 10, None, None]
    assert steps["counts"][1] == {"completed": 9, "failed": 1}
    assert steps["strip"][1][ROTTEN] == {"f": 1}
    assert steps["after"] == [[], ["load"], ["pages"], ["grow"]]
    assert told["cursor"] > 0
    assert steps["started_at"][0].endswith("Z")


def test_a_run_that_has_not_begun_shows_its_planned_steps(clients: Clients) -> None:
    runner = FlowRunner("memory://", recovery=False)
    runner.register(pages)
    runner.send_to(lambda _: None)
    runner.submit("pages", {"count": 2}, "r1")
    steps = got(clients(runner), f"{RUN}/steps")["steps"]
    assert steps["step"] == ["load", "pages", "grow"]
    assert steps["status"] == ["pending"] * 3
    assert steps["size"] == [None, 2, None]


def test_one_step_has_its_attempts_neighbours_and_addresses(client: TestClient) -> None:
    step = got(client, f"{RUN}/steps/pages")
    assert (step["step"], step["status"], step["visit"], step["visits"]) == ("pages", "completed", 1, 1)
    assert (step["after"], step["before"]) == (["load"], ["grow"])
    assert [attempt["number"] for attempt in step["attempt_history"]] == [1]
    assert client.get(step["links"]["members"]).status_code == 200
    assert got(client, f"{RUN}/steps/load")["inputs"] == {"password": "***"}


@pytest.mark.parametrize(
    "path", ["steps/nothing", "steps/load?visit=2", "steps/load/members", "steps/pages/members/10"]
)
def test_what_is_not_there_is_named(client: TestClient, path: str) -> None:
    assert "r1" in problem(client.get(f"{RUN}/{path}"), 404, "not-found")["detail"]  # type: ignore[operator]


def test_a_run_is_found_under_its_own_flow_only(client: TestClient) -> None:
    for part in ("graph", "steps", "steps/load", "steps/pages/members", "steps/pages/strip"):
        problem(client.get(f"/api/v1/other/flows/r1/{part}"), 404, "not-found")
        problem(client.get(f"/api/v1/pages/flows/r2/{part}"), 404, "not-found")


# -- members -----------------------------------------------------------------------------------------------------------


def test_members_are_light_rows_in_pages(client: TestClient) -> None:
    told = got(client, f"{RUN}/steps/pages/members", offset=2, limit=3)
    assert (told["total"], told["size"], told["offset"]) == (10, 10, 2)
    assert [row[:3] for row in told["rows"]] == [[2, "completed", 1], [3, "failed", 1], [4, "completed", 1]]
    assert all(row[4] <= row[5] and row[5].endswith("Z") for row in told["rows"])
    problem(client.get(f"{RUN}/steps/pages/members", params={"limit": 501}), 422, "request-invalid")


@pytest.mark.parametrize(
    ("question", "found"),
    [
        ({"status": "failed"}, [ROTTEN]),
        ({"status": "failed,pending"}, [ROTTEN]),
        ({"search": "ROTTEN"}, [ROTTEN]),
        ({"search": "7"}, [7]),
        ({"search": "nothing like this"}, []),
        ({"status": "completed", "offset": 8}, [9]),
        ({"status": "completed", "search": "rotten"}, []),
    ],
)
def test_members_are_found_by_state_text_and_number(
    client: TestClient, question: dict[str, str], found: list[int]
) -> None:
    told = got(client, f"{RUN}/steps/pages/members", **question)
    assert [row[0] for row in told["rows"]] == found
    assert told["total"] == len(found) + int(question.get("offset", 0))


def test_members_are_put_in_order(client: TestClient) -> None:
    def lasted(row: list[Any]) -> str:
        return row[5] if row[4] is None else row[4]

    rows = got(client, f"{RUN}/steps/pages/members", sort="started")["rows"]
    assert sorted(rows, key=lasted) == rows
    assert len(got(client, f"{RUN}/steps/pages/members", sort="duration")["rows"]) == 10
    problem(client.get(f"{RUN}/steps/pages/members", params={"sort": "colour"}), 422, "request-invalid")
    problem(client.get(f"{RUN}/steps/pages/members", params={"status": "blue"}), 422, "request-invalid")


def test_one_member_is_told_as_a_step(client: TestClient) -> None:
    member = got(client, f"{RUN}/steps/pages/members/{ROTTEN}")
    assert (member["step"], member["index"], member["status"]) == ("pages", ROTTEN, "failed")
    assert member["error"] == "ValueError: page 3 is rotten"
    assert "rotten" in member["error_data"]["traceback"]


def test_a_strip_has_as_many_buckets_as_asked(client: TestClient) -> None:
    assert len(got(client, f"{RUN}/steps/pages/strip")["buckets"]) == 10
    halves = got(client, f"{RUN}/steps/pages/strip", buckets=2)
    assert halves == {"size": 10, "counts": {"completed": 9, "failed": 1}, "buckets": [{"d": 4, "f": 1}, {"d": 5}]}


# -- payloads ----------------------------------------------------------------------------------------------------------


def test_payloads_are_previews_with_secrets_masked(client: TestClient) -> None:
    path = f"{RUN}/steps/load/payload"
    assert got(client, f"{path}/inputs") == {"preview": {"password": "***"}, "size": 18, "truncated": False}
    assert got(client, f"{path}/outputs") == {"preview": 10, "size": 2, "truncated": False}
    assert got(client, f"{path}/error")["preview"] is None
    error = got(client, f"{RUN}/steps/pages/payload/error", index=ROTTEN)["preview"]
    assert (error["type"], error["message"]) == ("ValueError", "page 3 is rotten")
    assert got(client, f"{RUN}/steps/pages/payload/outputs", index=2)["preview"] == "page 2"
    problem(client.get(f"{path}/secrets"), 422, "request-invalid")


def test_a_download_is_a_file_that_no_browser_opens(client: TestClient) -> None:
    answer = client.get(f"{RUN}/steps/pages/payload/outputs", params={"index": 2, "download": 1})
    assert answer.headers["content-disposition"] == 'attachment; filename="outputs.json"'
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.json() == "page 2"


@task
def long_text() -> list[str]:
    return ["x" * 1000] * 400


@task
def long_member(number: int) -> dict[str, Any]:
    return {"token": "hunter2", "text": "y" * 3000}


def large() -> None:
    _ = long_text(task_id="text") >> long_member.map([1, 2], name="members")


def test_of_large_values_the_beginning_is_shown_and_all_is_downloaded(clients: Clients) -> None:
    runner = FlowRunner("memory://", recovery=False)
    runner.register(large)
    runner.execute("large", {}, "r1")
    client, run = clients(runner), "/api/v1/large/flows/r1/steps"
    told = client.get(f"{run}/text/payload/outputs").json()
    assert told["truncated"]
    assert told["size"] > 400_000
    assert told["preview"][0].startswith("xxx")
    assert len(str(told["preview"])) <= 64 * 1024
    assert client.get(f"{run}/text/payload/outputs", params={"download": 1}).json() == ["x" * 1000] * 400
    member = client.get(f"{run}/members/payload/outputs", params={"index": 1}).json()
    assert member["preview"] == {"token": "***", "text": "y" * 3000}


# -- timeline ----------------------------------------------------------------------------------------------------------


def test_a_timeline_has_a_bar_for_each_execution(client: TestClient) -> None:
    told = got(client, f"{RUN}/timeline")
    bars = told["bars"]
    assert (told["mode"], told["total"], told["from"]) == ("bars", 14, 0)
    assert len({len(column) for column in bars.values()}) == 1
    assert bars["row"] == bars["step"]
    assert sorted(index for index in bars["index"] if index is not None) == list(range(10))
    failed = [
        (step, index)
        for step, index, status in zip(*map(bars.get, ("step", "index", "status")), strict=True)
        if status == "failed"
    ]
    assert failed == [("pages", ROTTEN)]
    assert bars["from"] == sorted(bars["from"])
    assert all(begin <= end <= told["to"] + 0.001 for begin, end in zip(bars["from"], bars["to"], strict=True))
    assert got(client, f"{RUN}/timeline", **{"from": told["to"] + 1, "to": told["to"] + 2})["total"] == 0
    problem(client.get(f"{RUN}/timeline", params={"from": 5, "to": 1}), 422, "request-invalid")


def test_too_many_bars_are_put_together_by_row_and_bin(clients: Clients) -> None:
    store = MemoryStore()
    epoch = begin(store)
    size = 4000
    rows = [
        member(
            index,
            "failed" if index % 1000 == 0 else "completed",
            worker=f"w{index % 2}",
            attempts=1,
            started_at=AT + 1 + index / 100,
            completed_at=AT + 1 + index / 100 + 1,
        )
        for index in range(size)
    ]
    load = {"status": "completed", "started_at": AT + 1, "completed_at": AT + 2, "worker": "w0"}
    steps = [StepRow("load", 1, load), group_row(size)]
    store.append(Change("f1", Move.STEP, epoch, AT + 2, [Entry("step.started", "g", 1)], steps, rows))
    move(store, Move.COMPLETE, at=AT + 42, entries=[Entry("flow.completed")])
    client = clients(FlowRunner(store, recovery=False))
    told = client.get("/api/v1/analysis/flows/f1/timeline", params={"by": "worker", "bins": 41}).json()
    assert (told["mode"], told["bins"], told["total"]) == ("bins", 41, size + 2)
    first, second = told["rows"]
    assert (first["row"], second["row"]) == ("w0", "w1")
    assert (sum(first["failed"]), sum(second["failed"])) == (4, 0)
    assert sum(first["busy"]) == pytest.approx(2000, rel=0.01)  # each took a second, and so does a bin
    assert max(first["busy"]) == pytest.approx(50, rel=0.1)
    told = client.get("/api/v1/analysis/flows/f1/timeline", params={"bins": 41}).json()
    (group,) = told["rows"]
    assert (group["row"], told["bars"]["row"]) == ("g", ["load"]), "a step without members is a bar still"
    assert (told["bars"]["from"], told["bars"]["to"]) == ([0.0], [1.0])
    assert sum(group["busy"]) == pytest.approx(size, rel=0.01), "the group itself is not counted with its members"


def test_steps_alone_are_put_together_as_well_where_they_are_too_many(
    clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemoryStore()
    epoch = begin(store)
    load = {"status": "completed", "started_at": AT + 1, "completed_at": AT + 2, "worker": "w0"}
    steps = [StepRow(name, 1, load) for name in ("load", "tidy")]
    store.append(Change("f1", Move.STEP, epoch, AT + 2, [Entry("step.started", "load", 1)], steps))
    client = clients(FlowRunner(store, recovery=False))
    monkeypatch.setattr(timeline, "MOST_BARS", 1)
    told = client.get("/api/v1/analysis/flows/f1/timeline", params={"bins": 4, "from": 0, "to": 1}).json()
    assert "bars" not in told
    assert [(row["row"], row["busy"]) for row in told["rows"]] == [("load", [1.0] * 4), ("tidy", [1.0] * 4)]


# -- stats -------------------------------------------------------------------------------------------------------------


def test_stats_of_nothing_new_keep_their_tag_though_their_bins_end_now(clients: Clients) -> None:
    store = MemoryStore()
    begin(store)
    move(store, Move.COMPLETE, at=AT + 42, entries=[Entry("flow.completed")])
    client = clients(FlowRunner(store, recovery=False))  # whose clock is years later
    first = client.get("/api/v1/stats", params={"period": "all"})
    again = client.get("/api/v1/stats", params={"period": "all"}, headers={"If-None-Match": first.headers["etag"]})
    assert again.status_code == 304


def test_stats_are_those_of_the_runner_over_a_period(client: TestClient) -> None:
    told = got(client, "/api/v1/stats", period="all", flow="pages")
    assert (told["period"], told["population"], told["flows"]) == ("all", 1, {"completed": 1})
    assert {step["step_name"] for step in told["steps"]} == {"load", "pages", "grow", "extra"}
    assert got(client, "/api/v1/stats", flow="other")["population"] == 0
    parts = len(told["series"]["made"])
    assert told["series"]["bin_seconds"] * parts >= 1.0
    assert sum(told["series"]["made"]) == 1
    problem(client.get("/api/v1/stats", params={"period": "1y"}), 422, "request-invalid")


# -- states ------------------------------------------------------------------------------------------------------------


def test_states_have_colours_and_words(client: TestClient) -> None:
    told = got(client, "/api/v1/states")
    assert {*FlowStatus, *StepStatus} <= told["states"].keys()
    assert told["states"]["failed"]["letter"] == "f"
    assert {look["family"] for look in told["states"].values()} == told["families"].keys()
