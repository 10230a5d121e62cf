"""Waiting for a group on its record."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from graflow.exceptions import ParallelGroupError
from graflow_celery import GroupHandle, attach
from graflow_celery.client.waiting.waiter import LONGEST_SLICE, Waiter
from graflow_celery.deployment import deployment_of
from graflow_celery.record import GroupRecord, MemberReport, MemberState
from graflow_celery.settings import GroupOptions
from tests.record_support import make_manifest, make_spec, open_group
from tests.support import give_way, private_redis, wait_until

pytestmark = pytest.mark.redis


def test_who_waits_for_many_open_members_takes_many_outcomes_at_once() -> None:
    # Given somebody who waits for a large group, whose members end one after another
    members = 500
    with private_redis() as server:
        deployment = deployment_of({"url": server.url})
        record = deployment.record
        open_group(record, n=members)
        record.claim("run", range(members), "w")
        batches: list[list[int]] = []

        def wait() -> None:
            found = Waiter(deployment, make_spec(n=members), GroupOptions(worker_wait=60)).until(None)
            batches.extend([outcome.index for outcome in fresh] for fresh in found)

        waiter = threading.Thread(target=wait)
        waiter.start()

        # When each is reported on its own
        for index in range(members):
            record.complete("run", "w", [MemberReport(index, 1, MemberState.SUCCEEDED, b"")])
        waiter.join(60)

    assert [index for batch in batches for index in batch] == list(range(members))
    assert len(batches) < members / 2


@pytest.fixture
def waiter() -> Iterator[Waiter]:
    """Waits for a group of three members, none of which has ended."""
    with private_redis() as server:
        deployment = deployment_of({"url": server.url})
        open_group(deployment.record, n=3)
        yield Waiter(deployment, make_spec(n=3), GroupOptions(worker_wait=60))


def test_what_is_told_of_a_run_waits_for_a_record_that_refuses_for_now(
    waiter: Waiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = waiter.deployment.record
    read, refused = record.header, []

    def refusing(run_id: str) -> Any:
        refused.append(run_id)
        if len(refused) <= 2:
            raise redis.exceptions.BusyLoadingError("LOADING")
        return read(run_id)

    monkeypatch.setattr(record, "header", refusing)

    assert waiter.header().spec.n == waiter.header().spec.n == 3
    assert len(refused) == 3


def test_a_process_that_stood_still_for_an_hour_has_not_waited_for_one(
    waiter: Waiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a process that is stopped while it waits, and whose connection is gone when it goes on
    runtime, record = waiter.deployment.runtime, waiter.deployment.record
    monotonic, read, tries = runtime.monotonic, record.read, []

    def cut_off(*args: Any, **named: Any) -> Any:
        tries.append(args)
        if len(tries) == 1:
            monkeypatch.setattr(runtime, "monotonic", lambda: monotonic() + 3600.0)
        if len(tries) <= 3:
            raise redis.exceptions.ConnectionError
        return read(*args, **named)

    monkeypatch.setattr(record, "read", cut_off)
    record.cancel("run")

    # Then it hears of its members
    found = [outcome.index for fresh in waiter.until(monotonic() + 7200.0) for outcome in fresh]
    assert found == [0, 1, 2]


def test_each_thread_keeps_the_time_of_its_own_wait(waiter: Waiter) -> None:
    # Given a thread that waits for all members
    found: list[int] = []
    threading.Thread(
        target=lambda: found.extend(outcome.index for fresh in waiter.until(None) for outcome in fresh), daemon=True
    ).start()
    client = waiter.deployment.client
    wait_until(lambda: client.info("clients")["blocked_clients"] == 1)

    # When another one waits for a moment, it goes on after that
    begun = time.monotonic()
    assert list(waiter.until(begun + 0.2)) == []
    assert time.monotonic() - begun < LONGEST_SLICE

    # And both see what comes, whoever reads it first
    waiter.deployment.record.claim("run", range(3), "w")
    waiter.deployment.record.complete("run", "w", [MemberReport(i, 1, MemberState.SUCCEEDED, b"") for i in range(3)])
    here = [outcome.index for fresh in waiter.until(time.monotonic() + 10, known=0) for outcome in fresh]
    wait_until(lambda: len(found) == 3)
    assert sorted(here) == sorted(found) == [0, 1, 2]


def test_a_short_timeout_of_the_socket_is_no_outage(caplog: pytest.LogCaptureFixture) -> None:
    with private_redis() as server:
        deployment = deployment_of({"url": server.url, "socket_timeout": 1.0})
        open_group(deployment.record, n=1)

        found = list(Waiter(deployment, make_spec(n=1), GroupOptions(worker_wait=60)).until(time.monotonic() + 2.2))

    assert found == []
    assert caplog.messages == []


def test_any_number_of_awaited_handles_take_one_thread_and_one_connection() -> None:
    names = [f"run{place}" for place in range(300)]

    async def await_them(config: dict[str, str], client: redis.Redis) -> None:
        handles = [attach(name, config) for name in names]
        before = len(client.client_list())
        threads = threading.active_count()

        # When all are awaited at once
        waiting = [asyncio.ensure_future(_of(handle)) for handle in handles]
        await give_way()
        await _until(lambda: client.info("clients")["blocked_clients"] == 1)
        assert threading.active_count() == threads + 1
        assert len(client.client_list()) <= before + 1

        # Then the one that ends is told, and the others go on
        begun = time.monotonic()
        handles[7].cancel()
        with pytest.raises(ParallelGroupError):
            await waiting[7]
        assert time.monotonic() - begun < LONGEST_SLICE
        assert [task.done() for task in waiting].count(True) == 1

        # And nothing is left of those that nobody waits for any more
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await _until(lambda: threading.active_count() == threads)

    with private_redis() as server:
        config = {"url": server.url}
        record = deployment_of(config).record
        for name in names:
            open_group(record, name, meta={"regular": True})
            record.mark_published(name)  # else whoever waits long enough sends its members, over connections of its own
        asyncio.run(await_them(config, record.client))


async def _of(handle: GroupHandle) -> list[Any]:
    return await handle


async def _until(is_so: Callable[[], bool]) -> None:
    """Let the event loop go on until something is so."""
    end = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < end
        await asyncio.sleep(0.01)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., tuple[Waiter, list[float]]]]:
    """Opens a group of some members and gives who waits for it, with the times of its looks at the record."""
    with private_redis() as server:
        deployment = deployment_of({"url": server.url})
        looks: list[float] = []
        read = deployment.record._read

        def counted(*args: Any) -> Any:
            looks.append(time.monotonic())
            return read(*args)

        monkeypatch.setattr(deployment.record, "_read", counted)

        def opened(n: int) -> tuple[Waiter, list[float]]:
            spec = make_spec(n=n)
            event = deployment.record.open(spec, make_manifest(spec)).event
            return Waiter(deployment, spec, GroupOptions(worker_wait=60), event=event), looks

        yield opened


def end_one_after_another(record: GroupRecord, n: int) -> None:
    record.claim("run", range(n), "w")
    for index in range(n):
        record.complete("run", "w", [MemberReport(index, 1, MemberState.SUCCEEDED, b"")])


def test_a_small_group_that_is_wanted_as_a_whole_is_looked_at_once(
    opened: Callable[..., tuple[Waiter, list[float]]],
) -> None:
    waiter, looks = opened(3)
    waiting = threading.Thread(target=lambda: list(waiter.until(None, as_whole=True)))
    waiting.start()
    end_one_after_another(waiter.deployment.record, 3)
    waiting.join(30)
    assert waiter.reading.is_complete
    assert len(looks) <= 2, "once when it had ended, or once more when the wait had begun long before"


def test_who_wants_outcomes_as_they_come_is_woken_by_each(opened: Callable[..., tuple[Waiter, list[float]]]) -> None:
    waiter, _ = opened(3)
    record, came = waiter.deployment.record, waiter.until(None)
    record.claim("run", range(3), "w")
    for index in range(3):
        record.complete("run", "w", [MemberReport(index, 1, MemberState.SUCCEEDED, b"")])
        assert [outcome.index for outcome in next(came)] == [index]


def test_who_waits_for_the_end_sees_a_cancellation_and_the_end_of_its_time(
    opened: Callable[..., tuple[Waiter, list[float]]],
) -> None:
    waiter, looks = opened(3)
    assert list(waiter.until(time.monotonic(), as_whole=True)) == []
    assert looks, "a wait of no seconds looks at what is there"
    waiting = threading.Thread(target=lambda: list(waiter.until(None, as_whole=True)))
    waiting.start()
    waiter.deployment.record.cancel("run")
    waiting.join(60)
    assert waiter.reading.is_complete


def test_a_large_group_is_read_while_it_runs(opened: Callable[..., tuple[Waiter, list[float]]]) -> None:
    waiter, _ = opened(65)
    record, came = waiter.deployment.record, waiter.until(None, as_whole=True)
    record.claim("run", range(65), "w")
    record.complete("run", "w", [MemberReport(0, 1, MemberState.SUCCEEDED, b"")])
    assert [outcome.index for outcome in next(came)] == [0]
