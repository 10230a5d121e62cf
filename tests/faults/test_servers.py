"""The server of broker and record is killed, stopped, emptied, filled, demoted."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
import redis

import graflow_celery
from graflow.exceptions import GroupLostError, GroupNotFoundError
from graflow_celery import RecordFullError, RecordUnreachableError
from tests.faults.harness import Cluster, cluster, observed
from tests.faults.members import held, work
from tests.faults.proxy import proxy_to
from tests.support import free_port, pass_time, private_redis, wait_until


def test_a_group_survives_the_death_of_a_server_that_keeps_its_data(tmp_path: Path) -> None:
    with cluster(tmp_path, appendonly=True) as running:
        group = running.submit(80)
        group.wait_in_background()
        group.wait_for("finished", 20)

        running.server.kill()
        pass_time(1.0)
        running.server.start()
        restarted = time.time()

        running.finish("4", "kill -9 Redis with AOF, restart", group, restarted)


def test_a_group_is_submitted_again_when_its_server_has_forgotten_everything(tmp_path: Path) -> None:
    with cluster(tmp_path) as running:
        group = running.submit(200, task=held, extra=50)
        attached = graflow_celery.attach(group.run_id, running.config)
        group.wait_in_background()
        group.wait_for("finished", 50)

        running.server.restart()
        restarted = time.time()
        group.let_go()

        try:
            came = attached.outcomes(timeout=60)
            note = "others saw it submitted again"  # before they asked
            assert len(came) == group.n
        except (GroupLostError, GroupNotFoundError):
            note = f"others told after {time.time() - restarted:.1f} s"
        row = running.finish("5", "kill -9 Redis without persistence", group, restarted, note=note)
        assert row.executions < group.n + 80, "what the submitter had read did not run again"


def test_a_server_that_stands_still_costs_no_lease(tmp_path: Path) -> None:
    with cluster(tmp_path) as running:
        group = running.submit(40)
        group.wait_in_background()
        group.wait_for("finished", 10)

        running.server.kill(signal.SIGSTOP)
        pass_time(10.0)
        running.server.kill(signal.SIGCONT)
        resumed = time.time()

        row = running.finish("6", "SIGSTOP Redis for 10 s", group, resumed)
        assert row.seconds < 3
        assert row.executions == group.n


def test_a_record_that_is_gone_is_told_at_once_and_its_members_are_refused(tmp_path: Path) -> None:
    with cluster(tmp_path) as running:
        group = running.submit(then=False)
        attached = graflow_celery.attach(group.run_id, running.config)
        group.wait_for("finished", 20)
        record = running.record
        taken = record.status(group.run_id).executions

        record.delete(group.run_id)
        gone = time.time()
        with pytest.raises((GroupLostError, GroupNotFoundError)):
            attached.outcomes(timeout=10)
        told = time.time() - gone

        waiting = running.server.client()
        wait_until(lambda: waiting.llen("graflow:broker:graflow") == 0, 20, "the other messages are looked at")
        pass_time(1.0)
        assert told < 8.0
        observed(
            "10", "record deleted in the middle", f"told after {told:.1f} s, started {group.count('started')} of 200"
        )
        assert group.count("started") <= taken + 26, "what was claimed may end; nothing else starts"


def memory_limit(running: Cluster, size: int) -> None:
    running.server.client().config_set("maxmemory", size)


def test_a_full_server_refuses_a_submission_whole_and_workers_keep_their_outcomes(tmp_path: Path) -> None:
    with cluster(tmp_path, options=("--maxmemory-policy", "noeviction")) as running:
        group = running.submit()
        group.wait_for("finished", 20)

        memory_limit(running, 1)
        with pytest.raises(RecordFullError, match="out of memory"):
            running.submit(20, run_id="refused")
        pass_time(3.0)
        memory_limit(running, 0)
        healed = time.time()

        client = running.server.client()
        assert not list(client.scan_iter("graflow:refused:*"))
        group.wait_in_background()
        running.finish("11", "Redis out of memory for 3 s", group, healed)


def test_a_group_survives_a_failover_to_a_replica(tmp_path: Path) -> None:
    with private_redis() as master, private_redis(options=("--replicaof", f"127.0.0.1 {master.port}")) as replica:
        wait_until(lambda: replica.client().info("replication")["master_link_status"] == "up", 60)
        assert master.host is not None
        with proxy_to(master.host, master.port) as line, cluster(tmp_path, workers=0, server=master) as running:
            running.worker_url = running.submit_url = f"redis://127.0.0.1:{line.port}/0"
            running.start(2)
            group = running.submit()
            group.wait_in_background()
            group.wait_for("finished", 40)

            # First the replica is only a replica, then it becomes the master.
            line.lead_to("127.0.0.1", replica.port)
            pass_time(2.0)
            replica.client().replicaof("NO", "ONE")
            promoted = time.time()
            running.server = replica

            running.finish("12", "READONLY replica for 2 s, then promoted", group, promoted)


def test_a_wrong_password_is_told_at_once_and_shown_nowhere(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    secret = "not-the-password-4711"
    with private_redis(password=True) as server:
        url = f"redis://:{secret}@{server.host}:{server.port}/0"
        begun = time.monotonic()
        with pytest.raises(RecordUnreachableError, match="password") as caught:
            graflow_celery.submit(work.map([(0, str(tmp_path), 0.0)], name="load"), {"url": url})
        observed("23", "wrong password", f"told after {time.monotonic() - begun:.2f} s")
        assert time.monotonic() - begun < 10.0
        with pytest.raises(RecordUnreachableError) as attaching:
            graflow_celery.attach("nothing", {"url": url})

        running = Cluster(server, tmp_path)
        running.worker_url = url
        worker = running.start(1, wait=False)[0]
        assert worker.process.wait(60) == 1
        assert worker.log.count("refuses the username or password") == 1

    shown = "".join([repr(caught.value), repr(attaching.value), caplog.text, *capfd.readouterr(), worker.log])
    assert secret not in shown
    error: BaseException | None = caught.value
    while error is not None:
        assert secret not in str(error)
        error = error.__cause__ or error.__context__


def test_a_server_that_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    begun = time.monotonic()
    with pytest.raises(RecordUnreachableError):
        graflow_celery.attach("nothing", {"url": f"redis://127.0.0.1:{free_port()}/0"})
    assert time.monotonic() - begun < 10.0


def test_workers_run_nothing_that_they_could_not_claim(tmp_path: Path) -> None:
    with private_redis() as broker, cluster(
        tmp_path, workers=0, appendonly=True, broker_url=broker.url
    ) as running:  # fmt: skip
        running.start(2)
        group = running.submit()
        group.wait_in_background()
        group.wait_for("finished", 20)

        running.server.kill()
        down = time.time()
        wait_until(lambda: quiet(group.lines("started"), 2.0), 20, "claimed members end")
        started = group.count("started")
        pass_time(2.0)
        assert group.count("started") == started
        running.server.start()
        restarted = time.time()

        claimed = running.record.status(group.run_id).executions
        assert started <= claimed
        running.finish("30", f"record down for {restarted - down:.0f} s, broker up", group, restarted)


def quiet(lines: list[list[str]], seconds: float) -> bool:
    """Whether nothing was written for a while."""
    return bool(lines) and time.time() - float(lines[-1][2]) > seconds


def test_a_client_that_meets_a_refused_connection_does_not_try_for_long() -> None:
    from graflow.redis.config import shared_client

    begun = time.monotonic()
    with pytest.raises(redis.ConnectionError):
        shared_client({"host": "127.0.0.1", "port": free_port()}).ping()
    assert time.monotonic() - begun < 10.0
