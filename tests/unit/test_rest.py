"""What a process gives up while it has nothing to do: connections, and looks for work."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from graflow.flows.recording.recovery import Recovery
from graflow.redis.config import rest_shared_clients, shared_client
from graflow.redis.kept_connections import kept_connection
from graflow.runtime import Runtime
from tests.refusing_server import refusing_server
from tests.support import wait_until


class Work:
    """Work that has to be looked after."""

    name = "work"

    def tick(self, now: float) -> None:
        """Nothing is due."""


def test_what_only_work_needs_is_given_up_step_by_step_once_there_is_none() -> None:
    runtime, given_up = Runtime(), []
    first, second = threading.Event(), threading.Event()
    runtime.pacer.when_idle = (
        (0.01, lambda: (given_up.append("first"), first.set())),
        (0.01, lambda: (given_up.append("second"), second.set())),
    )
    for _ in range(2):
        with runtime.pacer.pacing(Work()):
            first.clear(), second.clear()
        assert second.wait(20)
    assert given_up[-2:] == ["first", "second"]


def test_what_fails_while_there_is_no_work_ends_no_looking_after_what_comes() -> None:
    runtime, ticked, rested = Runtime(), threading.Event(), threading.Event()

    def broken() -> None:
        raise RuntimeError("dictionary changed size during iteration")

    runtime.pacer.when_idle = ((0.01, broken), (0.01, rested.set))
    with runtime.pacer.pacing(Work()):
        pass
    assert rested.wait(20)
    work = Work()
    work.tick = lambda now: ticked.set()  # type: ignore[method-assign]
    with runtime.pacer.pacing(work):
        assert ticked.wait(20)


def test_a_client_can_keep_the_connection_that_is_used_most_while_it_gives_up_others() -> None:
    with refusing_server() as server:
        client = shared_client({"url": server.url})
        kept_connection(client).execute_command(client, "SET", "k", "v")
        client.set("k", "v")
        wait_until(lambda: server.open == 2)
        rest_shared_clients(kept=False)
        wait_until(lambda: server.open == 1)
        rest_shared_clients()
        wait_until(lambda: server.open == 0)


class Home:
    """A store as recovery sees it, in which flows are open or not."""

    def __init__(self) -> None:
        self.looks = 0
        self.records: list[Any] = []
        self.runtime = Runtime()
        self.is_closing = False
        self.leases = SimpleNamespace(forget_all_but=lambda ids: None)
        self.pauses: list[float] = []
        self.store = SimpleNamespace(open_flows=self.open_flows, hints=SimpleNamespace(wait=self.wait))

    def open_flows(self, *, at: float) -> list[Any]:
        self.looks += 1
        return self.records

    def wait(self, seconds: float, is_over: threading.Event) -> None:
        self.pauses.append(seconds)
        is_over.wait(min(seconds, 0.001))

    def recorder_of(self, flow_id: str) -> object:
        return self


@pytest.mark.parametrize("is_open", [True, False])
def test_flows_are_looked_for_less_often_while_none_is_open(is_open: bool) -> None:
    home: Any = Home()
    home.records = [SimpleNamespace(flow_id="f", flow_name="f", status=None)] if is_open else []
    found = Recovery(home)
    found.pause, found.longest_pause = 0.001, 1000.0
    player: Any = SimpleNamespace(knows=lambda name: True, begin=lambda record: None, sweep=lambda: None)
    found.join(player)
    wait_until(lambda: home.looks >= 3)
    found.leave(player)
    assert max(home.pauses[:2]) < 1 if is_open else min(home.pauses[:2]) > 100
