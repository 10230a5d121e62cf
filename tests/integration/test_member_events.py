"""Events of members that share a message, which a worker sends when a monitor has asked for them."""

from __future__ import annotations

from typing import Any

import pytest

from graflow_celery import LocalCluster, submit
from graflow_celery.celery_app import app_for
from graflow_celery.settings import Settings
from tests.integration import members

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
        submit(members.noop.map(range(MEMBERS)), backend_config=config).results(timeout=20)
        app.control.enable_events(reply=True)
        after = submit(members.noop.map(range(MEMBERS)), backend_config=config)
        after.results(timeout=20)
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
