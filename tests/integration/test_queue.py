"""`RedisTaskQueue`: tasks on their own, to workers and back, without any execution context."""

from __future__ import annotations

import json
import pickle
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from kombu.simple import SimpleQueue

from graflow import task
from graflow.core.serialization import loads
from graflow.core.task_registry import TaskResolver, TaskResolverRegistry
from graflow.exceptions import GraflowRuntimeError, TaskResolutionError
from graflow.queue.base import TaskSpec, TaskStatus
from graflow.queue.factory import TaskQueueFactory
from graflow.utils.redis_utils import create_redis_client
from graflow_celery import LocalCluster, RedisTaskQueue, TaskWorker, submit
from graflow_celery.broker.entries import LIFE
from graflow_celery.deployment import deployment_of
from tests.integration import members
from tests.support import wait_until

pytestmark = pytest.mark.redis

GOLDEN = Path(__file__).parent / "golden" / "queue_message_v1.json"


@pytest.fixture
def queue(no_workers: LocalCluster) -> Iterator[RedisTaskQueue]:
    made = RedisTaskQueue(backend_config={**no_workers.backend_config, "queue": "on-their-own"})
    yield made
    made.cleanup()


def test_the_body_of_a_message_is_the_golden_file() -> None:
    spec = TaskSpec(members.double(task_id="extract_data", x=3), created_at=1719300000.0, group_id="etl_batch")
    body = RedisTaskQueue(backend_config={"url": "redis://127.0.0.1:1/0"}).body_of(spec, run_id="run-1", index=4)
    assert body == json.loads(GOLDEN.read_text(encoding="utf-8"))


def test_the_golden_file_is_still_read() -> None:
    queue = RedisTaskQueue(backend_config={"url": "redis://127.0.0.1:1/0"})
    queue.registry.get().register_module(members)
    spec = queue.task_spec(json.loads(GOLDEN.read_text(encoding="utf-8")))
    assert spec.task_id == "extract_data"
    assert spec.get_task().run() == 6


def test_tasks_come_back_in_order_resolved_and_acknowledged(queue: RedisTaskQueue) -> None:
    assert queue.is_empty()
    assert queue.enqueue(TaskSpec(members.double(task_id="a", x=1), group_id="g"))
    assert queue.enqueue_many([TaskSpec(members.double(task_id="b", x=2))]) == 1
    assert queue.size() == 2
    first, second = queue.dequeue(timeout=5), queue.dequeue(timeout=5)
    assert first is not None
    assert second is not None
    assert (first.task_id, first.group_id, first.status) == ("a", "g", TaskStatus.RUNNING)
    assert [spec.get_task().run() for spec in (first, second)] == [2, 4]
    assert queue.size() == 0


def test_an_empty_queue_is_waited_for_as_long_as_asked(queue: RedisTaskQueue) -> None:
    begun = time.monotonic()
    assert queue.dequeue() is None
    assert queue.dequeue(timeout=0.3) is None
    assert 0.2 < time.monotonic() - begun < 20


def test_a_wait_that_was_given_up_takes_nothing_afterwards(queue: RedisTaskQueue) -> None:
    assert queue.dequeue(timeout=0.1) is None
    queue.enqueue_many([TaskSpec(members.double(task_id=name, x=1)) for name in "ab"])
    assert (queue.size(), queue.is_empty()) == (2, False)
    other = RedisTaskQueue(backend_config=queue.settings)
    taken = [other.dequeue(timeout=5), queue.dequeue(timeout=5)]
    assert [spec and spec.task_id for spec in taken] == ["a", "b"]
    other.close()


def test_a_message_is_seen_by_who_waits_for_it(queue: RedisTaskQueue) -> None:
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(queue.dequeue, timeout=None)
        other = RedisTaskQueue(backend_config=queue.settings)
        other.enqueue(TaskSpec(members.double(task_id="late", x=1)))
        spec = waiting.result(timeout=60)
    assert spec is not None
    assert spec.task_id == "late"


