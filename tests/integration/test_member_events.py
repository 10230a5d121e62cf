"""Events of members that share a message, which a worker sends when a monitor has asked for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from graflow_celery import GroupHandle, LocalCluster, submit
from graflow_celery.broker.app import app_for
from graflow_celery.settings import Settings
from tests.integration import members
from tests.support import wait_until

pytestmark = pytest.mark.redis

MEMBERS = 8
UUID = 36  # characters; the id of a member in a batch is that of its message and its index


def test_members_of_a_batch_are_told_to_monitors_that_asked_for_them(one_slot: LocalCluster) -> None:
    # Given somebody who listens to all events of a worker
    app, config = app_for(Settings.load(dict(one_slot.backend_config))), one_slot.backend_config
    told: list[Any] = []

    def note(event: Any) -> None:
        if event["type"] == "task-received" and len(event["uuid"]) > UUID:
            told.append(event["args"])

    with (
        app.connection_for_read() as connection,
        app.events.Receiver(connection, handlers={"*": note}).consumer_context() as (line, _channel, _consumers),
    ):
        line.drain_events(timeout=20)  # a heartbeat: from here on nothing is missed

        # When one group runs before a monitor has asked for events of tasks, and another one after that
        submit(members.noop.map(range(MEMBERS)), backend_config=config).results(timeout=120)
        app.control.enable_events(reply=True)
        after = submit(members.noop.map(range(MEMBERS)), backend_config=config)
        after.results(timeout=120)
        while len(told) < MEMBERS:
            line.drain_events(timeout=20)

    # Then each member of the second group is told of, and none of the first
    assert sorted(told) == [f"(run_id={after.run_id!r}, index={index})" for index in range(MEMBERS)]


def test_a_wait_for_a_retry_is_told_to_monitors(one_slot: LocalCluster) -> None:
    # Given a monitor that has asked for events of tasks
    app, config = app_for(Settings.load(dict(one_slot.backend_config))), one_slot.backend_config
    told: dict[bool, str] = {}

    def note(event: Any) -> None:
        told[len(event["uuid"]) > UUID] = event["exception"]

    with (
        app.connection_for_read() as connection,
        app.events.Receiver(connection, handlers={"task-retried": note}).consumer_context() as (line, _channel, _all),
    ):
        line.drain_events(timeout=20)  # a heartbeat: from here on nothing is missed
        app.control.enable_events(reply=True)

        # When members fail that have a minute until their retry, in a message of its own and in one with others
        handles = [
            submit(group, backend_config={**config, "batch_size": 2})
            for group in (members.fails_for_long.map([1]), members.fails_for_long.map([2, 3]))
        ]

        # Then each wait is an event
        while len(told) < 2:
            line.drain_events(timeout=20)
    assert "ValueError: come back in a minute" in told[True]
    assert "ValueError: come back in a minute" in told[False]
    for handle in handles:
        handle.cancel()


def final_events(cluster: LocalCluster, run: Callable[[], GroupHandle], wanted: int) -> dict[str, dict[str, Any]]:
    """How the messages of a run end for a monitor, by what it shows of their arguments."""
    app, ended, shown = app_for(Settings.load(dict(cluster.backend_config))), dict[str, Any](), dict[str, str]()

    def note(event: Any) -> None:
        if event["type"] == "task-received":
            shown[event["uuid"]] = event["args"]
        elif event["type"] in {"task-succeeded", "task-failed"}:
            ended[shown.get(event["uuid"], "")] = event
        elif event["type"] == "task-revoked":  # of a message that was doubled, which found nothing to run, it is no end
            ended.setdefault(shown.get(event["uuid"], ""), event)

    with (
        app.connection_for_read() as connection,
        app.events.Receiver(connection, handlers={"*": note}).consumer_context() as (line, _channel, _consumers),
    ):
        line.drain_events(timeout=20)  # a heartbeat: from here on nothing is missed
        app.control.enable_events(reply=True)
        run_id = run().run_id
        while sum(run_id in args for args in ended) < wanted:
            line.drain_events(timeout=20)
    return {args.partition(", ")[2].rstrip(")"): event for args, event in ended.items() if run_id in args}


@pytest.mark.slow
def test_members_of_a_cancelled_run_are_told_to_monitors_as_revoked(one_slot: LocalCluster, tmp_path: Path) -> None:
    mark = tmp_path / "end"

    def cancelled() -> GroupHandle:
        busy = submit(members.held.map([str(mark)]), backend_config=one_slot.backend_config)
        wait_until(lambda: busy.status().running)
        handle = submit(members.noop.map([1]), backend_config=one_slot.backend_config)
        handle.cancel()
        mark.touch()
        return handle

    (event,) = final_events(one_slot, cancelled, 1).values()
    assert event["type"] == "task-revoked"


def test_a_continuation_that_fails_is_told_to_monitors_as_failed(one_slot: LocalCluster) -> None:
    ended = final_events(
        one_slot, lambda: submit(members.noop.map([1]), backend_config=one_slot.backend_config, then=members.fail), 2
    )
    assert ended["continuation"]["type"] == "task-failed"
    assert "no [1]" in ended["continuation"]["exception"]
    assert ended["index=0"]["type"] == "task-succeeded"


def test_monitors_are_told_what_killed_a_pool_child(one_slot: LocalCluster) -> None:
    config = {**one_slot.backend_config, "max_attempts": 1}
    (event,) = final_events(one_slot, lambda: submit(members.suicide.map([1]), backend_config=config), 1).values()
    assert "SIGKILL" in event["exception"]
