"""Workers whose record or broker refuses the password, or does not answer yet."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from graflow_celery import BrokerUnreachableError, RecordUnreachableError, attach, submit
from tests.cluster_support import MEMBERS
from tests.faults.harness import Worker, cluster
from tests.integration import members
from tests.support import PrivateRedis, free_port, private_redis, wait_until

pytestmark = pytest.mark.redis

WRONG = "hunter2-wrong"


def last_words(worker: Worker) -> str:
    """What a worker says when it ends because it is refused; it says that once, and nothing else about it."""
    assert worker.process.wait(20) == 1
    log = worker.log
    assert WRONG not in log
    assert "Traceback" not in log
    (said,) = [line for line in log.splitlines() if "refuses the" in line]
    return said.partition("This worker ends: ")[2]


@pytest.mark.slow
@pytest.mark.parametrize("login", [f":{WRONG}@", f"nobody:{WRONG}@", ""], ids=["password", "user", "none"])
def test_a_worker_that_the_record_refuses_says_so_once_and_ends(tmp_path: Path, login: str) -> None:
    with private_redis(password=True) as server, cluster(tmp_path, workers=0, server=server) as running:
        running.worker_url = f"redis://{login}127.0.0.1:{server.port}/0"
        (worker,) = running.start(wait=False)
        said = last_words(worker)
    none = "" if login else ", and none is given"
    assert said == (
        f"The Redis of record at 127.0.0.1:{server.port}/0 refuses the username or password{none}; "
        "correct GRAFLOW_REDIS_URL"
    )
    assert "Cannot connect" not in worker.log


@pytest.mark.slow
@pytest.mark.parametrize("login", [f":{WRONG}@", ""], ids=["password", "none"])
def test_a_worker_that_its_broker_refuses_names_the_broker(tmp_path: Path, login: str) -> None:
    with private_redis(password=True) as broker:
        url = f"redis://{login}127.0.0.1:{broker.port}/2"
        with cluster(tmp_path, workers=0, broker_url=url) as running:
            (worker,) = running.start(wait=False)
            none = "" if login else ", and none is given"
            assert last_words(worker) == (
                f"The broker at 127.0.0.1:{broker.port}/2 refuses the username or password{none}; "
                "correct GRAFLOW_BROKER_URL"
            )


@pytest.fixture
def absent() -> Any:
    """A server that is not started yet."""
    server = PrivateRedis(password="right")
    server.port = free_port()
    yield server
    server.stop()


@pytest.mark.slow
def test_a_server_that_is_not_there_yet_is_waited_for(tmp_path: Path, absent: PrivateRedis) -> None:
    with cluster(tmp_path, workers=0, server=absent) as running:
        (worker,) = running.start(imports=[MEMBERS], wait=False)
        wait_until(lambda: "Cannot connect" in worker.log)
        assert (
            f"This worker waits: The Redis of record at 127.0.0.1:{absent.port}/0 does not answer: "
            "nothing listens there; start it, or correct GRAFLOW_REDIS_URL\n"
        ) in worker.log
        absent.start()
        running.wait_for_worker(worker)
        assert submit(members.double.map([4]), backend_config=running.config).results(timeout=120) == [8]


@pytest.mark.slow
def test_a_server_that_comes_late_and_refuses_ends_the_worker_too(tmp_path: Path, absent: PrivateRedis) -> None:
    with cluster(tmp_path, workers=0, server=absent) as running:
        running.worker_url = f"redis://:{WRONG}@127.0.0.1:{absent.port}/0"
        (worker,) = running.start(wait=False)
        wait_until(lambda: "Cannot connect" in worker.log)
        absent.start()
        assert last_words(worker) == (
            f"The Redis of record at 127.0.0.1:{absent.port}/0 refuses the username or password; "
            "correct GRAFLOW_REDIS_URL"
        )


@pytest.mark.slow
def test_a_worker_with_an_outcome_in_hand_stops_although_its_server_is_gone(tmp_path: Path) -> None:
    with private_redis() as server, cluster(tmp_path, workers=0, server=server) as running:
        (worker,) = running.start(1, concurrency=1, imports=[MEMBERS])
        mark = tmp_path / "end"
        handle = submit(members.reports_and_waits.map([str(mark)]), backend_config=running.config)
        wait_until(handle.progress)
        server.stop()
        mark.touch()
        worker.process.send_signal(signal.SIGTERM)
        assert worker.process.wait(40) is not None


def test_a_server_that_cannot_be_written_to_is_named_with_what_to_do() -> None:
    with private_redis() as master, private_redis() as server, server.client() as client:
        config = {"url": server.url}
        client.replicaof("127.0.0.1", master.port)
        with pytest.raises(RecordUnreachableError, match=f"127.0.0.1:{server.port}/0 is a replica.*name its master"):
            submit(members.double.map([4]), backend_config=config)
        client.replicaof("no", "one")
        run_id = submit(members.double.map([4]), backend_config=config).run_id
        client.config_set("maxmemory", 1)
        with pytest.raises(RecordUnreachableError, match=f"127.0.0.1:{server.port}/0 is out of memory"):
            attach(run_id, config).cancel()


def test_a_broker_that_does_not_answer_is_named_without_its_password() -> None:
    address = f"127.0.0.1:{free_port()}/3"
    with private_redis() as server:
        config = {"url": server.url, "broker_url": f"redis://:{WRONG}@{address}"}
        with pytest.raises(BrokerUnreachableError, match=address) as caught:
            submit(members.double.map([4]), backend_config=config)
    assert WRONG not in str(caught.value)
