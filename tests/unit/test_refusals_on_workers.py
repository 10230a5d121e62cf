"""What workers, waiters and channels do while a server refuses: courtesies are skipped, work is waited for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from graflow.channels.redis_channel import RedisChannel
from graflow.redis.refusals import REFUSALS, RefusedForNowError, refused
from graflow.runtime import this_runtime
from graflow_celery.client.waiting.worker_watch import WorkerWatch
from graflow_celery.deployment import Deployment
from graflow_celery.record import GroupSpec, Lease, WorkerBeat
from graflow_celery.settings import Settings
from graflow_celery.wire.envelope import SharedPayload
from graflow_celery.worker import celery_tasks
from graflow_celery.worker.batches.batch import Batch
from graflow_celery.worker.main import housekeeping
from graflow_celery.worker.main.housekeeping import Housekeeping
from graflow_celery.worker.member import WorkerMember
from graflow_celery.worker.overlay import ChannelWithGaps
from tests.refusing_server import RefusingServer, refusing_server
from tests.support import wait_until

CODES = sorted(REFUSALS)
SPEC = GroupSpec(run_id="r", group_id="g", n=1, digest="d")


@pytest.fixture
def server() -> Iterator[RefusingServer]:
    with refusing_server() as made:
        yield made


@pytest.fixture
def deployment(server: RefusingServer) -> Deployment:
    return Deployment(Settings.load({"url": server.url}))


@pytest.mark.parametrize("code", [*CODES, "ERR whatever"])
def test_telling_progress_fails_no_member(code: str, server: RefusingServer, deployment: Deployment) -> None:
    member = WorkerMember(deployment, Lease("r", 0, 1, "o"), lambda: False)
    server.errors = [f"{code} for a reason"] * 5
    member.progress(1, 2, "half")
    assert len(server.errors) < 5


@pytest.mark.parametrize("code", [*CODES, "ERR whatever"])
def test_asking_for_a_cancellation_fails_no_member(code: str, server: RefusingServer, deployment: Deployment) -> None:
    batch = Batch(deployment, SPEC, "o", "w", None)
    server.errors = [f"{code} for a reason"] * 5
    is_cancelled = batch._cancellation(type("Granted", (), {"index": 0, "attempt": 1})())  # type: ignore[arg-type]
    assert is_cancelled() is False
    assert len(server.errors) < 5


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize(
    "use", [lambda c: c.set("k", 1), lambda c: c.set_many({"k": 1}), lambda c: c.delete("k"), lambda c: c.exists("k")]
)
def test_channels_wait_for_a_server_that_refuses(
    code: str, use: Callable[[RedisChannel], object], server: RefusingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(this_runtime(), "sleep", lambda seconds: None)
    server.answer = lambda name, parts: b":1\r\n"
    channel = RedisChannel("c", url=server.url)
    server.errors = [f"{code} for a reason"] * 2
    use(channel)
    assert server.errors == []


def test_a_channel_does_not_wait_without_end(server: RefusingServer) -> None:
    channel = RedisChannel("c", url=server.url)
    channel._server.patience = 0.1
    server.errors = ["NOREPLICAS Not enough good replicas to write."] * 1000
    with pytest.raises(RefusedForNowError, match="too few replicas follow it; start them"):
        channel.set("k", 1)


def test_the_channel_of_a_member_waits_for_a_server_that_is_away(deployment: Deployment) -> None:
    channel = ChannelWithGaps(SharedPayload("g", "s", "t", channel="c"), deployment)
    tries = iter([ConnectionError(), TimeoutError(), None])

    def call() -> str:
        if (error := next(tries)) is not None:
            raise error
        return "done"

    assert channel._server.granted(call) == "done"


class Beats:
    """A record that refuses beats as long as it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.refuses = True
        self.expedited = threading.Event()
        self.tries = 0
        monkeypatch.setattr(housekeeping, "beat", self.beat)
        monkeypatch.setattr(housekeeping, "sweep", lambda *_: 0)
        monkeypatch.setattr(housekeeping, "expedite_all", lambda _: self.expedited.set())
        monkeypatch.setattr(housekeeping, "BEAT", 0.01)

    def beat(self, *_: object, **__: object) -> WorkerBeat:
        self.tries += 1
        if self.refuses:
            raise refused("NOREPLICAS")
        return WorkerBeat(1.0, rests=False, dropped=[])


def test_a_worker_that_was_refused_for_long_has_what_nobody_claimed_sent_again(
    monkeypatch: pytest.MonkeyPatch, deployment: Deployment
) -> None:
    monkeypatch.setattr(housekeeping, "_LONG", 0.05)
    record = Beats(monkeypatch)
    keeping = Housekeeping(deployment, "w", dict, lambda: None, 0.01)
    keeping.start()
    try:
        wait_until(lambda: record.tries >= 10)
        assert not record.expedited.is_set()
        record.refuses = False
        assert record.expedited.wait(20)
    finally:
        keeping.stop()


def test_what_the_main_loop_could_not_tell_is_told_later(monkeypatch: pytest.MonkeyPatch) -> None:
    request: Any = object.__new__(celery_tasks.MemberRequest)
    monkeypatch.setattr(celery_tasks.MemberRequest, "id", "m")
    monkeypatch.setattr(celery_tasks.MemberRequest, "_members", lambda self: (None, "r", [0]))
    errors: list[Exception | None] = [refused("MISCONF"), refused("MISCONF"), None]
    told: list[str] = []

    def use(deployment: object, run_id: str, indices: object) -> None:
        if (error := errors.pop(0)) is not None:
            raise error
        told.append(run_id)

    request._with_members(use, "message %s")
    celery_tasks.catch_up()
    assert told == []
    celery_tasks.catch_up()
    celery_tasks.catch_up()
    assert told == ["r"]


def test_nobody_is_missed_while_the_record_could_not_be_told_who_is_there(deployment: Deployment) -> None:
    settings = Settings.load({"url": "redis://127.0.0.1:1/0", "on_no_worker": "error", "worker_wait": 10.0})
    watch = WorkerWatch(deployment, "r", settings.options, SPEC)
    told: list[str] = []
    watch._tell = told.append  # type: ignore[method-assign]
    deployment.workers = lambda queue=None: []  # type: ignore[method-assign]
    began = watch._began
    watch.excuse(began + 8)
    watch.look(began + 12, ())
    assert told == []
    watch.look(began + 19, ())
    assert len(told) == 1