@pytest.mark.parametrize(
    "frame",
    [
        b"no json",
        b'{"not": "a message"}',
        (
            b'{"body": "gASVBAAAAAAAAACMAUGULg==", "content-type": "application/x-python-serialize", '
            b'"content-encoding": "binary", "headers": {"task": "graflow.entry"}, "properties": {"delivery_info": {}, '
            b'"delivery_tag": "x", "body_encoding": "base64"}}'
        ),
    ],
    ids=["text", "json", "pickle"],
)
def test_what_is_no_message_of_celery_is_refused_and_gone(frame: bytes, queue: RedisTaskQueue) -> None:
    assert queue.is_empty()
    with create_redis_client(queue.settings.connection) as client:
        client.lpush("graflow:broker:on-their-own", frame)
    with pytest.raises(TaskResolutionError, match="'on-their-own' is refused: not a"):
        queue.dequeue(timeout=5)
    assert queue.is_empty()
    assert queue.dequeue() is None


def test_specs_that_name_no_resolver_get_that_of_the_queue(queue: RedisTaskQueue) -> None:
    registry = TaskResolverRegistry()
    for name in ("default", "etl"):
        registry.register(name, TaskResolver())
    registry.get("etl").register_module(members)
    etl = RedisTaskQueue(backend_config=queue.settings, resolver_registry=registry, default_resolver_id="etl")
    etl.enqueue(TaskSpec(members.double(task_id="a", x=1)))
    spec = etl.dequeue(timeout=5)
    assert spec is not None
    assert (spec.resolver_id, spec.get_task().run()) == ("etl", 2)
    etl.close()


@pytest.mark.parametrize("given", [None, "a task", members.double], ids=repr)
def test_a_queue_takes_nothing_but_specs(given: Any, queue: RedisTaskQueue) -> None:
    with pytest.raises(TypeError, match="TaskSpec"):
        queue.enqueue(given)
    with pytest.raises(TypeError, match="TaskSpec"):
        queue.enqueue_many([TaskSpec(members.double(task_id="a", x=1)), given])
    assert queue.is_empty()


def test_code_travels_signed_and_is_refused_by_another_key(no_workers: LocalCluster, queue: RedisTaskQueue) -> None:
    shout = task(id="shout")(lambda text="a": text.upper())
    queue.enqueue(TaskSpec(shout))
    queue.enqueue(TaskSpec(shout))
    taken = queue.dequeue(timeout=5)
    assert taken is not None
    assert taken.get_task().run() == "A"
    stranger = RedisTaskQueue(
        backend_config={**no_workers.backend_config, "queue": "on-their-own", "signing_key": f"local:{'A' * 44}"}
    )
    with pytest.raises(TaskResolutionError):
        stranger.dequeue(timeout=5)
    stranger.close()
    assert queue.is_empty()


@pytest.mark.parametrize(
    "change",
    [{"version": 99}, {"serialized_task": "os:system"}, {"index": "zero"}, {"resolver_id": "nobody"}],
    ids=["version", "malformed", "index", "resolver"],
)
def test_a_message_that_cannot_be_used_is_an_error_and_gone(change: dict[str, Any], queue: RedisTaskQueue) -> None:
    body = {**queue.body_of(TaskSpec(members.double(task_id="a", x=1))), **change}
    queue.app.send_task("graflow.entry", kwargs=body, queue="on-their-own", ignore_result=True)
    queue.configure(enable_metrics=True)
    with pytest.raises(TaskResolutionError, match="on-their-own"):
        queue.dequeue(timeout=5)
    assert queue.is_empty()
    assert queue.get_metrics()["refused"] == 1


def test_text_of_a_message_is_never_imported(no_workers: LocalCluster) -> None:
    config = {**no_workers.backend_config, "queue": "on-their-own", "signing_key": None}
    queue = RedisTaskQueue(backend_config=config)
    body = queue.body_of(TaskSpec(members.double(task_id="a", x=1)))
    body["serialized_task"]["payload"] = {"module": "os", "name": "system", "qualname": "system"}
    queue.app.send_task("graflow.entry", kwargs=body, queue="on-their-own", ignore_result=True)
    with pytest.raises(TaskResolutionError, match="os:system"):
        queue.dequeue(timeout=5)
    queue.cleanup()


@pytest.mark.parametrize(
    "change",
    [{"signature": None}, {"task_id": "b"}, {"run_id": "other"}, {"index": 1}, {"more": 1}, {"sent_at": 0.0}],
    ids=["unsigned", "another task", "another run", "another index", "more than was signed", "older"],
)
def test_where_there_is_a_key_a_message_counts_as_it_was_signed(change: dict[str, Any], queue: RedisTaskQueue) -> None:
    body = {**queue.body_of(TaskSpec(members.double(task_id="a", x=1))), **change}
    queue.app.send_task("graflow.entry", kwargs=body, queue="on-their-own", ignore_result=True)
    with pytest.raises(TaskResolutionError, match="sign"):
        queue.dequeue(timeout=5)
    assert queue.is_empty()


