"""Loops that look after many things: what one of them raises keeps none of the others from being looked after."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest

from graflow.flows.recording.recovery import Recovery
from graflow.runtime import Pacer, Runtime
from graflow.state.changes import FlowRecord
from graflow.state.statuses import FlowStatus
from graflow_celery.errors import RecordDamagedError
from graflow_celery.worker.main.child_leases import ChildLeases
from graflow_celery.worker.main.housekeeping import Housekeeping
from tests.support import wait_until


class Work:
    """Paced work that counts how often it is looked after."""

    def __init__(self, error: Exception | None = None) -> None:
        self.name = f"work {error!r}"
        self.error = error
        self.ticks = 0

    def tick(self, _now: float) -> None:
        self.ticks += 1
        if self.error is not None:
            raise self.error


@pytest.mark.parametrize(
    "error", [ValueError("odd"), KeyError("odd"), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "odd")]
)
def test_work_that_cannot_be_paced_leaves_the_pacer_to_others(error: Exception) -> None:
    pacer, odd, sound = Pacer(Runtime()), Work(error), Work()
    with pacer.pacing(odd), pacer.pacing(sound):
        wait_until(lambda: odd.ticks >= 2 and sound.ticks >= 2)


def test_a_worker_goes_on_beating_and_sweeping_whatever_a_look_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = {"beat": 0, "sweep": 0}

    def failing(name: str) -> Any:
        def look(*_: Any, **__: Any) -> None:
            looks[name] += 1
            raise LookupError("odd")

        return look

    home = "graflow_celery.worker.main.housekeeping"
    monkeypatch.setattr(f"{home}.beat", failing("beat"))
    monkeypatch.setattr(f"{home}.sweep", failing("sweep"))
    housekeeping = Housekeeping(Any, "me", dict, lambda: None, 0.01)  # type: ignore[arg-type]
    housekeeping.start()
    try:
        wait_until(lambda: min(looks.values()) >= 2)
    finally:
        housekeeping.stop()


class Place:
    """A store with two open flows that nobody runs."""

    runtime = Runtime()
    leases = SimpleNamespace(forget_all_but=lambda _ids: None)
    is_closing = False

    def __init__(self) -> None:
        row = {"status": FlowStatus.RUNNING, "owner": None, "inputs": {}, "input_digest": ""}
        numbers = {"version": 1, "epoch": 1, "generation": 0, "beats": 0}
        records = [FlowRecord(flow_id=name, flow_name=name, **row, **numbers) for name in ("odd", "sound")]  # type: ignore[arg-type]
        self.store: Any = SimpleNamespace(open_flows=lambda at: records if at > 0 else [])

    def recorder_of(self, _flow_id: str) -> None:
        return None

    def is_free(self, _record: FlowRecord) -> bool:
        return True


class Player:
    """Runs flows, unless they are odd."""

    def __init__(self) -> None:
        self.begun: list[str] = []

    def knows(self, _flow_name: str) -> bool:
        return True

    def begin(self, record: FlowRecord) -> None:
        if record.flow_id == "odd":
            raise LookupError("odd")
        self.begun.append(record.flow_id)

    def sweep(self) -> None:
        """Nothing waits for people here."""


def test_a_flow_that_cannot_be_begun_leaves_the_look_to_others() -> None:
    recovery, player = Recovery(Place()), Player()
    recovery._players.append(player)

    recovery.look()

    assert player.begun == ["sound"]


def test_leases_of_a_message_whose_run_is_damaged_keep_no_others_from_being_extended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept: list[str] = []

    def message(name: str, error: Exception | None = None) -> Any:
        def keep() -> float:
            kept.append(name)
            if error is not None:
                raise error
            return 30.0

        return SimpleNamespace(id=name, graflow_owner=name, worker_pid=os.getpid(), keep_members=keep)

    running = [message("odd", RecordDamagedError("odd", "broken")), message("sound")]
    monkeypatch.setattr("graflow_celery.worker.main.child_leases._running", lambda: running)

    leases = ChildLeases()
    wait_until(lambda: (leases.keep(), len(kept) == 2)[1])
    leases.keep()

    assert kept == ["odd", "sound"]
