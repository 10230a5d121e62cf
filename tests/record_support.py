"""A group record on private servers, with a clock that tests move."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from graflow_celery.record import GroupRecord, GroupSpec, MemberReport, MemberState, Republish, Since
from graflow_celery.record.group_record import STANDSTILL
from graflow_celery.record.scripts import Scripts, source
from tests.lasting_keys import lasting_keys
from tests.support import private_redis, server_binaries

CLOCK_KEY = "test:now"
START = 1_000_000_000.0


def clocked(name: str) -> str:
    """A script that reads its time from a key instead of the server's clock."""
    text = source(name)
    real = "  local time = redis.call('TIME')\n  return time[1] * 1000 + math.floor(time[2] / 1000)\n"
    assert real in text
    return text.replace(real, f"  return tonumber(redis.call('GET', '{CLOCK_KEY}'))\n")


class Clock:
    """The time that clocked scripts see, in seconds."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self.now = START
        self.set(START)

    def set(self, now: float) -> None:
        self.now = now
        self._client.set(CLOCK_KEY, round(now * 1000))

    def advance(self, seconds: float) -> None:
        self.set(self.now + seconds)


def clocked_record(
    client: redis.Redis, prefix: str = "t", *, load: Callable[[str], str] = clocked
) -> tuple[GroupRecord, Clock]:
    return GroupRecord(client, prefix, scripts=Scripts(client, load)), Clock(client)


@pytest.fixture(scope="module", params=sorted(server_binaries()))
def record_server(request: pytest.FixtureRequest) -> Iterator[redis.Redis]:
    """An empty server of each kind that is here."""
    binary = server_binaries()[request.param]
    with private_redis(unix_socket=True, binary=binary) as server, server.client() as client:
        yield client


@pytest.fixture
def record_world(record_server: redis.Redis) -> Iterator[tuple[GroupRecord, Clock]]:
    record_server.flushall()
    yield clocked_record(record_server)
    assert lasting_keys(record_server) == []


@pytest.fixture
def record(record_world: tuple[GroupRecord, Clock]) -> GroupRecord:
    return record_world[0]


@pytest.fixture
def clock(record_world: tuple[GroupRecord, Clock]) -> Clock:
    return record_world[1]


def make_spec(run_id: str = "run", n: int = 3, **changes: Any) -> GroupSpec:
    return GroupSpec(run_id=run_id, group_id="group", n=n, digest="digest", **{"min_success": n, **changes})


def make_manifest(spec: GroupSpec) -> list[bytes]:
    return [b"envelope %d" % index for index in range(spec.n + int(spec.continuation))]


def open_group(record: GroupRecord, run_id: str = "run", n: int = 3, **changes: Any) -> GroupSpec:
    spec = make_spec(run_id, n, **changes)
    assert record.open(spec, make_manifest(spec)).created
    return spec


def finish(
    record: GroupRecord,
    index: int,
    *,
    run_id: str = "run",
    owner: str = "w",
    state: MemberState = MemberState.SUCCEEDED,
) -> Any:
    attempt = record.claim(run_id, [index], owner).granted[0].attempt
    return record.complete(run_id, owner, [MemberReport(index, attempt, state, b"payload %d" % index)])


def advance(record: GroupRecord, clock: Clock, seconds: float) -> None:
    """Time passes while a sweeper looks at every second, so that nothing seems to stand still."""
    for _ in range(int(seconds)):
        clock.advance(1)
        record.look(0, since=Since(clock.now - 1.0, 1.0, 1.0))


def swept(record: GroupRecord, limit: int = 1000, *, interval: float = 1.0) -> list[Republish]:
    """What a sweeper finds that looks now."""
    look = record.look(limit, interval=interval)
    if look.pause > interval * STANDSTILL:  # whoever looks for the first time leaves it for the next
        look = record.look(limit, interval=interval, since=Since(look.time, 0.0, 0.0))
    found = (record.sweep(run_id, uuid.uuid4().hex, limit) for run_id in look.due)
    return [again for again in found if again is not None]


class Half(list[bytes]):
    """A manifest whose second chunk cannot be read."""

    def __init__(self, source: range) -> None:
        super().__init__(b"%d" % index for index in source)

    def __getitem__(self, item: Any) -> Any:
        return super().__getitem__(item) if item.start == 0 else []
