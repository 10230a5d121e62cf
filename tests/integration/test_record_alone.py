"""The short ways of one member do what the long ways do."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graflow_celery.record import GroupRecord, Lease, MemberReport, MemberState
from graflow_celery.record.scripts import ALONE, LUA
from tests.record_support import clocked, clocked_record, make_manifest, make_spec, swept

pytestmark = pytest.mark.redis

MEMBERS = 3

indices = st.integers(0, MEMBERS)
owners = st.sampled_from(["a", "b"])
attempts = st.integers(0, 2)
limits = st.sampled_from(
    [
        {},
        {"max_in_flight": 1},
        {"max_in_flight": 2},
        {"max_attempts": 1},
        {"attempts": {"1": 1}},
        {"timeout": 40.0},
        {"continuation": True},
        {"queue_wait": 5.0},
    ]
)
usual = st.one_of(
    st.tuples(st.just("finish"), indices, owners),
    st.tuples(st.just("claim"), indices, owners, st.booleans()),
    st.tuples(st.just("complete"), indices, owners, st.just(1), st.just(MemberState.SUCCEEDED)),
)
unusual = st.one_of(
    st.tuples(st.just("finish"), indices, owners),
    st.tuples(st.just("complete"), indices, owners, attempts, st.sampled_from(MemberState)),
    st.tuples(st.sampled_from(["abandon", "release", "beat", "retry"]), indices, owners),
    st.tuples(st.sampled_from(["read", "sweep", "expedite", "cancel"])),
    st.tuples(st.just("later"), st.sampled_from([1, 31])),
)

USUALLY = [("claim", True), ("complete", 1, MemberState.SUCCEEDED)]


def long_ways(name: str) -> str:
    text = clocked(name)
    if name not in ALONE:
        return text
    short = (LUA / f"{name}_alone.lua").read_text(encoding="utf-8")
    assert short in text
    return text.replace(short, "")


def do(record: GroupRecord, step: tuple[Any, ...]) -> Any:
    match step:
        case "claim", index, owner, envelopes:
            return record.claim("run", [index], owner, envelopes=envelopes)
        case "complete", index, owner, attempt, state:
            return record.complete("run", owner, [MemberReport(index, attempt, state, b"payload of %d" % index)])
        case "finish", index, owner:
            return [do(record, (what, index, owner, *more)) for what, *more in USUALLY]
        case "beat", index, owner:
            return record.beat([Lease("run", index, 1, owner)])
        case "retry", index, owner:
            return record.retry("run", owner, index, 1, 2.0)
        case what, index, owner:
            return getattr(record, what)("run", owner, [index])
        case ("read",):
            return record.read("run").status
        case ("sweep",):
            return swept(record)
        case (what,):
            return getattr(record, what)("run")


def kept(client: redis.Redis, prefix: str) -> dict[str, Any]:
    """What the server holds under a prefix, without the names of events, which are times."""
    found = {}
    for key in client.scan_iter(f"{prefix}:*"):
        name = key.decode().removeprefix(prefix)
        match client.type(key):
            case b"hash":
                found[name] = client.hgetall(key)
            case b"zset":
                found[name] = client.zrange(key, 0, -1, withscores=True)
            case b"list":
                found[name] = client.lrange(key, 0, -1)
            case b"stream":
                found[name] = [fields for _, fields in client.xrange(key)]
            case other:
                found[name] = other, client.get(key)
    for own in ("epoch", "opener", "swept"):  # are drawn by lot
        found.get(":run:header", {}).pop(own.encode(), None)
    found.pop(":epoch", None)
    return found


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(limits=limits, script=st.lists(st.one_of(usual, usual, unusual), min_size=8, max_size=20))
def test_one_member_is_claimed_and_reported_alike_on_the_short_and_on_the_long_way(
    record_server: redis.Redis, limits: dict[str, Any], script: list[tuple[Any, ...]]
) -> None:
    record_server.flushall()
    short, clock = clocked_record(record_server, "short")
    long, _ = clocked_record(record_server, "long", load=long_ways)
    spec = make_spec(n=MEMBERS, **limits)
    for record in (short, long):
        record.open(spec, make_manifest(spec))

    for step in script:
        if step[0] == "later":
            clock.advance(step[1])
        else:
            assert do(short, step) == do(long, step)

        assert kept(record_server, "short") == kept(record_server, "long")
