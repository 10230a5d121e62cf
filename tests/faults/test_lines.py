"""The lines between submitter, workers and server are cut, stopped, delayed; replies get lost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from graflow.channels.redis_channel import RedisChannel
from graflow.exceptions import GroupTimeoutError
from tests.faults.harness import Cluster, cluster
from tests.faults.members import held
from tests.faults.proxy import Proxy, proxy_to
from tests.support import pass_time, private_redis


@contextmanager
def with_line(folder: Path, *, of: str, workers: int = 2) -> Iterator[tuple[Cluster, Proxy]]:
    """A cluster one side of which ("submitter" or "workers") reaches the server through a proxy."""
    with (
        private_redis() as server,
        proxy_to("127.0.0.1", server.port) as line,
        cluster(folder, workers=0, server=server) as running,
    ):
        url = f"redis://127.0.0.1:{line.port}/0"
        if of == "submitter":
            running.submit_url = url
        else:
            running.worker_url = url
        running.start(workers)
        yield running, line


def cut(line: Proxy, how: str, seconds: float) -> None:
    if how == "reset":
        line.reset()
    elif how == "black hole":
        line.black_hole()
    else:
        line.delay(0.5)
    pass_time(seconds)
    line.heal()


@pytest.mark.parametrize(
    ("how", "seconds"),
    [("reset", 1), ("reset", 10), ("black hole", 1), ("black hole", 10), ("delay", 10), ("reset", 30)],
)
def test_a_waiter_goes_on_when_its_line_to_the_server_was_cut(tmp_path: Path, how: str, seconds: float) -> None:
    with with_line(tmp_path, of="submitter") as (running, line):
        group = running.submit()
        group.wait_in_background()
        group.wait_for("finished", 20)

        cut(line, how, seconds)
        healed = time.time()

        group.outcomes(20)
        back = time.time() - healed
        row = running.finish(
            "7", f"submitter-Redis {how} {seconds:g} s", group, healed, note=f"waiter has all after {back:.1f} s"
        )
        assert row.executions == group.n, "nothing was submitted again"


def test_a_wait_with_a_timeout_ends_in_time_though_the_line_is_dead(tmp_path: Path) -> None:
    with with_line(tmp_path, of="submitter") as (running, line):
        group = running.submit(40, 0.5)
        group.wait_for("finished", 2)
        line.black_hole()
        begun = time.monotonic()
        with pytest.raises(GroupTimeoutError, match="attach"):
            group.handle.outcomes(timeout=2)
        assert time.monotonic() - begun < 12, "a dead line is noticed by the socket timeout of 5 s"
        line.heal()


@pytest.mark.parametrize(
    ("how", "seconds"), [("reset", 1), ("reset", 3), ("reset", 8), ("black hole", 3), ("black hole", 8), ("delay", 5)]
)
def test_workers_keep_their_outcomes_while_their_line_is_cut(tmp_path: Path, how: str, seconds: float) -> None:
    with with_line(tmp_path, of="workers") as (running, line):
        group = running.submit()
        group.wait_in_background()
        group.wait_for("finished", 20)

        cut(line, how, seconds)
        healed = time.time()

        row = running.finish("8", f"worker-Redis {how} {seconds:g} s", group, healed)
        if seconds < 3.3:
            assert row.executions == group.n, "leases outlast a short cut, so nothing runs again"


def test_replies_that_never_come_change_nothing_for_workers(tmp_path: Path) -> None:
    with with_line(tmp_path, of="workers") as (running, line):
        group = running.submit(200, task=held, extra=5)
        group.wait_in_background()
        group.wait_for("finished", 5)

        line.lose_replies(12, b"EVALSHA")
        group.let_go()

        row = running.finish("28", "12 replies to workers lost", group, time.time())
        assert line.lost_replies == 12
        assert row.executions == group.n


@pytest.mark.parametrize(("command", "count"), [(b"EVALSHA", 2), (b"LPUSH", 1)])
def test_replies_that_never_come_change_nothing_for_a_submitter(tmp_path: Path, command: bytes, count: int) -> None:
    with with_line(tmp_path, of="submitter") as (running, line):
        running.submit(2).handle.outcomes(timeout=60)  # what is asked once, as for rights, is behind it
        line.lose_replies(count, command)
        group = running.submit(40)
        row = running.finish("28", f"{count} replies to {command.decode()} of the submitter lost", group, time.time())
        assert line.lost_replies == count
        assert row.executions == group.n


@pytest.mark.parametrize("operation", ["atomic_add", "append", "prepend"])
def test_a_lost_reply_never_counts_twice_in_a_channel(operation: str) -> None:
    with private_redis() as server, proxy_to("127.0.0.1", server.port) as line:
        away = RedisChannel("values", host="127.0.0.1", port=line.port)
        near = RedisChannel("values", host="127.0.0.1", port=server.port)
        getattr(away, operation)("key", 1)
        line.lose_replies(1, b"values")

        getattr(away, operation)("key", 1)

        assert line.lost_replies == 1
        assert near.get("key") == (2 if operation == "atomic_add" else [1, 1])
