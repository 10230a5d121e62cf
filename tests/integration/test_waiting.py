"""Waiting for a group on its record."""

from __future__ import annotations

import threading

import pytest

from graflow_celery.client.waiter import Waiter
from graflow_celery.deployment import deployment_of
from graflow_celery.record import MemberReport, MemberState
from graflow_celery.settings import GroupOptions
from tests.record_support import open_group
from tests.support import private_redis

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
            found = Waiter(deployment, "run", members, GroupOptions(worker_wait=60)).until(None)
            batches.extend([outcome.index for outcome in fresh] for fresh in found)

        waiter = threading.Thread(target=wait)
        waiter.start()

        # When each is reported on its own
        for index in range(members):
            record.complete("run", "w", [MemberReport(index, 1, MemberState.SUCCEEDED, b"")])
        waiter.join(30)

    assert [index for batch in batches for index in batch] == list(range(members))
    assert len(batches) < members / 2