def test_a_signed_message_that_is_sent_again_is_taken_once(queue: RedisTaskQueue, no_workers: LocalCluster) -> None:
    body = queue.body_of(TaskSpec(members.double(task_id="a", x=1)))
    for _ in range(2):
        queue.app.send_task("graflow.entry", kwargs=body, queue="on-their-own", ignore_result=True)
    assert queue.dequeue(timeout=5) is not None
    with pytest.raises(TaskResolutionError, match="taken before"):
        queue.dequeue(timeout=5)
    key = deployment_of(no_workers.backend_config).record.keys.entry(body["run_id"], 0)
    assert 0 < deployment_of(no_workers.backend_config).client.ttl(key) <= LIFE


@pytest.mark.slow
def test_messages_for_members_of_groups_are_left_for_workers(no_workers: LocalCluster, queue: RedisTaskQueue) -> None:
    config = {**no_workers.backend_config, "queue": "on-their-own"}
    handle = submit(members.noop.map([1]), backend_config=config)
    queue.enqueue(TaskSpec(members.double(task_id="a", x=1)))
    spec = queue.dequeue(timeout=5)
    assert spec is not None
    assert spec.task_id == "a"
    assert queue.size() == 1
    with TaskWorker(config, imports=[members.__name__]):
        assert handle.results(timeout=120) == [1]


@pytest.mark.parametrize("is_member", [True, False], ids=["a member", "a task on its own"])
def test_what_a_consumer_leaves_unacknowledged_is_back_when_it_ends(
    queue: RedisTaskQueue, no_workers: LocalCluster, *, is_member: bool
) -> None:
    # Given one message
    if is_member:
        submit(members.noop.map([1]), backend_config={**no_workers.backend_config, "queue": "on-their-own"})
    else:
        queue.enqueue(TaskSpec(members.double(task_id="a", x=1)))

    # When a consumer takes it and ends
    source: Any = SimpleQueue
    with queue.app.connection_for_read() as connection:
        taken = source(connection, queue.app.amqp.queues["on-their-own"], accept=["json"]).get(timeout=5)
        size_meanwhile = queue.size()
        with create_redis_client(no_workers.backend_config) as client:
            noted = list(client.scan_iter("*unacked*"))

    # Then it is there again; only what no record brings back was noted in the broker for the case of a sudden death
    assert (size_meanwhile, queue.size()) == (0, 1)
    assert taken.headers["task"] == ("graflow.run" if is_member else "graflow.entry")
    assert bool(noted) is not is_member


@pytest.mark.slow
def test_a_worker_runs_what_was_queued(no_workers: LocalCluster, queue: RedisTaskQueue, tmp_path: Path) -> None:
    mark = tmp_path / "marks"
    queue.enqueue(TaskSpec(members.count_run(task_id="c", x=(str(mark), str(tmp_path / "none"), 7))))
    with TaskWorker(queue=queue, imports=[members.__name__]):
        wait_until(mark.exists)
    assert mark.read_text(encoding="utf-8") == "7\n"


def test_the_queue_pickles_without_secrets_and_connections(queue: RedisTaskQueue) -> None:
    queue.dequeue()
    text = pickle.dumps(queue.settings)
    assert queue.settings.redis_url.reveal().encode() not in text
    assert loads(text).queue_name == "on-their-own"


def test_the_factory_makes_it_by_name(no_workers: LocalCluster) -> None:
    made = TaskQueueFactory.create("redis", backend_config=no_workers.backend_config)
    assert isinstance(made, RedisTaskQueue)
    assert made.key_prefix == "graflow"


def test_a_live_client_gives_its_parameters_only(no_workers: LocalCluster) -> None:

    with (
        create_redis_client(no_workers.backend_config) as client,
        pytest.warns(DeprecationWarning, match="redis_client"),
    ):
        made = RedisTaskQueue(client, "other")
    assert made.key_prefix == "other"
    assert made.is_empty()


def test_a_broker_that_does_not_answer_is_an_error() -> None:
    queue = RedisTaskQueue(backend_config={"url": "redis://127.0.0.1:1/0"})
    with pytest.raises(GraflowRuntimeError, match=r"127\.0\.0\.1:1/0"):
        queue.enqueue(TaskSpec(members.noop(task_id="a", x=1)))
