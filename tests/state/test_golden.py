"""What earlier versions have stored is read as it was written. The files are made by running this module."""

from __future__ import annotations

import base64
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import redis

from graflow.state import SqliteStore, StateStore, open_store
from graflow.state.cache import CachedValue, CacheKey, Computation
from graflow.state.changes import Change, Entry, Request, RequestKind
from graflow.state.redis.server import FORMAT
from graflow.state.sqlite.schema import APPLICATION_ID, VERSION
from graflow.state.statuses import Move
from tests.state.support import AT, begin, block, completed, group_row, member, move, new_flow, step_change
from tests.support import PrivateRedis, private_redis

GOLDEN = Path(__file__).parent / "golden"
LONG = "0123456789" * 600  # kept compressed
LARGE = "large " * 50_000  # kept as a blob
WITH_KEPT_VALUES = 3  # the first format of files that has them
WITH_BLOCKS = {"sqlite": 5, "redis": 2}  # the first formats that have members in blocks
KEPT = CachedValue({"code": "c1"}, {"flow_id": "whole", "step": "s1", "visit": 1}, AT, AT + 1e9, LONG)


def write_everything(store: StateStore) -> None:
    """One of everything that a store keeps."""
    epoch = begin(store, "whole", inputs={"paths": ["a.txt", "żółw"], "text": LONG}, flow={"fingerprint": {"a": LARGE}})
    store.append(step_change(epoch, 1, "whole", value=[1, 2.5, None, True, {"a": "ż"}]))
    store.append(step_change(epoch, 2, "whole", value=LARGE))
    store.append(step_change(epoch, 3, "whole", value=LONG))
    store.append(
        Change("whole", Move.STEP, epoch, AT + 5, steps=[group_row(100)], entries=[Entry("step.started", "g", 1)])
    )
    store.append(
        Change(
            "whole",
            Move.STEP,
            epoch,
            AT + 6,
            members=[member(0, outputs=0, worker="w1", attempts=1), member(99, "failed", error="E: no")],
            entries=[Entry("group.members", "g", 1, data={"outcomes": [{"index": 0}, {"index": 99}]})],
        )
    )
    store.append(
        Change(
            "whole",
            Move.COMPLETE,
            epoch,
            AT + 9,
            steps=[completed("g", at=AT + 9, source={"flow_id": "f0", "step": "g", "visit": 1, "why": "same"})],
            flow={"outputs": LARGE, "metadata": {"who": "me"}},
        )
    )
    epoch = begin(store, "in_blocks", at=AT + 8)
    rows = [group_row(20)]
    store.append(Change("in_blocks", Move.STEP, epoch, AT + 9, steps=rows, blocks=[block(5, [7, {"a": "ż"}, LONG])]))
    store.append(Change("in_blocks", Move.STEP, epoch, AT + 9, members=[member(6, "failed", error="E: no")]))
    epoch = begin(store, "asked", at=AT + 10)
    store.request("asked", Request(RequestKind.PAUSE, "cli me", "lunch", AT + 12))
    store.beat("asked", epoch)
    store.create(new_flow("asleep", at=AT + 20, parent_flow_id="whole", parent_step="s2"))
    move(store, Move.QUEUE, "asleep", at=AT + 21, flow={"wake_at": AT + 1000})
    assert store.cache is not None
    key = CacheKey("digest", "analyse", KEPT.parts)
    store.cache.begin(key, Computation("host:1:1", "t1", 0), at=AT, since=AT)
    store.cache.fill(key, "t1", LONG, at=AT, expires_at=AT + 1e9, source=KEPT.source)


def picture(store: StateStore) -> dict[str, Any]:
    """All that can be read of these flows, as JSON."""
    flows: dict[str, Any] = {}
    for flow_id in ("whole", "asked", "asleep"):
        state, record = store.get_flow_state(flow_id), store.get_record(flow_id)
        assert state is not None
        assert record is not None
        assert state.seq == record.seq == len(store.events(flow_id))
        flows[flow_id] = {
            "state": state.model_dump(
                mode="json", exclude={"total_execution_time", "schema_version", "seq"}, exclude_none=True
            ),
            "fields": dict(record.fields),
            "owner": [record.owner, record.epoch, record.beats, record.version, record.input_digest],
            "requests": [[each.kind, each.by, each.reason, each.at] for each in record.requests],
            "journal": [
                [line.seq, line.kind, line.step, line.visit, line.index, line.attempt, line.at, line.epoch, line.data]
                for line in store.events(flow_id)
            ],
            "members": [
                each.model_dump(mode="json", exclude_none=True) for each in store.list_members(flow_id, "g", limit=200)
            ],
        }
    text = json.dumps(flows).replace(LARGE, "<large>").replace(LONG, "<long>")
    found: dict[str, Any] = json.loads(text)
    return found


def picture_of_blocks(store: StateStore) -> Any:
    """All that can be read of members in blocks, as JSON."""
    state = store.get_flow_state("in_blocks")
    assert state is not None
    (group,) = state.steps
    members = store.list_members("in_blocks", "g", limit=200)
    return [
        [group.counts, group.strip],
        [each.model_dump(mode="json", exclude_none=True) for each in members],
    ]


