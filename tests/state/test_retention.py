"""How long flows are kept, and that nothing of them stays behind."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
import redis

from graflow.exceptions import MoveRefusedError
from graflow.state import FlowStatus, SqliteStore, StateStore, open_store
from graflow.state.changes import Change
from graflow.state.statuses import Move
from tests.state.support import AT, begin, group_row, member, move, new_flow, step_change
from tests.state.test_large_values import LARGE
from tests.support import PrivateRedis

DAY = 86400.0


def ended(store: StateStore, flow_id: str, at: float, value: object = "done", end: Move = Move.COMPLETE) -> None:
    epoch = begin(store, flow_id, at=at)
    store.append(step_change(epoch, 1, flow_id, value=value))
    store.append(Change(flow_id, Move.STEP, epoch, at, steps=[group_row(3)], members=[member(1)]))
    store.append(Change(flow_id, end, epoch, at, flow={"outputs": value}))


def ids(store: StateStore) -> set[str]:
    return {flow.flow_id for flow in store.list_flows(limit=1000)}


def test_only_a_flow_that_has_ended_is_removed(store: StateStore) -> None:
    begin(store)
    with pytest.raises(MoveRefusedError, match="running"):
        store.delete("f1")
    ended(store, "f2", AT)
    assert store.delete("f2") is True
    assert store.delete("f2") is False
    assert store.get_flow_state("f2") is None
    assert store.events("f2") == []
    assert ids(store) == {"f1"}
    assert store.create(new_flow("f2")).is_new
    assert store.get_flow_state("f2").steps == []  # type: ignore[union-attr]


def test_cleanup_removes_what_ended_long_ago_and_what_is_too_much(store: StateStore) -> None:
    for number in range(6):
        end = Move.FAIL if number % 2 else Move.COMPLETE
        ended(store, f"f{number}", AT + number * DAY, end=end)
    begin(store, "open", at=AT)
    begin(store, "paused", at=AT)
    move(store, Move.STOP, "paused", at=AT)
    now = AT + 10 * DAY
    assert store.cleanup(older_than=9 * DAY, keep=100, at=now) == 2
    assert ids(store) == {"f2", "f3", "f4", "f5", "open", "paused"}
    assert store.cleanup(older_than=9 * DAY, keep=3, at=now) == 1
    assert ids(store) == {"f3", "f4", "f5", "open", "paused"}
    assert store.cleanup(older_than=9 * DAY, keep=3, at=now) == 0
    move(store, Move.RESUME, "f3", at=now)
    assert store.cleanup(older_than=0, keep=0, at=now) == 2
    assert ids(store) == {"f3", "open", "paused"}


def test_cleanup_of_many_comes_to_its_end(store: StateStore) -> None:
    for number in range(250):
        epoch = begin(store, f"f{number}", at=AT)
        store.append(Change(f"f{number}", Move.COMPLETE, epoch, AT + number))
    assert store.cleanup(older_than=DAY, keep=20, at=AT + 1000) == 230
    assert ids(store) == {f"f{number}" for number in range(230, 250)}
    assert store.list_flows(status=[FlowStatus.COMPLETED], limit=1000).next_cursor is None


def test_content_goes_with_the_last_flow_that_names_it_in_sqlite(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "flows.db")
    ended(store, "f1", AT, LARGE)
    ended(store, "f2", AT, LARGE)
    connection = sqlite3.connect(tmp_path / "flows.db")

    def amount(table: str) -> int:
        number: int = connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        return number

    kept = amount("blobs")
    assert kept == 2, "of the line, and of what the row and the flow have: each once for both flows"
    store.delete("f1")
    assert amount("blobs") == kept
    store.delete("f2")
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    tables.remove("changes")  # one number
    assert {name: amount(name) for name in tables} == dict.fromkeys(tables, 0)
    connection.close()
    store.close()


@pytest.mark.redis
def test_nothing_is_left_of_a_flow_in_redis(redis_server: PrivateRedis, redis_client: redis.Redis) -> None:
    store = open_store(redis_server.url)
    ended(store, "f1", AT, LARGE)
    ended(store, "f2", AT, LARGE)
    assert len(list(redis_client.scan_iter("*:blob:*"))) == 2
    store.delete("f1")
    assert len(list(redis_client.scan_iter("*:blob:*"))) == 2
    store.delete("f2")
    assert set(redis_client.scan_iter()) == {b"{graflow:flows}:format", b"{graflow:flows}:changes"}
    store.close()


@pytest.mark.redis
def test_a_flow_in_redis_expires_after_its_end_and_not_before(
    redis_server: PrivateRedis, redis_client: redis.Redis
) -> None:
    store = open_store(f"{redis_server.url}?retention={5 * DAY:.0f}")
    epoch = begin(store)
    store.append(step_change(epoch, 1, value=LARGE))

    def lifetimes() -> set[int]:
        return {redis_client.ttl(key) for key in redis_client.scan_iter("*:flow:*")}  # type: ignore[misc]

    assert lifetimes() == {-1}
    move(store, Move.FAIL, flow={"error": "E: no"})
    assert len(list(redis_client.scan_iter("*:flow:*"))) == 3
    assert all(5 * DAY < lifetime <= 6 * DAY for lifetime in lifetimes())
    move(store, Move.RESUME)
    assert lifetimes() == {-1}
    store.claim("f1", "host:1:1", seen=store.get_record("f1"), at=AT + 60)  # type: ignore[arg-type]
    move(store, Move.COMPLETE)
    for key in redis_client.scan_iter("*:flow:*"):
        redis_client.delete(key)  # as if its time had come
    assert store.get_record("f1") is None
    assert ids(store) == set()
    store.cleanup(older_than=0, keep=0, at=AT + 100 * DAY)
    assert set(redis_client.scan_iter()) == {b"{graflow:flows}:format", b"{graflow:flows}:changes"}
    store.close()
