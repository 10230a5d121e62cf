"""One run that is damaged, or of another make, leaves all others alone."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from click.testing import CliRunner

from graflow import spells
from graflow_celery import submit
from graflow_celery.broker.publisher import MemberPublisher
from graflow_celery.cli.runs import runs
from graflow_celery.client.waiting.awaiting import awaited_runs
from graflow_celery.client.waiting.waiter import Waiter
from graflow_celery.deployment import Deployment, deployment_of
from graflow_celery.errors import BrokerUnreachableError, RecordDamagedError, RecordVersionError
from graflow_celery.record import GroupSpec, MemberReport, MemberState
from graflow_celery.settings import GroupOptions
from graflow_celery.sweeper import expedite_all, sweep
from tests.integration.members import double
from tests.record_support import make_spec, open_group
from tests.support import private_redis

pytestmark = pytest.mark.redis

ODD = "odd"
PREFIX = "graflow"


@pytest.fixture
def deployment(monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    monkeypatch.setattr(spells, "_spells", {})  # what other tests met is news again
    with private_redis() as server:
        yield deployment_of({"url": server.url})
        server.client().flushall()  # what is damaged is not what the product has left


def damage(client: redis.Redis, how: str) -> None:
    """Harm the record of the run `odd`, or put something beside it that nobody here writes."""
    header, due = f"{PREFIX}:{ODD}:header", f"{PREFIX}:{ODD}:deadlines"
    match how:
        case "another type":
            client.delete(due)
            client.set(due, "x")
        case "another type of the header":
            client.delete(header)
            client.set(header, "x")
        case "no format":
            client.hdel(header, "version")
        case "a specification that is no JSON":
            client.hset(header, "spec", "{broken")
        case "a specification that is something else":
            client.hset(header, "spec", '{"version": 1, "n": []}')
        case "a number that is none":
            client.hset(header, "lease", "much")
        case "no members":
            client.delete(f"{PREFIX}:{ODD}:manifest")
        case "an id that is no text":
            client.zadd(f"{PREFIX}:runs", {b"\xff\xfe": 1})
            client.delete(header)


DAMAGES = [
    "another type",
    "another type of the header",
    "no format",
    "a specification that is no JSON",
    "a specification that is something else",
    "a number that is none",
    "no members",
    "an id that is no text",
]


class Published:
    """What would be sent, by run."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.members: dict[str, list[int]] = {}
        self.is_down = False
        monkeypatch.setattr(MemberPublisher, "publish", self._publish)

    def _publish(self, spec: GroupSpec, indices: list[int], **__: Any) -> None:
        if self.is_down:
            raise BrokerUnreachableError("no broker")
        self.members.setdefault(spec.run_id, []).extend(indices)


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> Published:
    return Published(monkeypatch)


