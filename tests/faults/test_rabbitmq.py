"""RabbitMQ as broker, the record in Redis: the broker is killed, its lines are cut."""

from __future__ import annotations

import time
from pathlib import Path

from tests.faults.harness import cluster
from tests.faults.members import held
from tests.faults.proxy import proxy_to
from tests.rabbit_support import PrivateRabbit
from tests.support import pass_time


def test_a_group_survives_the_death_of_rabbitmq(tmp_path: Path, rabbit: PrivateRabbit) -> None:
    with cluster(tmp_path, broker_url=rabbit.url, key_prefix="death") as running:
        group = running.submit()
        group.wait_in_background()
        group.wait_for("finished", 40)

        rabbit.kill()
        pass_time(1.0)
        rabbit.start()
        restarted = time.time()

        running.finish("31", "RabbitMQ kill -9, restart", group, restarted)


def test_a_group_survives_a_cut_line_to_rabbitmq(tmp_path: Path, rabbit: PrivateRabbit) -> None:
    with proxy_to("127.0.0.1", rabbit.port) as line, cluster(
        tmp_path, broker_url=f"amqp://guest:guest@127.0.0.1:{line.port}//", key_prefix="cut"
    ) as running:  # fmt: skip
        group = running.submit()
        group.wait_in_background()
        group.wait_for("finished", 40)

        line.reset()
        pass_time(2.0)
        line.heal()
        healed = time.time()

        running.finish("31", "RabbitMQ lines reset for 2 s", group, healed)


def test_a_worker_that_dies_costs_nothing_with_rabbitmq(tmp_path: Path, rabbit: PrivateRabbit) -> None:
    with cluster(tmp_path, broker_url=rabbit.url, key_prefix="dead") as running:
        group = running.submit(80, task=held, extra=20)
        group.wait_for("finished", 20)
        group.wait_until_running_on(running.workers[0])
        running.workers[0].kill()
        killed = time.time()
        group.let_go()
        row = running.finish("31", "RabbitMQ, kill -9 a worker", group, killed)
        assert row.executions > group.n
