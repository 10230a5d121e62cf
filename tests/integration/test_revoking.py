"""What Celery's remote control does to members, as Flower's buttons do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import redis

from graflow_celery import GroupHandle, LocalCluster, submit
from graflow_celery.broker.app import app_for
from graflow_celery.deployment import deployment_of
from tests.integration import members
from tests.support import wait_until

pytestmark = pytest.mark.redis


def control(config: dict[str, Any]) -> Any:
    return app_for(deployment_of(config).settings).control


def active(config: dict[str, Any]) -> list[str]:
    answers = control(config).inspect(timeout=1).active() or {}
    return [request["id"] for requests in answers.values() for request in requests]


def waiting(cluster: LocalCluster) -> list[str]:
    """The ids of the messages in the cluster's queues."""
    with redis.Redis.from_url(cluster.redis_url.reveal()) as client:
        lists = [key for key in client.scan_iter("*:broker:*") if client.type(key) == b"list"]
        return [json.loads(message)["headers"]["id"] for key in lists for message in client.lrange(key, 0, -1)]


def running(config: dict[str, Any], mark: Path, *others: Any) -> tuple[GroupHandle, str]:
    """A group in one message whose first member runs, and the id of the message."""
    group = [members.held(task_id="held", mark=str(mark)), *others]
    handle = submit(group, backend_config={**config, "batch_size": len(group)})
    wait_until(lambda: handle.status().running == len(group))
    wait_until(lambda: len(active(config)) == 1)
    return handle, active(config)[0]


@pytest.mark.parametrize("signal", ["TERM", "KILL"])
def test_a_message_that_is_terminated_ends_its_members_once(
    one_slot: LocalCluster, tmp_path: Path, signal: str
) -> None:
    config = one_slot.backend_config
    handle, message = running(config, tmp_path / "never", members.noop(task_id="behind", x=1))
    control(config).revoke(message, terminate=True, signal=signal)
    assert [outcome.state for outcome in handle.outcomes(timeout=120)] == ["CANCELLED", "CANCELLED"]
    assert submit(members.noop.map([1]), backend_config=config).results(timeout=120) == [1]
    status = handle.status()
    assert (status.executions, status.losses, status.refused) == (2, 0, 0)


def test_a_message_that_is_revoked_before_it_begins_ends_its_members(one_slot: LocalCluster, tmp_path: Path) -> None:
    config, mark = one_slot.backend_config, tmp_path / "mark"
    blocking, _ = running(config, mark)
    handle = submit(members.noop.map([1, 2]), backend_config={**config, "batch_size": 2})
    wait_until(lambda: waiting(one_slot))
    control(config).revoke(waiting(one_slot), reply=True, timeout=1)
    mark.touch()
    assert [outcome.state for outcome in handle.outcomes(timeout=120)] == ["CANCELLED", "CANCELLED"]
    assert blocking.results(timeout=120) == [str(mark)]
