"""A record that is not there: expired, evicted, deleted, wiped out and never there are told apart."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from graflow.core.branches.outcome import BranchOutcome
from graflow.exceptions import GraflowRuntimeError, GroupLostError, GroupNotFoundError
from graflow_celery import GroupHandle, attach, submit
from graflow_celery.client.waiting.waiter import Waiter
from graflow_celery.deployment import deployment_of
from graflow_celery.record import GroupRecord, MemberReport, MemberState
from graflow_celery.settings import GroupOptions
from graflow_celery.wire.outcomes import pack_outcome
from tests.integration.members import double
from tests.support import PrivateRedis, private_redis, wait_until

pytestmark = pytest.mark.redis


@pytest.fixture
def server() -> Iterator[PrivateRedis]:
    with private_redis() as server:
        yield server


def submitted(server: PrivateRedis, **options: Any) -> GroupHandle[Any]:
    return submit(double.map([1, 2], name="g"), {"url": server.url, **options})


def record_of(server: PrivateRedis) -> GroupRecord:
    return deployment_of({"url": server.url}).record


def succeeded(index: int) -> MemberReport:
    name = f"g[{index}]"
    outcome = BranchOutcome(name, success=True, value=index, results=[(name, index)], completed=[name])
    return MemberReport(index, 1, MemberState.SUCCEEDED, pack_outcome(outcome))


def work_off(server: PrivateRedis, run_id: str) -> None:
    """Claim and report everything, as a worker does."""
    for index in range(2):
        record_of(server).claim(run_id, [index], "w")
        record_of(server).complete(run_id, "w", [succeeded(index)])


@pytest.mark.parametrize("attempts", [1, 4])
def test_results_that_have_expired_run_nothing_again(server: PrivateRedis, attempts: int) -> None:
    # Given a group whose results were not asked for in time
    handle = submitted(server, result_ttl=0.2, max_attempts=attempts)
    work_off(server, handle.run_id)
    wait_until(lambda: not server.client().exists(f"graflow:{handle.run_id}:header"))
    wait_until(lambda: handle._sighting._unseen() > 0.2)

    # When they are, that is told, however it is asked
    for call in (handle.results, handle.outcomes, handle.status, handle.cancel, handle.retry):
        with pytest.raises(GroupNotFoundError, match=r"expired, 0\.2 s after its end"):
            call()

    # And nothing was submitted again
    assert not server.client().keys(f"graflow:{handle.run_id}:*")


def test_a_record_that_was_deleted_is_not_written_again(server: PrivateRedis) -> None:
    handle = submitted(server)
    record_of(server).delete(handle.run_id)

    with pytest.raises(GroupNotFoundError, match="was deleted"):
        handle.results(timeout=10)


def test_a_record_that_was_evicted_is_not_written_again(server: PrivateRedis) -> None:
    # Given a server that evicts what expires, and a group that has ended
    handle = submitted(server)
    work_off(server, handle.run_id)
    client = server.client()
    client.config_set("maxmemory-policy", "volatile-lru")
    client.config_set("maxmemory", client.info("memory")["used_memory"] - 1000)
    filler = iter(range(100_000))
    wait_until(lambda: client.set(f"filler{next(filler)}", "x" * 1000, ex=1000) and not _has(server, handle.run_id))

    with pytest.raises(GroupNotFoundError, match="evicted"):
        handle.results(timeout=10)


def _has(server: PrivateRedis, run_id: str) -> int:
    return int(server.client().exists(f"graflow:{run_id}:header"))


@pytest.mark.parametrize("evicted", ["outcomes", "order"])
def test_a_record_that_lost_a_part_says_so(server: PrivateRedis, evicted: str) -> None:
    handle = submitted(server)
    work_off(server, handle.run_id)
    server.client().delete(f"graflow:{handle.run_id}:{evicted}")

    for call in (handle.results, handle.retry, attach(handle.run_id, {"url": server.url}).results):
        with pytest.raises(GroupNotFoundError, match=r"only a part of its record is left \(header, "):
            call()


def test_a_record_that_lost_its_header_is_told_from_none(server: PrivateRedis) -> None:
    handle = submitted(server)
    work_off(server, handle.run_id)
    server.client().delete(f"graflow:{handle.run_id}:header")

    with pytest.raises(GroupNotFoundError, match="only a part of its record is left"):
        attach(handle.run_id, {"url": server.url})
    with pytest.raises(GroupNotFoundError, match="wrong key_prefix, or its record has expired"):
        attach("never", {"url": server.url})


def test_what_is_left_of_a_run_does_not_count_for_the_next_one(server: PrivateRedis) -> None:
    handle = submitted(server, batch_size=1)
    work_off(server, handle.run_id)
    server.client().delete(f"graflow:{handle.run_id}:header")

    again = submit(double.map([1, 2], name="g"), {"url": server.url}, run_id=handle.run_id)
    assert record_of(server).outcomes(again.run_id) == []
    work_off(server, again.run_id)
    assert again.results(timeout=10) == [0, 1]


def test_a_wiped_record_is_written_again_by_who_submitted_it(server: PrivateRedis) -> None:
    # Given a group with one outcome that was read
    handle = submitted(server)
    record_of(server).claim(handle.run_id, [0, 1], "w")
    record_of(server).complete(handle.run_id, "w", [succeeded(0)])
    other = attach(handle.run_id, {"url": server.url})
    next(handle.as_completed())

    # When the server loses everything
    server.client().flushall()

    # Then others are told so, and its submitter goes on with what it knew
    with pytest.raises(GroupLostError, match="wiped"):
        other.results(timeout=10)
    with pytest.raises(GroupNotFoundError, match="wiped"):
        other.status()
    list(handle._waiter.until(handle._runtime.monotonic() + 0.5))
    assert [outcome.index for outcome in record_of(server).outcomes(handle.run_id)] == [0]


def test_a_group_that_was_opened_anew_is_lost_to_who_had_read_it_also_when_the_server_is_slow_to_tell(
    server: PrivateRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given somebody who has read an outcome of a group, which its submitter opens anew when the server has lost it
    handle = submitted(server)
    record_of(server).claim(handle.run_id, [0, 1], "w")
    record_of(server).complete(handle.run_id, "w", [succeeded(0)])
    other = attach(handle.run_id, {"url": server.url})
    next(other.as_completed())
    server.client().flushall()
    list(handle._waiter.until(handle._runtime.monotonic() + 0.5))
    assert record_of(server).status(handle.run_id).pending == 2

    # When the server does not answer, once, while the other one asks what became of it
    explain = other._sighting.explain
    answers = iter([redis.exceptions.TimeoutError("slow")])

    def slow(error: GraflowRuntimeError) -> GraflowRuntimeError:
        for unanswered in answers:
            raise unanswered
        return explain(error)

    monkeypatch.setattr(other._sighting, "explain", slow)

    # Then it is told of the loss, and enters nothing into the record of somebody else
    with pytest.raises(GroupLostError):
        other.results(timeout=10)
    assert record_of(server).outcomes(handle.run_id) == []


def test_a_server_that_came_back_without_its_last_writes_is_repaired(server: PrivateRedis) -> None:
    # Given a server that was saved before a group was opened
    work_off(server, submitted(server).run_id)
    server.client().save()
    handle = submitted(server)

    # When it comes back as it was then, its epoch is the same, and it is another server
    server.restart()
    list(handle._waiter.until(handle._runtime.monotonic() + 2))

    assert record_of(server).status(handle.run_id).total == 2


def test_who_keeps_outcomes_of_its_own_goes_on_without_the_record(server: PrivateRedis) -> None:
    # Given a durable flow that waits for a group, whose record goes while it sleeps
    deployment, options = deployment_of({"url": server.url}), GroupOptions(worker_wait=60)
    handle = submitted(server)
    submission = handle._waiter._resubmission._submission
    waiter = Waiter(deployment, handle._spec, options, submission, sighting=handle._sighting, is_durable=True)
    record_of(server).delete(handle.run_id)

    # When it looks again, the group is there again
    list(waiter.until(deployment.runtime.monotonic() + 0.5))
    assert record_of(server).status(handle.run_id).total == 2