def overdue(deployment: Deployment, *run_ids: str) -> None:
    """Have what nobody claimed in these runs be due now."""
    for run_id in run_ids:
        open_group(deployment.record, run_id, n=2)
        deployment.record.expedite(run_id)


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_run_keeps_no_other_from_being_swept(
    deployment: Deployment, published: Published, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    # Given a run that is damaged among others that have something due
    overdue(deployment, "a", ODD, "z")
    damage(deployment.client, how)

    # When somebody sweeps, the others are published
    with caplog.at_level(logging.WARNING):
        sweep(deployment, 1.0)
    assert {name: sorted(found) for name, found in published.members.items() if name != ODD} == {
        "a": [0, 1],
        "z": [0, 1],
    }

    # And it is named, and not looked at again and again
    assert any(ODD in line or "no id of a group run" in line for line in caplog.messages)
    assert ODD not in deployment.record.look().due
    expedite_all(deployment)


@pytest.mark.parametrize("how", [how for how in DAMAGES if how != "an id that is no text"])
def test_who_waits_for_a_damaged_run_is_told_so(deployment: Deployment, published: Published, how: str) -> None:
    overdue(deployment, ODD)
    damage(deployment.client, how)
    waiter = Waiter(deployment, make_spec(ODD, 2), GroupOptions(worker_wait=60, sweep_interval=0.1))

    with pytest.raises(RecordDamagedError, match=f"group run '{ODD}' is damaged"):
        list(waiter.until(deployment.runtime.monotonic() + 20))


@pytest.mark.parametrize("how", DAMAGES)
def test_who_waits_for_another_run_is_not_concerned(deployment: Deployment, published: Published, how: str) -> None:
    overdue(deployment, "a", ODD)
    damage(deployment.client, how)
    deployment.record.claim("a", [0, 1], "w")
    deployment.record.complete("a", "w", [MemberReport(i, 1, MemberState.SUCCEEDED, b"") for i in (0, 1)])

    waiter = Waiter(deployment, make_spec("a", 2), GroupOptions(worker_wait=60, sweep_interval=0.1))
    assert sum(len(fresh) for fresh in waiter.until(deployment.runtime.monotonic() + 20)) == 2


def test_awaited_runs_are_looked_at_one_by_one(deployment: Deployment) -> None:
    # Given two runs, of which one has something else where its events were
    overdue(deployment, "a", ODD)
    deployment.client.delete(f"{PREFIX}:{ODD}:events")
    deployment.client.set(f"{PREFIX}:{ODD}:events", "x")
    waiters = [Waiter(deployment, make_spec(name, 2), GroupOptions(worker_wait=60)) for name in ("a", ODD)]

    async def both() -> list[Any]:
        awaited = awaited_runs(deployment)

        def take(waiter: Waiter) -> Any:
            list(waiter.until(deployment.runtime.monotonic()))
            return waiter.reading.is_complete or None

        waiting = [asyncio.ensure_future(awaited.take(one, lambda one=one: take(one))) for one in waiters]  # type: ignore[misc]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED, timeout=20)
        deployment.record.claim("a", [0, 1], "w")
        deployment.record.complete("a", "w", [MemberReport(i, 1, MemberState.SUCCEEDED, b"") for i in (0, 1)])
        return await asyncio.gather(*waiting, return_exceptions=True)

    # When both are awaited, one is told of its own damage, the other goes on
    sound, odd = asyncio.run(both())
    assert sound is True
    assert isinstance(odd, RecordDamagedError)


def test_a_run_of_a_newer_format_is_left_as_it_is(deployment: Deployment, published: Published) -> None:
    # Given a run that a later version has opened
    overdue(deployment, "a", ODD)
    deployment.client.hset(f"{PREFIX}:{ODD}:header", "version", "99")
    before = _dump(deployment.client)

    # When this one sweeps and its workers meet it, nothing of it changes
    sweep(deployment, 1.0)
    for call in (
        lambda: deployment.record.claim(ODD, [0], "w"),
        lambda: deployment.record.claim(ODD, [0, 1], "w"),
        lambda: deployment.record.complete(ODD, "w", [MemberReport(0, 1, MemberState.SUCCEEDED, b"")]),
        lambda: deployment.record.header(ODD),
        lambda: deployment.record.read(ODD),
    ):
        with pytest.raises(RecordVersionError, match="format 99"):
            call()
    assert _dump(deployment.client) == before
    assert published.members == {"a": [0, 1]}


def _dump(client: redis.Redis) -> dict[bytes, Any]:
    found = {key: client.dump(key) for key in client.scan_iter(f"{PREFIX}:{ODD}:*")}
    return {**found, b"score": client.zscore(f"{PREFIX}:runs", ODD)}


def test_what_a_sweep_could_not_publish_is_published_by_the_next_one(
    deployment: Deployment, published: Published
) -> None:
    # Given a broker that is away while a sweep finds members of two runs
    overdue(deployment, "a", "z")
    published.is_down = True
    with pytest.raises(BrokerUnreachableError):
        sweep(deployment, 1.0)

    # When it is back, the next sweep publishes them, though the record takes them for published
    published.is_down = False
    assert deployment.record.look().due == []
    sweep(deployment, 1.0)
    assert published.members == {"a": [0, 1], "z": [0, 1]}
    sweep(deployment, 1.0)
    assert published.members == {"a": [0, 1], "z": [0, 1]}


@pytest.mark.parametrize("repeats", [False, True])
def test_what_a_sweep_found_whose_answer_got_lost_is_found_again(
    deployment: Deployment, published: Published, monkeypatch: pytest.MonkeyPatch, repeats: bool
) -> None:
    # Given a line that breaks after a sweep has found something; the client may have repeated the call by itself
    overdue(deployment, "a")
    arrived = deployment.record.sweep

    def losing(run_id: str, token: str) -> None:
        arrived(run_id, token)
        if repeats:
            arrived(run_id, token)
        raise redis.exceptions.ConnectionError("no answer")

    monkeypatch.setattr(deployment.record, "sweep", losing)
    with pytest.raises(redis.exceptions.ConnectionError):
        sweep(deployment, 1.0)

    # When it is mended, the next sweep finds the same
    monkeypatch.undo()
    again = Published(monkeypatch)
    sweep(deployment, 1.0)
    assert again.members == {"a": [0, 1]}


def test_a_run_whose_members_cannot_be_published_keeps_no_other_back(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    overdue(deployment, "a", "z")
    told: list[str] = []

    def publish(_: Any, spec: GroupSpec, indices: list[int], **__: Any) -> None:
        if spec.run_id == "a":
            raise ValueError("odd options")
        told.append(spec.run_id)

    monkeypatch.setattr(MemberPublisher, "publish", publish)
    sweep(deployment, 1.0)
    assert told == ["z"]


def test_one_worker_that_tells_nonsense_hides_no_other(deployment: Deployment) -> None:
    deployment.record.workers.beat("sound 1", {"queues": ["graflow"], "slots": 2})
    for entry, info in {b"odd 2": b"{", b"odd 3": b'{"queues": 7}', b"odd 4": b"[]", b"\xff": b"{}"}.items():
        deployment.client.zadd(f"{PREFIX}:workers", {entry: 9e15})
        deployment.client.hset(f"{PREFIX}:workers:info", entry, info)
    deployment.client.hset(f"{PREFIX}:workers:info", b"odd 4", b'{"slots": "many"}')

    assert deployment.slots() == 2


def test_runs_that_cannot_be_read_are_listed_with_the_reason(deployment: Deployment) -> None:
    overdue(deployment, "a", ODD)
    damage(deployment.client, "a specification that is no JSON")

    url = deployment.settings.redis_url.reveal()
    listed = CliRunner().invoke(runs, ["--url", url, "--json"])
    assert listed.exit_code == 0, listed.output
    found = {facts["run_id"]: facts for facts in map(json.loads, listed.output.splitlines())}
    assert found["a"]["state"] == "RUNNING"
    assert found[ODD]["state"] == "DAMAGED"
    assert ODD in found[ODD]["reason"]
    assert "damaged" in CliRunner().invoke(runs, ["--url", url, "--all"]).output


def test_an_owner_that_cannot_be_read_is_told_with_its_run(deployment: Deployment) -> None:
    deployment.client.set(f"{PREFIX}:session:owner", "x")

    with pytest.raises(RecordDamagedError, match="session"):
        deployment.record.owners.claim("session", "t", "me", lease=1, kept=2)


def test_submitting_goes_on_beside_what_is_damaged(deployment: Deployment) -> None:
    overdue(deployment, ODD)
    damage(deployment.client, "another type of the header")

    handle = submit(double.map([1]), {"url": deployment.settings.redis_url.reveal()})
    assert handle.status().total == 1