def expected(name: str = "read.json") -> Any:
    return json.loads((GOLDEN / name).read_text())


def load_sqlite(name: str, path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.executescript((GOLDEN / name).read_text())
    connection.close()


def load_redis(name: str, client: redis.Redis) -> None:
    for line in (GOLDEN / name).read_text().splitlines():
        for command in json.loads(line):
            client.execute_command(*(base64.b64decode(part) for part in command))


@pytest.mark.parametrize("version", range(1, VERSION + 1))
def test_a_file_of_every_format_is_read_and_goes_on(version: int, tmp_path: Path) -> None:
    load_sqlite(f"sqlite-{version}.sql", tmp_path / "flows.db")
    store = SqliteStore(tmp_path / "flows.db")
    assert picture(store) == expected()
    if version >= WITH_BLOCKS["sqlite"]:
        assert picture_of_blocks(store) == expected("blocks.json")
    assert store.cache.get("digest") == (KEPT if version >= WITH_KEPT_VALUES else None)
    goes_on(store)
    store.close()


@pytest.mark.redis
@pytest.mark.parametrize("version", range(1, FORMAT + 1))
def test_a_redis_of_every_format_is_read_and_goes_on(
    version: int, redis_server: PrivateRedis, redis_client: redis.Redis
) -> None:
    load_redis(f"redis-{version}.json", redis_client)
    store = open_store(redis_server.url)
    assert picture(store) == expected()
    if version >= WITH_BLOCKS["redis"]:
        assert picture_of_blocks(store) == expected("blocks.json")
    goes_on(store)
    store.close()


def goes_on(store: StateStore) -> None:
    """What is written to it now comes behind what was there."""
    move(store, Move.RETRY, "whole", cut=[("g", 1)], flow={"generation": 1})
    move(store, Move.STOP, "asked")
    seen = store.get_record("whole")
    assert seen is not None
    epoch = store.claim("whole", "host:9:9", seen=seen, at=AT + 90).epoch
    assert epoch == 3
    assert store.append(step_change(epoch, 4, "whole")).seq == 10
    assert [flow.flow_id for flow in store.list_flows(search="ŻÓŁW")] == ["whole"]
    assert [each.flow_id for each in store.list_flows() if each.flow_id != "in_blocks"] == ["asleep", "asked", "whole"]


def test_what_is_written_now_is_read_as_the_golden_files_are(store: StateStore) -> None:
    write_everything(store)
    read = picture(store)
    if type(store).__name__ == "MemoryStore":
        read["whole"]["state"]["steps"][1].pop("outputs")  # it has no reason to leave a large one out
    assert read == expected()
    assert picture_of_blocks(store) == expected("blocks.json")


def _dump() -> None:
    GOLDEN.mkdir(exist_ok=True)
    path = GOLDEN / "flows.db"
    store = SqliteStore(path)
    write_everything(store)
    (GOLDEN / "read.json").write_text(json.dumps(picture(store), indent=1, ensure_ascii=False) + "\n")
    (GOLDEN / "blocks.json").write_text(json.dumps(picture_of_blocks(store), indent=1, ensure_ascii=False) + "\n")
    store.close()
    with sqlite3.connect(path) as connection:
        pragmas = f"PRAGMA application_id = {APPLICATION_ID};\nPRAGMA user_version = {VERSION};\n"
        (GOLDEN / f"sqlite-{VERSION}.sql").write_text("\n".join(connection.iterdump()) + "\n" + pragmas)
    connection.close()
    for file in GOLDEN.glob("flows.db*"):
        file.unlink()
    with private_redis() as server, server.client() as client:
        redis_store = open_store(server.url)
        write_everything(redis_store)
        lines = [json.dumps(_commands(client, key)) for key in sorted(client.scan_iter())]
        (GOLDEN / f"redis-{FORMAT}.json").write_text("\n".join(lines) + "\n")
        redis_store.close()


def _commands(client: redis.Redis, key: bytes) -> list[list[str]]:
    """What brings a key back: a dump by a server's own command would bind the file to its version."""
    kind: Any = client.type(key)
    commands: list[list[Any]]
    if kind == b"hash":
        commands = [["HSET", key, *(part for pair in sorted(client.hgetall(key).items()) for part in pair)]]  # type: ignore[union-attr]
    elif kind == b"zset":
        commands = [["ZADD", key, repr(score), member] for member, score in client.zrange(key, 0, -1, withscores=True)]  # type: ignore[union-attr]
    elif kind == b"set":
        commands = [["SADD", key, member] for member in client.smembers(key)]  # type: ignore[union-attr]
    elif kind == b"stream":
        commands = [
            ["XADD", key, number, *(part for pair in fields.items() for part in pair)]
            for number, fields in client.xrange(key)  # type: ignore[union-attr]
        ]
    else:
        commands = [["SET", key, client.get(key)]]
    return [
        [base64.b64encode(p if isinstance(p, bytes) else p.encode()).decode() for p in command] for command in commands
    ]


if __name__ == "__main__":
    _dump()
