"""RabbitMQ as broker: whether members with a priority overtake, and what is said when they do not."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from graflow_celery import TaskWorker, submit
from graflow_celery.broker.transport import QUORUM_PRIORITIES_SINCE
from graflow_celery.deployment import deployment_of
from tests.cluster_support import MEMBERS
from tests.faults.harness import ROOT, cluster
from tests.integration import members
from tests.rabbit_support import PrivateRabbit
from tests.support import PrivateRedis, wait_until

pytestmark = pytest.mark.redis


def urgent_ones_overtake(config: dict[str, str], folder: str) -> bool:
    """Whether members of priority 9 start before others that were sent earlier and have none."""
    with TaskWorker(config, imports=[MEMBERS]):
        mark = Path(folder) / "end"
        blocking = submit(members.held.map([str(mark)]), backend_config=config)
        wait_until(lambda: blocking.status().running)
        late = submit(members.stamp.map(range(3)), backend_config={**config, "batch_size": 1})
        soon = submit(members.urgent.map(range(3)), backend_config=config)
        mark.touch()
        return max(soon.results(timeout=120)) < min(late.results(timeout=120))


@pytest.mark.slow
def test_quorum_queues_honour_priorities_or_it_is_said_once_why_not(
    rabbit: PrivateRabbit, redis_server: PrivateRedis, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = {"url": redis_server.url, "broker_url": rabbit.url, "key_prefix": "quorum"}
    with deployment_of(config).queue.app.connection_for_write() as connection:
        connection.connect()
        version = str(connection.connection.server_properties["version"])

    with caplog.at_level(logging.WARNING):
        overtook = urgent_ones_overtake(config, str(tmp_path))
        submit(members.urgent.map(range(3)), backend_config=config).cancel()

    told = [record.getMessage() for record in caplog.records if "priority" in record.getMessage()]
    if int(version.partition(".")[0]) >= QUORUM_PRIORITIES_SINCE:
        assert (overtook, told) == (True, [])
    else:
        assert not overtook, "then there is nothing to warn of"
        assert [text.partition("queue 'quorum' ignores it, because ")[2] for text in told] == [
            f"quorum queues know them since RabbitMQ {QUORUM_PRIORITIES_SINCE}.0, and this is {version}"
        ]


def test_classic_queues_with_a_highest_priority_honour_it_on_any_version(
    rabbit: PrivateRabbit, redis_server: PrivateRedis, tmp_path: Path
) -> None:
    lines = [
        *("task_default_queue_type = 'classic'", "task_create_missing_queue_type = 'classic'"),
        "task_queue_max_priority = 9",
    ]
    (tmp_path / "celeryconfig.py").write_text("\n".join(lines), encoding="utf-8")
    config = {"url": redis_server.url, "broker_url": rabbit.url, "key_prefix": "classic"}
    code = f"from {__name__} import urgent_ones_overtake; print(urgent_ones_overtake({config!r}, '.'))"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.append({str(ROOT)!r}); {code}"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},  # a program reads no celeryconfig.py that merely lies there
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout.strip() == "True", done.stderr
    assert "priority" not in done.stderr


@pytest.mark.slow
def test_a_worker_that_rabbitmq_refuses_says_so_once_and_ends(
    rabbit: PrivateRabbit, redis_server: PrivateRedis, tmp_path: Path
) -> None:
    url = rabbit.url.replace("guest:guest", "guest:hunter2")
    with cluster(tmp_path, workers=0, server=redis_server, broker_url=url) as running:
        (worker,) = running.start(wait=False)
        assert worker.process.wait(60) == 1
    (said,) = [line for line in worker.log.splitlines() if "This worker ends" in line]
    assert said.endswith(
        f"amqp://guest:**@127.0.0.1:{rabbit.port}// refuses the username, the password or the virtual host; "
        "correct GRAFLOW_BROKER_URL"
    )
    assert "Traceback" not in worker.log
    assert "hunter2" not in worker.log
