"""A member that opens a group inside itself does not fail because the record is away for a moment."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis

from graflow import workflow
from graflow.channels.branch import BranchChannel
from graflow.channels.redis_channel import RedisChannel
from graflow.core.context import ExecutionContext
from graflow.exceptions import PayloadError
from graflow.signing import generate_key
from graflow.trace.base import Tracer
from graflow_celery.deployment import Deployment, deployment_of
from graflow_celery.worker.overlay import OverlaidChannel, lay_over
from graflow_celery.worker.running import RunningMember, running_member
from tests.integration import members
from tests.support import PrivateRedis, private_redis

pytestmark = pytest.mark.redis


class Crash(BaseException):
    """Ends the process, as far as the run can tell."""


class Crashing(Tracer):
    def on_member_end(self, *_: Any, **__: Any) -> None:
        raise Crash


@pytest.fixture(scope="module")
def server() -> Iterator[PrivateRedis]:
    with private_redis() as started:
        yield started


@pytest.fixture
def deployment(server: PrivateRedis) -> Iterator[Deployment]:
    """Where this thread runs a member of an outer group."""
    found = deployment_of({"url": server.url})
    around = running_member.set(RunningMember("outer", 0, found))
    yield found
    running_member.reset(around)


@pytest.fixture
def lost(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The scripts of the record whose first answer, from now on, got lost."""
    scripts, lost = deployment.record._scripts, set[str]()
    run = scripts.run

    def losing(name: str, *args: Any) -> Any:
        answer = run(name, *args)
        if name not in lost:
            lost.add(name)
            raise redis.exceptions.ConnectionError("lost")
        return answer

    monkeypatch.setattr(scripts, "run", losing)
    return lost


class Plain:
    """What only a pickle can be made of."""


@pytest.mark.parametrize("signing_key", [None, generate_key()], ids=["no key", "a key"])
def test_what_a_member_wrote_is_seen_by_members_of_its_group_as_results_would_be(
    server: PrivateRedis, signing_key: str | None
) -> None:
    place = {"host": server.host, "port": server.port, "signing_key": signing_key}
    outer = BranchChannel(RedisChannel("run", **place))
    outer.set("value", {"inside": Plain()})
    overlay: dict[str, Any] = {}
    _, unsendable = lay_over(overlay, outer, RedisChannel("run", **place), "group")
    if signing_key is None:
        assert "['inside'] of type" in unsendable["value"]
        assert overlay == {}
        return
    elsewhere = OverlaidChannel(RedisChannel("run", **place), json.loads(json.dumps(overlay)))
    assert type(elsewhere.get("value")["inside"]) is Plain
    with pytest.raises(PayloadError, match="refused"):
        OverlaidChannel(RedisChannel("run", **place), {"another": overlay["value"]})


@contextmanager
def workers_of(slots: int) -> Iterator[None]:
    """Few slots make members travel in blocks, many by themselves."""

    def slots_of(deployment: Deployment) -> int:
        deployment.record.live_workers()
        return slots

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("graflow_celery.broker.paces.Paces.is_brief", lambda *_: False)
        patch.setattr(Deployment, "slots", slots_of)
        yield


def execution(server: PrivateRedis, session_id: str, items: list[int], tracer: Tracer | None = None) -> Any:
    with workflow("inner") as wf:
        group = members.double.map(items, name="shards").with_execution("redis", backend_config={"url": server.url})
        group >> members.total
    return ExecutionContext(wf.graph.copy(), "shards", session_id=session_id, tracer=tracer)


@pytest.mark.parametrize("slots", [1, 64])
def test_it_opens_its_group(server: PrivateRedis, deployment: Deployment, lost: set[str], slots: int) -> None:
    with workers_of(slots):
        assert execution(server, uuid.uuid4().hex, [1, 2, 3]).execute() == 12

    assert lost >= {"workers", "open"}


@pytest.mark.parametrize(("before", "after"), [(1, 64), (64, 1)])
@pytest.mark.parametrize("items", [[1, 2, 3], [1, 2, 4]], ids=["same", "other"])
def test_it_goes_on_with_a_group_that_was_opened_in_other_blocks(
    server: PrivateRedis, deployment: Deployment, request: Any, items: list[int], before: int, after: int
) -> None:
    """Also where the group came out differently: the run is this member's alone, and goes on as it was opened."""
    session_id = uuid.uuid4().hex
    with workers_of(before), pytest.raises(Crash):
        execution(server, session_id, [1, 2, 3], Crashing()).execute()
    lost = request.getfixturevalue("lost")
    with workers_of(after):
        assert execution(server, session_id, items).execute() == 12

    assert lost >= {"workers", "open"}


def test_what_succeeded_in_a_try_that_failed_is_kept(
    server: PrivateRedis, deployment: Deployment, request: Any
) -> None:
    session_id = uuid.uuid4().hex
    with workers_of(1), pytest.raises(Crash):
        execution(server, session_id, [1, 2, 3], Crashing()).execute()
    deployment.record.cancel(f"{session_id}:shards:0")
    lost = request.getfixturevalue("lost")
    with workers_of(64):
        assert execution(server, session_id, [1, 2, 3]).execute() == 12

    assert lost >= {"workers", "open", "read"}
