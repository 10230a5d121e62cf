"""Sentinel as broker and as Redis of record: the master is killed, the Sentinels promote its replica."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.harness import LEASE, SWEEP, Row, cluster, pass_time
from tests.faults.sentinels import PROGRAM, watched

pytestmark = pytest.mark.skipif(
    PROGRAM is None, reason="FAILOVER IS NOT TESTED HERE: no redis-server that knows --sentinel"
)


def fail_over(folder: Path, fault: str, *, unheard: float = 0.0) -> Row:
    """Kill the master in the middle of the standard load; its last `unheard` seconds never reach the replica."""
    with watched(folder) as servers, cluster(folder, workers=0, server=servers.master) as running:
        running.worker_url = running.submit_url = servers.url
        running.start(2)
        group = running.submit()
        group.wait_in_background()
        group.wait_for("finished", 40)

        if unheard:
            servers.link.black_hole()
            pass_time(unheard)
        servers.master.kill()
        promoted = servers.wait_for_promotion()
        running.server = servers.replica

        return running.finish("12", fault, group, promoted)


def test_a_group_survives_a_failover_that_sentinel_decides(tmp_path: Path) -> None:
    row = fail_over(tmp_path, "kill -9 the master, Sentinel promotes")
    assert row.seconds is not None
    assert row.seconds < LEASE + SWEEP + 20


def test_a_group_survives_a_failover_that_loses_the_newest_writes(tmp_path: Path) -> None:
    row = fail_over(tmp_path, "as before, the last 0.5 s lost", unheard=0.5)
    assert row.seconds is not None
    assert row.seconds < LEASE + SWEEP + 20
