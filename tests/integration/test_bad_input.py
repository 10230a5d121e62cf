"""Every mistake is a clear error soon after it can be known, and nothing is half-submitted."""

from __future__ import annotations

import logging
import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from graflow import task, workflow
from graflow.exceptions import (
    ConfigError,
    GraflowRuntimeError,
    NoWorkerError,
    ParallelGroupError,
    PayloadError,
    TaskResolutionError,
)
from graflow_celery import (
    BrokerUnreachableError,
    GroupHandle,
    GroupNotFoundError,
    LocalCluster,
    RecordUnreachableError,
    RedisCoordinator,
    RedisTaskQueue,
    TaskWorker,
    attach,
    submit,
)
from graflow_celery.deployment import deployment_of
from tests.integration import members
from tests.support import PrivateRedis, at_once, private_redis

pytestmark = pytest.mark.redis


@contextmanager
def within(seconds: float) -> Iterator[None]:
    begun = time.monotonic()
    yield
    assert time.monotonic() - begun < seconds


def unsigned(cluster: LocalCluster) -> dict[str, Any]:
    config = dict(cluster.backend_config)
    del config["signing_key"]
    return config


def test_no_server_at_the_url() -> None:
    with within(4.0), pytest.raises(RecordUnreachableError, match=r"127\.0\.0\.1:1/0 does not answer"):
        submit(members.noop.map([1]), backend_config={"url": "redis://127.0.0.1:1/0"})


def test_a_wrong_password_is_told_and_shown_nowhere(cluster: LocalCluster, caplog: pytest.LogCaptureFixture) -> None:
    guess = secrets.token_hex(8)
    url = cluster.redis_url.reveal().replace("redis://:", f"redis://:{guess}")
    with within(4.0), pytest.raises(RecordUnreachableError, match="refuses the username or password") as caught:
        submit(members.noop.map([1]), backend_config={"url": url})
    shown = f"{caught.value!r} {caught.value} {caught.getrepr(style='long')} {caplog.text}"
    assert guess not in shown
    assert cluster.redis_url.reveal() not in shown


def test_an_unknown_backend_lists_the_known_ones() -> None:
    with workflow("w"):
        group = members.noop(task_id="a", x=1) | members.noop(task_id="b", x=1)
        with pytest.raises(ValueError, match="'radish'; known are redis, threading, direct"):
            group.with_execution("radish")


def test_an_unknown_setting_names_the_nearest_known_one(config: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"'max_attemps'.*did you mean 'max_attempts'"):
        submit(members.noop.map([1]), backend_config={**config, "max_attemps": 2})
    with workflow("w") as wf:
        group = members.noop.map([1], name="g").with_execution("redis", backend_config={**config, "leese": 2})
        group >> members.total
        with pytest.raises(GraflowRuntimeError, match="did you mean 'lease'"):
            wf.execute()


def test_a_setting_with_a_wrong_value_names_it(config: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="max_attempts"):
        RedisCoordinator({**config, "max_attempts": 0})


def test_a_task_that_cannot_be_sent_is_refused_with_both_remedies(cluster: LocalCluster) -> None:
    local = task(id="local")(lambda x: x)
    config = unsigned(cluster)
    before = deployment_of(config).record.open_groups()
    with pytest.raises(TaskResolutionError, match="GRAFLOW_SIGNING_KEY") as caught:
        submit(local.map([1]), backend_config=config)
    assert "--graflow-import" in str(caught.value)
    assert deployment_of(config).record.open_groups() == before


def test_an_argument_that_cannot_be_sent_names_task_and_argument(cluster: LocalCluster) -> None:
    with pytest.raises((PayloadError, TaskResolutionError), match="'x' of task 'noop\\[1\\]'"):
        submit(members.noop.map([1, threading.Lock()]), backend_config=unsigned(cluster))


