"""Opening, reading and publishing a group in the record, and the servers that may hold it."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import redis

from graflow.exceptions import ConfigError, GroupConflictError, GroupLostError, GroupNotFoundError, PayloadError
from graflow_celery.errors import RecordFullError
from graflow_celery.record import (
    Cursor,
    GroupRecord,
    GroupSpec,
    GroupState,
    Lease,
    MemberReport,
    MemberState,
    check_server,
    manifest_digest,
)
from tests.record_support import Clock, Half, finish, make_manifest, make_spec, open_group, swept
from tests.support import private_redis, wait_until

pytestmark = pytest.mark.redis

# opening


def test_a_group_is_opened_with_its_manifest_and_shared_payloads(record: GroupRecord) -> None:
    spec = make_spec(meta={"graph": "g"}, options={"priority": 3}, critical=(1,))

    opened = record.open(spec, make_manifest(spec), {"hash": b"big"})

    assert (opened.created, opened.state, opened.published) == (True, GroupState.RUNNING, False)
    assert record.manifests.envelopes("run", [2, 0, 9]) == [b"envelope 2", b"envelope 0", None]
    assert record.manifests.payloads("run", ["hash", "other"]) == {"hash": b"big"}
    header = record.header("run")
    assert header.spec == spec
    assert header.manifest_bytes == 33
    assert header.epoch == opened.epoch
    assert (header.status.pending, header.status.running) == (3, 0)
    assert record.open_groups() == ["run"]


def test_the_same_digest_attaches_and_another_conflicts(record: GroupRecord) -> None:
    spec = open_group(record)
    finish(record, 0)

    again = record.open(spec, make_manifest(spec))

    assert not again.created
    assert record.status("run").succeeded == 1
    with pytest.raises(GroupConflictError, match="run id") as caught:
        record.open(GroupSpec(run_id="run", group_id="group", n=3, digest="other"), make_manifest(spec))
    assert caught.value.run_id == "run"


def test_the_digest_depends_on_every_envelope_and_every_boundary() -> None:
    digests = {
        manifest_digest([b"ab", b"c"], {}),
        manifest_digest([b"a", b"bc"], {}),
        manifest_digest([b"ab"], {"c": b""}),
        manifest_digest([b"c", b"ab"], {}),
    }
    assert len(digests) == 4
    assert manifest_digest([b"x"], {"a": b"1", "b": b"2"}) == manifest_digest([b"x"], {"b": b"2", "a": b"1"})


def test_a_manifest_that_does_not_fit_is_refused(record: GroupRecord) -> None:
    with pytest.raises(PayloadError, match="needs 4 envelopes"):
        record.open(make_spec(continuation=True), [b""] * 3)
    with pytest.raises(PayloadError, match="1000000"):
        record.open(make_spec(n=1_000_001), [b""] * 1_000_001)
    assert record.open_groups() == []


def test_an_empty_group_is_done_at_once(record: GroupRecord) -> None:
    assert record.open(make_spec(n=0), []).state is GroupState.DONE
    assert record.read("run").closed
    assert record.open_groups() == []


def test_a_big_manifest_is_written_in_chunks(record: GroupRecord) -> None:
    spec = make_spec(n=5001)

    record.open(spec, [b"%d" % index for index in range(5001)])

    assert record.manifests.envelopes("run", [0, 2000, 5000]) == [b"0", b"2000", b"5000"]
    assert record.status("run").pending == 5001
    claim = record.claim("run", range(5001), "w")
    assert [*(member.index for member in claim.granted), *claim.left] == list(range(5001))


def test_a_group_that_was_never_opened_to_its_end_is_removed_by_the_sweeper(record: GroupRecord, clock: Clock) -> None:
    # Given a submitter that died between two chunks
    spec = make_spec(n=2001)
    record.manifests.write(spec, "opener", Half(range(2001)), {})
    assert record.header("run").state is GroupState.OPENING
    assert len(record.claim("run", [0], "w").refused) == 1

    clock.advance(599)
    swept(record)
    assert record.open_groups() == ["run"]
    clock.advance(2)
    swept(record)

    with pytest.raises(GroupNotFoundError):
        record.header("run")


def test_another_submitter_finishes_a_half_opened_group(record: GroupRecord) -> None:
    spec = make_spec(n=2001)
    manifest = [b"%d" % index for index in range(2001)]
    record.manifests.write(spec, "opener", Half(range(2001)), {})

    assert record.open(spec, manifest).created
    assert record.status("run").pending == 2001


def test_another_submitter_opens_a_half_opened_group_in_blocks_of_its_own(record: GroupRecord) -> None:
    record.manifests.write(make_spec(n=2001), "opener", Half(range(2001)), {})
    blocks = make_spec(n=2001, stride=1000)

    opened = record.open(blocks, [b"one", b"two", b"three"])

    assert (opened.created, opened.stride) == (True, 1000)
    assert record.manifests.chunks("run", [0, 1, 2]) == [b"one", b"two", b"three"]
    assert record.manifests.envelopes("run", [0, 1999]) == [None, None], "what the first one wrote is gone"
    assert record.status("run").pending == 2001
    assert record.open(make_spec(n=2001), [b""] * 2001).stride == 1000, "who comes later finds them so"


def test_two_who_open_a_group_in_different_blocks_do_not_mix_them(record: GroupRecord) -> None:
    n, others = 4002, iter([make_spec(n=4002, stride=2)])

    class Interrupted(list[bytes]):
        def __getitem__(self, item: Any) -> Any:
            if item.start and (other := next(others, None)):  # between the first piece of this one and its second
                record.manifests.write(other, "other", Half(range(other.blocks)), {})
            return super().__getitem__(item)

    opened = record.open(make_spec(n=n), Interrupted(b"%d" % index for index in range(n)))

    assert (opened.created, opened.stride) == (True, 0)
    assert record.manifests.envelopes("run", [0, 2000, 4001]) == [b"0", b"2000", b"4001"]
    assert record.manifests.chunks("run", [0, 2000]) == [None, None]
    assert record.status("run").pending == n


# reading


def test_a_reader_goes_on_from_its_cursor(record: GroupRecord) -> None:
    open_group(record)
    finish(record, 2)
    first = record.read("run")
    finish(record, 0)
    finish(record, 1)
    second = record.read("run", first.cursor, count=1)
    third = record.read("run", second.cursor, count=1)

    assert [o.index for o in first.outcomes + second.outcomes + third.outcomes] == [2, 0, 1]
    assert (second.more, second.closed, third.more, third.closed) == (True, False, False, True)


def test_a_blocked_reader_wakes_with_the_outcome(record: GroupRecord) -> None:
    open_group(record)
    record.claim("run", [0], "w")
    begun = threading.Event()
    batches = []

    def wait() -> None:
        begun.set()
        batches.append(record.read("run", block=30))

    reader = threading.Thread(target=wait)
    reader.start()
    begun.wait()
    record.complete("run", "w", [MemberReport(0, 1, MemberState.SUCCEEDED, b"")])
    reader.join(60)

    assert [o.index for o in batches[0].outcomes] == [0]


def test_one_event_wakes_every_reader_until_one_of_them_has_read(record: GroupRecord) -> None:
    # Given two readers that have seen all there is, and wait
    open_group(record)
    record.claim("run", [0, 1, 2], "w")
    found: list[list[int]] = []

    def read() -> None:
        found.append([outcome.index for outcome in record.read("run", block=30).outcomes])

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    wait_until(lambda: record.client.info("clients")["blocked_clients"] == len(readers))

    # When a member is reported
    record.complete("run", "w", [MemberReport(0, 1, MemberState.SUCCEEDED, b"")])
    for reader in readers:
        reader.join(60)

    # Then both have it, and what comes next tells of itself once
    assert found == [[0], [0]]
    for index in (1, 1):
        record.complete("run", "w", [MemberReport(index, 1, MemberState.SUCCEEDED, b"")])
    assert [data["kind"] for _, data in record.events("run")] == [b"open", b"record", b"record"]


@pytest.mark.parametrize(("n", "told"), [(100, [b"record"]), (10, [])], ids=["large", "small"])
def test_members_that_end_while_nobody_reads_are_one_event_at_most(
    record: GroupRecord, n: int, told: list[bytes]
) -> None:
    open_group(record, n=n)

    for index in range(9):
        finish(record, index)

    assert [data["kind"] for _, data in record.events("run")] == [b"open", *told]
    assert len(record.read("run", block=30).outcomes) == 9


def test_a_reader_that_waits_in_vain_comes_back_empty(record: GroupRecord) -> None:
    open_group(record)
    batch = record.read("run", block=0.01)
    assert (batch.outcomes, batch.closed, batch.status.pending) == ([], False, 3)


def test_a_wiped_server_is_noticed_by_its_readers(
    record: GroupRecord, record_server: redis.Redis, clock: Clock
) -> None:
    spec = open_group(record)
    cursor = record.read("run").cursor
    with pytest.raises(GroupNotFoundError):
        record.read("nowhere")

    record_server.flushall()
    clock.advance(0)
    with pytest.raises(GroupLostError, match="wiped"):
        record.read("run", cursor)
    record.open(spec, make_manifest(spec))
    with pytest.raises(GroupLostError, match="anew"):
        record.read("run", cursor)
    assert record.read("run", Cursor()).status.pending == 3


def test_events_are_capped_and_carry_progress(record: GroupRecord) -> None:
    open_group(record, n=1)
    member = record.claim("run", [0], "w").granted[0]
    for step in range(2000):
        record.progress(Lease("run", 0, member.attempt, "w"), b"%d" % step)
    events = record.events("run", count=5000)
    assert len(events) < 1300
    assert events[-1][1] == {"kind": b"progress", "index": b"0", "attempt": b"1", "data": b"1999"}
    assert record.events("run", events[-1][0]) == []


def test_a_run_that_is_unknown_is_not_found(record: GroupRecord) -> None:
    for ask in (record.header, record.status, record.outcomes):
        with pytest.raises(GroupNotFoundError) as caught:
            ask("nowhere")
        assert caught.value.run_id == "nowhere"


# publishing


def test_a_submitter_that_died_while_publishing_is_helped_out(record: GroupRecord) -> None:
    spec = open_group(record)
    record.claim("run", [1], "w")
    assert not record.open(spec, make_manifest(spec)).published

    record.expedite("run")
    assert swept(record)[0].waiting == [0, 2]

    record.mark_published("run")
    assert record.open(spec, make_manifest(spec)).published
    assert record.header("run").published


# workers


def test_workers_are_listed_while_they_beat(record: GroupRecord, clock: Clock) -> None:
    record.workers.beat("a", {"slots": 2, "queues": ["q"]})
    clock.advance(20)
    record.workers.beat("b", {"slots": 1})

    assert [(w.worker_id, w.age, w.info["slots"]) for w in record.live_workers()] == [("a", 20.0, 2), ("b", 0.0, 1)]
    clock.advance(11)
    assert [w.worker_id for w in record.live_workers()] == ["b"]
    record.workers.beat("b", {"slots": 1})
    assert sorted(record.client.hkeys("t:workers:info")) == [b"b", b"b#tasks"]
    record.workers.forget("b")
    assert record.live_workers() == []


def test_a_worker_rests_while_nothing_is_open_and_until_a_group_opens(record: GroupRecord, clock: Clock) -> None:
    # Given one that says that it will be silent for a while
    beat = record.workers.beat("a", {"slots": 1}, rest=7)
    assert beat.rests
    assert record.workers.score("a") == beat.score

    # Then it counts for as long as it said
    clock.advance(10)
    assert [(w.worker_id, w.age) for w in record.live_workers(4)] == [("a", 3.0)]
    clock.advance(2)
    assert record.live_workers(4) == []

    # When a group opens meanwhile, then it counts from there on only, and can see that
    beat = record.workers.beat("a", {"slots": 1}, rest=7)
    open_group(record)
    assert record.workers.score("a") != beat.score
    clock.advance(5)
    assert record.live_workers(4) == []
    assert not record.workers.beat("a", {"slots": 1}, rest=7).rests
    assert [(w.worker_id, w.age) for w in record.live_workers()] == [("a", 0.0)]

    # When that has ended, then it may rest again, until its members are retried
    finish(record, 0, state=MemberState.FAILED)
    finish(record, 1)
    finish(record, 2)
    beat = record.workers.beat("a", {"slots": 1}, rest=7)
    assert beat.rests
    record.reopen("run", "token")
    assert record.workers.score("a") != beat.score


def test_a_worker_tells_more_of_itself_only_when_it_is_new_or_changed(record: GroupRecord) -> None:
    for slots in (1, 1, 2):
        record.workers.beat("a", {"slots": slots})
    assert record.live_workers()[0].info["slots"] == 2
    record.client.flushall()
    record.client.set("test:now", 1_000_000_000_000)
    record.workers.beat("a", {"slots": 2})
    assert record.live_workers()[0].info["slots"] == 2


def test_no_standstill_is_seen_in_the_time_in_which_nothing_was_open(record: GroupRecord, clock: Clock) -> None:
    open_group(record, "first")
    swept(record)
    record.cancel("first")
    clock.advance(100)
    open_group(record, "second", n=1, lease=2)
    record.claim("second", [0], "dead")
    clock.advance(2.1)
    assert swept(record)[0].lost == [0]


# servers


def test_an_out_of_memory_server_refuses_the_whole_group(record: GroupRecord, record_server: redis.Redis) -> None:
    used = int(record_server.info("memory")["used_memory"])
    record_server.config_set("maxmemory", used + 6_000_000)
    try:
        with pytest.raises(RecordFullError, match="out of memory") as caught:
            record.open(make_spec(n=20), [b"x" * 1_000_000] * 20)
        assert caught.value.run_id == "run"
    finally:
        record_server.config_set("maxmemory", 0)
    assert list(record_server.scan_iter("t:run:*")) == []
    assert record.open_groups() == []


def test_an_out_of_memory_server_records_nothing_of_a_report(record: GroupRecord, record_server: redis.Redis) -> None:
    open_group(record)
    record.claim("run", [0, 1], "w")
    before = record.header("run")
    record_server.config_set("maxmemory", 1)
    try:
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            record.complete("run", "w", [MemberReport(0, 1, MemberState.SUCCEEDED, b"")])
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            record.cancel("run")
    finally:
        record_server.config_set("maxmemory", 0)
    assert record.header("run").status == before.status
    assert record.complete("run", "w", [MemberReport(0, 1, MemberState.SUCCEEDED, b"")]).recorded == [0]


def test_a_replica_takes_nothing_and_the_report_can_be_repeated(
    record: GroupRecord, record_server: redis.Redis
) -> None:
    open_group(record)
    record.claim("run", [0], "w")
    result = MemberReport(0, 1, MemberState.SUCCEEDED, b"")
    record_server.replicaof("127.0.0.1", "1")
    try:
        with pytest.raises(redis.exceptions.ReadOnlyError):
            record.complete("run", "w", [result])
    finally:
        record_server.replicaof("NO", "ONE")
    assert record.complete("run", "w", [result]).recorded == [0]


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-random"])
def test_a_server_that_evicts_any_key_is_refused(record_server: redis.Redis, policy: str) -> None:
    record_server.config_set("maxmemory-policy", policy)
    try:
        with pytest.raises(ConfigError, match=policy):
            check_server(record_server)
    finally:
        record_server.config_set("maxmemory-policy", "noeviction")
    check_server(record_server)


def test_a_redis_cluster_is_refused() -> None:
    with (
        private_redis(unix_socket=True, options=["--cluster-enabled", "yes"]) as cluster,
        cluster.client() as client,
        pytest.raises(ConfigError, match="Cluster"),
    ):
        check_server(client)


def test_a_client_that_decodes_its_answers_is_refused(record_server: redis.Redis) -> None:
    with pytest.raises(ConfigError, match="bytes"):
        GroupRecord(redis.Redis(decode_responses=True))


def test_the_scripts_run_on_the_time_of_the_server(record_server: redis.Redis) -> None:
    record = GroupRecord(record_server, "real")
    record.open(make_spec(n=1, result_ttl=5), [b""])
    whole, _ = record_server.time()
    assert abs(record.header("run").opened_at - whole) < 5
    record.cancel("run")
    assert record_server.pttl("real:run:header") <= 5000
