"""Sentinel as broker and as Redis of record: the master is killed, the Sentinels promote its replica."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.harness import LEASE, SWEEP, cluster
from tests.faults.sentinels import PROGRAM, watched
from tests.support import pass_time

pytestmark = pytest.mark.skipif(
    PROGRAM is None, reason="FAILOVER IS NOT TESTED HERE: no redis-server that knows --sentinel"
)


# Seconds after the promotion: a worker's pause between two looks for its broker, leases of what was lost, and the rest
# of the work.
BOUND = 10.0 + LEASE + SWEEP + 4.0


def fail_over(folder: Path, fault: str, *, unheard: float = 0.0, waits: bool = True) -> None:
    """Kill the master in the middle of the standard load.

    Args:
        folder: Of the case.
        fault: In words.
        unheard: Seconds before its death of which the replica hears nothing.
        waits: Whether the submitter waits for the group meanwhile, or comes back after the promotion.
    """
    with watched(folder) as servers, cluster(folder, workers=0, server=servers.master) as running:
        running.worker_url = running.submit_url = servers.url
        running.start(2)
        group = running.submit()
        if waits:
            group.wait_in_background()
        group.wait_for("finished", 40)

        if unheard:
            servers.link.black_hole()
            pass_time(unheard)
        servers.master.kill()
        promoted = servers.wait_for_promotion()
        running.server = servers.replica

        row = running.finish("12", fault, group, promoted)
    assert row.seconds is not None
    assert row.seconds < BOUND


def test_a_group_survives_a_failover_that_sentinel_decides(tmp_path: Path) -> None:
    fail_over(tmp_path, "kill -9 the master, Sentinel promotes")


def test_a_group_survives_a_failover_that_loses_the_newest_writes(tmp_path: Path) -> None:
    fail_over(tmp_path, "as before, its last 0.5 s lost", unheard=0.5)


def test_a_group_that_nobody_waits_for_survives_it_as_well(tmp_path: Path) -> None:
    fail_over(tmp_path, "as before, nobody waits", unheard=0.5, waits=False)