def test_an_argument_over_the_limit_is_refused(cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graflow.values.blobs.MAX_BLOB", 1024 * 1024)
    with pytest.raises(PayloadError, match=r"noop.* is 2 MiB long, over the limit of 1 MiB"):
        submit(members.noop.map(["x" * (2 * 1024 * 1024)]), backend_config=cluster.backend_config)


def test_a_member_that_raises_names_itself_and_its_error(config: dict[str, Any]) -> None:
    with within(4.0), pytest.raises(ParallelGroupError, match=r"'fail\[0\]': ValueError: no 3"):
        submit(members.fail.map([3]), backend_config=config).results(timeout=120)


def test_a_result_that_cannot_be_serialised_is_the_members_failure_with_its_type(config: dict[str, Any]) -> None:
    with within(4.0), pytest.raises(ParallelGroupError, match="lock") as caught:
        submit(members.unserialisable.map([0, 1]), backend_config=config).results(timeout=120)
    assert caught.value.successful_tasks == ["unserialisable[0]"]
    assert isinstance(caught.value.errors["unserialisable[1]"], PayloadError)


@pytest.mark.slow
def test_a_worker_that_lacks_the_module_fails_the_member_and_names_reference_and_worker(
    no_workers: LocalCluster,
) -> None:
    handle = submit(members.noop.map([1]), backend_config=no_workers.backend_config)  # to nobody yet: by reference
    with TaskWorker(no_workers.backend_config) as worker, pytest.raises(ParallelGroupError) as caught:
        handle.results(timeout=120)
    assert "tests.integration.members:noop" in str(caught.value)
    assert worker.name in str(caught.value)


def test_a_worker_with_a_key_refuses_unsigned_members(cluster: LocalCluster) -> None:
    with pytest.raises(ParallelGroupError, match="is not signed"):
        submit(members.noop.map([1]), backend_config=unsigned(cluster)).results(timeout=120)


def test_no_worker_ends_the_wait_when_asked_and_says_how_to_start_one(no_workers: LocalCluster) -> None:
    config = {**no_workers.backend_config, "worker_wait": 0.5, "on_no_worker": "error", "queue": "lonely"}
    handle = submit(members.noop.map(range(3)), backend_config=config)
    with within(5.0), pytest.raises(NoWorkerError, match="celery -A graflow_celery worker") as caught:
        handle.results()
    assert caught.value.queue == "lonely"
    assert caught.value.length >= 1
    assert "no worker is seen here" in str(caught.value)


def test_no_worker_for_a_queue_tells_which_workers_there_are(cluster: LocalCluster) -> None:
    config = {**cluster.backend_config, "worker_wait": 0.5, "on_no_worker": "error", "queue": "not theirs"}
    handle = submit(members.noop.map([1]), backend_config=config)
    with pytest.raises(NoWorkerError) as caught:
        handle.results(timeout=120)
    handle.cancel()
    for worker in cluster.workers:
        assert f"{worker.name} of graflow" in str(caught.value)


def test_no_worker_is_warned_about_when_waiting_goes_on(
    no_workers: LocalCluster, caplog: pytest.LogCaptureFixture
) -> None:
    config = {**no_workers.backend_config, "worker_wait": 0.2, "queue": "lonely too"}
    with caplog.at_level(logging.WARNING), pytest.raises(TimeoutError):
        submit(members.noop.map([1]), backend_config=config).results(timeout=1.0)
    assert "No worker consumes queue 'lonely too'" in caplog.text


def test_all_who_wait_for_workers_of_one_queue_are_warned_once(
    no_workers: LocalCluster, caplog: pytest.LogCaptureFixture
) -> None:
    config = {**no_workers.backend_config, "worker_wait": 0.1, "queue": "lonely for all"}
    handles = [submit(members.noop.map([1]), backend_config=config) for _ in range(3)]

    def wait(handle: GroupHandle) -> None:
        with pytest.raises(TimeoutError):
            handle.results(timeout=1.5)

    with caplog.at_level(logging.WARNING):
        at_once(wait, handles)
    told = [record for record in caplog.records if "No worker consumes queue 'lonely for all'" in record.getMessage()]
    assert len(told) == 1


def test_a_server_that_evicts_any_key_is_refused() -> None:
    with private_redis(options=("--maxmemory-policy", "allkeys-lru", "--maxmemory", "100mb")) as server:
        _refused(server, "allkeys-lru")


def _refused(server: PrivateRedis, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        submit(members.noop.map([1]), backend_config={"url": server.url})


@pytest.mark.slow
@pytest.mark.parametrize("role", ["broker_url", "url"])
def test_a_node_of_a_redis_cluster_is_refused_by_submitters_and_workers(config: dict[str, Any], role: str) -> None:
    record = deployment_of(config).record
    before = record.open_groups()
    with private_redis(options=("--cluster-enabled", "yes")) as node:
        clustered = {**config, role: node.url}
        with pytest.raises(ConfigError, match="Cluster"):
            submit(members.noop.map([1]), backend_config=clustered)
        environment = {
            **os.environ,
            "GRAFLOW_REDIS_URL": config["url"].reveal(),
            "GRAFLOW_BROKER_URL" if role == "broker_url" else "GRAFLOW_REDIS_URL": node.url,
        }
        command = [sys.executable, "-m", "celery", "-A", "graflow_celery", "worker", "-c", "1", "-Q", "clustered"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode
    assert "Redis Cluster" in done.stderr
    assert record.open_groups() == before


def test_a_broker_that_is_not_there_is_told(config: dict[str, Any]) -> None:
    record = deployment_of(config).record
    before = record.open_groups()
    with within(10.0), pytest.raises(GraflowRuntimeError, match="broker"):
        submit(members.noop.map([1]), backend_config={**config, "broker_url": "redis://127.0.0.1:1/0"})
    assert record.open_groups() == before


def test_the_same_id_twice_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(PayloadError, match="'a'"):
        submit([members.noop(task_id="a", x=1), members.noop(task_id="a", x=2)], backend_config=config)


@pytest.mark.parametrize("given", ["redis://:hunter2@localhost", ["redis://:hunter2@localhost"], 5], ids=repr)
def test_settings_that_are_no_mapping_are_refused_and_not_shown(given: Any) -> None:
    for door in (
        lambda: submit(members.noop.map([1]), given),
        lambda: attach("some-run", given),
        lambda: members.noop.map([1]).with_execution("redis", given),
        lambda: RedisTaskQueue(backend_config=given),
        lambda: RedisCoordinator(given),
    ):
        with pytest.raises(ConfigError, match="mapping") as caught:
            door()
        assert "hunter2" not in str(caught.value)


def test_a_database_that_the_server_does_not_have_is_refused(cluster: LocalCluster) -> None:
    url = cluster.redis_url.reveal().removesuffix("/0") + "/99"
    with pytest.raises(ConfigError, match=r"127\.0\.0\.1:\d+/99 has no database of that number"):
        submit(members.noop.map([1]), {**cluster.backend_config, "url": url})


def test_a_broker_that_refuses_us_is_told_at_once_and_nothing_is_kept(cluster: LocalCluster) -> None:
    with private_redis(password=True) as broker:
        config = {**cluster.backend_config, "broker_url": f"redis://:hunter2@127.0.0.1:{broker.port}/0"}
        with within(3.0), pytest.raises(BrokerUnreachableError, match="refuses the username or password") as caught:
            submit(members.noop.map([1]), config, run_id="refused by its broker")
    assert f"127.0.0.1:{broker.port}/0" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    with pytest.raises(GroupNotFoundError):
        attach("refused by its broker", cluster.backend_config)


def test_a_broker_that_celery_lacks_a_package_for_is_told_and_nothing_is_kept(cluster: LocalCluster) -> None:
    config = {**cluster.backend_config, "broker_url": "sqs://"}
    with pytest.raises(ConfigError, match=r"sqs://.*is its package installed"):
        submit(members.noop.map([1]), config, run_id="no package")
    with pytest.raises(GroupNotFoundError):
        attach("no package", cluster.backend_config)
