from __future__ import annotations

import threading

from graflow.channels.leases import LeaseKeeper
from tests.support import wait_until


def test_a_lease_is_renewed_until_its_block_ends() -> None:
    keeper, renewals = LeaseKeeper(), []
    with keeper.keep(0.01, lambda: renewals.append(1) is None):
        wait_until(lambda: len(renewals) >= 3)
    thread = keeper._thread
    assert thread is not None
    wait_until(lambda: not thread.is_alive(), message="the thread outlived what it was for")
    seen = len(renewals)
    with keeper.keep(100, lambda: True):
        assert keeper._thread is not thread
    assert len(renewals) == seen


def test_a_lease_that_is_lost_is_not_renewed_again() -> None:
    keeper, lost, kept = LeaseKeeper(), [], []
    with keeper.keep(0.01, lambda: lost.append(1) is not None), keeper.keep(0.01, lambda: kept.append(1) is None):
        wait_until(lambda: len(kept) >= 5)
    assert len(lost) == 1


def test_a_short_lease_is_not_held_up_by_a_long_one() -> None:
    keeper, renewed = LeaseKeeper(), threading.Event()
    with keeper.keep(1000, lambda: True):
        wait_until(lambda: keeper._thread is not None)
        with keeper.keep(0.01, lambda: renewed.set() is None):
            assert renewed.wait(60)
