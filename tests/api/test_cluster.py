"""Workers, queues and groups where nothing tells of them, and where a plug-in does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs the extra [api]")

from fastapi.testclient import TestClient

from graflow.exceptions import ConfigError, GraflowError, GroupNotFoundError
from graflow.flows import FlowRunner
from graflow.flows import plugged as plugged_in
from graflow.state import MemoryStore
from graflow.state.changes import StepRow
from graflow.state.statuses import Move
from tests.api.conftest import Clients
from tests.api.flows import problem
from tests.state.support import AT, begin, group_row, member, move


class Told:
    """A plug-in that tells what it was given."""

    name = "told"

    def __init__(
        self, groups: list[dict[str, Any]] | None = None, error: Exception | None = None, *, is_silent: bool = False
    ) -> None:
        self._groups = groups or []
        self._error = error
        self.looks: list[str] = []
        self._is_silent = is_silent

    def load(self) -> Callable[[Any], Told]:
        def made(_: Any) -> Told:
            if self._error is not None:
                raise self._error
            return self

        return made

    def workers(self) -> list[dict[str, Any]]:
        return [{"name": "w1", "status": "ready", "beat": 1_700_000_000.5}]

    def queues(self) -> list[dict[str, Any]]:
        return [{"name": "q", "messages": 3, "workers": 0, "slots": 0}]

    def groups(self) -> list[dict[str, Any]]:
        return self._groups

    def group(self, run_id: str) -> dict[str, Any]:
        for row in self._groups:
            if row["run_id"] == run_id:
                return row
        raise GroupNotFoundError(run_id)

    def running(self, run_key: str, *, with_progress: bool = False) -> list[dict[str, Any]]:
        self.looks.append(run_key)
        if self._is_silent:
            raise GraflowError("The Redis of workers does not answer")
        return self.members(run_key)

    def members(self, run_id: str) -> list[dict[str, Any]]:
        return [{"index": 2, "status": "running", "attempts": 1, "worker": "w1", "started_at": 1_700_000_001.0}]


class Uninstalled(Told):
    """A plug-in of which a package is missing."""

    def load(self) -> Callable[[Any], Told]:
        raise ModuleNotFoundError("No module named 'celery'")


@pytest.fixture
def plugged(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def plug(*plug_ins: Told) -> None:
        monkeypatch.setattr(plugged_in, "entry_points", lambda group: list(plug_ins))

    return plug


def rows(*run_ids: str) -> list[dict[str, Any]]:
    return [{"run_id": run_id, "name": "g", "status": "running", "size": 4, "counts": {}} for run_id in run_ids]


@pytest.mark.parametrize(
    ("plug_ins", "reason"),
    [
        ((), "pip install graflow-celery"),
        ((Told(error=ConfigError("No Redis is named")),), "No Redis is named"),
        ((Uninstalled(),), "cannot be loaded: No module named 'celery'"),
    ],
)
def test_without_workers_there_is_nothing_and_the_reason(
    client: TestClient, plugged: Callable[..., None], plug_ins: tuple[Told, ...], reason: str
) -> None:
    plugged(*plug_ins)
    assert not client.get("/api/v1/server").json()["features"]["broker"]
    for path in ("workers", "queues", "groups"):
        told = client.get(f"/api/v1/{path}").json()
        assert told["items"] == []
        assert reason in told["reason"]
    problem(client.get("/api/v1/groups/r1"), 404, "not-found")


def test_what_a_plug_in_tells_is_told_with_times_as_texts(client: TestClient, plugged: Callable[..., None]) -> None:
    plugged(Told())
    assert client.get("/api/v1/server").json()["features"]["broker"]
    answer = client.get("/api/v1/workers")
    assert answer.json() == {
        "items": [{"name": "w1", "status": "ready", "beat": "2023-11-14T22:13:20.500000Z"}],
        "reason": None,
    }
    assert client.get("/api/v1/workers", headers={"If-None-Match": answer.headers["etag"]}).status_code == 304
    assert client.get("/api/v1/queues").json()["items"][0]["messages"] == 3


def test_groups_of_recorded_flows_are_left_out_and_others_come_in_pages(
    clients: Clients, plugged: Callable[..., None]
) -> None:
    store = MemoryStore()
    begin(store, "f1")
    plugged(Told(rows("a", "f1.0:pages:0", "b.7:x", "c")))
    client = clients(FlowRunner(store, recovery=False))
    first = client.get("/api/v1/groups", params={"limit": 2}).json()
    assert [row["run_id"] for row in first["items"]] == ["a", "b.7:x"]
    rest = client.get("/api/v1/groups", params={"limit": 2, "cursor": first["next_cursor"]}).json()
    assert ([row["run_id"] for row in rest["items"]], rest["next_cursor"]) == (["c"], None)
    assert client.get("/api/v1/groups", params={"status": "failed"}).json()["items"] == []


def test_members_that_nobody_has_begun_are_pending(client: TestClient, plugged: Callable[..., None]) -> None:
    plugged(Told(rows("a")))
    told = client.get("/api/v1/groups/a/members", params={"offset": 1, "limit": 2}).json()
    assert told["rows"] == [
        [1, "pending", 0, None, None, None],
        [2, "running", 1, "w1", "2023-11-14T22:13:21Z", None],
    ]
    assert (told["total"], told["size"]) == (4, 4)
    assert client.get("/api/v1/groups/a/members/3").json()["status"] == "pending"
    problem(client.get("/api/v1/groups/a/members/4"), 404, "not-found")


def test_workers_that_do_not_answer_are_not_asked_with_every_look_at_members(
    clients: Clients, plugged: Callable[..., None]
) -> None:
    store = MemoryStore()
    begin(store, "f1")
    group = {"status": "running", "started_at": AT, "size": 3, "run_key": "f1.0:pages:0"}
    move(store, Move.STEP, steps=(StepRow("pages", 1, group),))
    told = Told(is_silent=True)
    plugged(told)
    client = clients(FlowRunner(store, recovery=False))
    for _ in range(3):
        rows = client.get("/api/v1/analysis/flows/f1/steps/pages/members").json()["rows"]
        assert [row[1] for row in rows] == ["pending"] * 3
    assert told.looks == ["f1.0:pages:0"]


def test_members_of_a_flow_that_run_are_found_by_their_state(clients: Clients, plugged: Callable[..., None]) -> None:
    store = MemoryStore()
    begin(store, "f1")
    move(store, Move.STEP, steps=(group_row(4),), members=(member(0, "failed"), member(1)))
    plugged(Told())
    client = clients(FlowRunner(store, recovery=False))
    for status, indices in (
        ("failed", [0]),
        ("completed,failed", [0, 1]),
        ("running", [2]),
        ("pending,running", [2, 3]),
    ):
        told = client.get("/api/v1/analysis/flows/f1/steps/g/members", params={"status": status}).json()
        assert ([row[0] for row in told["rows"]], told["total"]) == (indices, len(indices))


def test_a_member_that_has_ended_does_not_run_any_more_whatever_workers_tell(
    clients: Clients, plugged: Callable[..., None]
) -> None:
    store = MemoryStore()
    begin(store, "f1")
    move(store, Move.STEP, steps=(group_row(4),), members=(member(2, "completed", attempts=1),))
    plugged(Told())
    steps = "/api/v1/analysis/flows/f1/steps/g/members"
    client = clients(FlowRunner(store, recovery=False))
    assert [row[1] for row in client.get(steps).json()["rows"]] == ["pending", "pending", "completed", "pending"]
    assert client.get(f"{steps}/2").json()["status"] == "completed"
    assert client.get(steps, params={"status": "running"}).json()["total"] == 0
