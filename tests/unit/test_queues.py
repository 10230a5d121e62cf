"""Queues and their entries."""

from __future__ import annotations

import time

import pytest

from graflow import task
from graflow.core.context import ExecutionContext
from graflow.core.graph import TaskGraph
from graflow.core.serialization import dumps, loads
from graflow.core.task import Task
from graflow.core.task_registry import SerializedTask, TaskResolver, TaskResolverRegistry
from graflow.exceptions import ConfigError, TaskResolutionError
from graflow.queue.base import TaskQueue, TaskSpec, TaskStatus
from graflow.queue.factory import TaskQueueFactory
from graflow.queue.memory import InMemoryTaskQueue
from tests.graph_support import graph_of, plain
from tests.unit import test_pickling as some_module


@pytest.fixture
def context():
    return ExecutionContext(graph_of(*plain(*"abc")))


@pytest.fixture
def queue(context):
    return InMemoryTaskQueue(context)


def spec_of(context, name):
    return TaskSpec(context.graph.get_node(name), context)


# -- entries ----------------------------------------------------------------------------------------------------------


def test_an_entry_has_defaults(context):
    before = time.time()
    spec = spec_of(context, "a")
    assert spec.task_id == "a"
    assert spec.executable is spec.get_task() is context.graph.get_node("a")
    assert spec.execution_context is context
    assert before <= spec.created_at <= time.time()
    assert (spec.status, spec.retry_count, spec.max_retries, spec.last_error) == (TaskStatus.READY, 0, 3, None)
    assert (spec.group_id, spec.trace_id, spec.parent_span_id, spec.serialized_task) == (None, None, None, None)
    assert (spec.resolver_id, spec.strategy) == ("default", "reference")
    assert [status.value for status in TaskStatus] == ["ready", "running", "success", "error"]


def test_an_entry_is_read_by_the_resolver_that_its_envelope_names():
    resolver, registry = TaskResolver(), TaskResolverRegistry()
    registry.register("mine", resolver)
    envelope = registry.serialize(some_module.doubled, resolver_id="mine")
    spec = TaskSpec(serialized_task=envelope)
    assert (spec.resolver_id, spec.strategy) == ("mine", "reference")
    assert spec.get_task(registry) is some_module.doubled
    assert TaskSpec(serialized_task=envelope, resolver_id="other").resolver_id == "other"


def test_an_entry_needs_a_task_or_an_envelope():
    with pytest.raises(ValueError, match="executable or a serialized_task"):
        TaskSpec(None, None)


def test_an_entry_counts_its_retries(context):
    spec = TaskSpec(Task("x", False), context, max_retries=2)
    assert spec.can_retry() is True
    spec.increment_retry("first")
    spec.increment_retry("second")
    assert (spec.retry_count, spec.last_error, spec.can_retry()) == (2, "second", False)


def test_entries_are_ordered_by_their_time(context):
    late, early = (TaskSpec(Task("x", False), context, created_at=when) for when in (2.0, 1.0))
    assert sorted([late, early]) == [early, late]
    assert early < late
    assert early <= late
    assert late > early
    with pytest.raises(TypeError):
        assert late < 5


def test_an_entry_survives_pickling(context):
    made = task("times")(lambda x: 2 * x)
    spec = TaskSpec(made, context, retry_count=1, group_id="g", trace_id="t")
    twin = loads(dumps(spec))
    assert twin.task_id == "times"
    assert twin.executable.func(4) == 8
    assert twin.execution_context.session_id == context.session_id
    assert (twin.retry_count, twin.group_id, twin.trace_id, twin.created_at) == (1, "g", "t", spec.created_at)


def test_an_entry_that_travels_holds_its_envelope_only(context):
    spec = TaskSpec(some_module.doubled(task_id="five", x=5), context, retry_count=2, group_id="g", created_at=3.0)
    copy = spec.serialized()
    assert (copy.executable, copy.execution_context) == (None, None)
    assert isinstance(copy.serialized_task, SerializedTask)
    assert (copy.task_id, copy.retry_count, copy.group_id, copy.created_at) == ("five", 2, "g", 3.0)
    assert copy.task_data == spec.task_data == copy.serialized_task.to_dict()
    assert copy.task_data["strategy"] == "reference"
    resolved = copy.get_task()
    assert (resolved.task_id, resolved()) == ("five", 10)
    assert copy.serialized().serialized_task == copy.serialized_task
    assert spec.executable is not None


def test_another_registry_may_be_used(context):
    registry = TaskResolverRegistry()
    registry.register("own", TaskResolver())
    spec = TaskSpec(some_module.doubled, context, resolver_id="own")
    assert spec.serialized(registry).get_task(registry).func is some_module.doubled.func
    with pytest.raises(TaskResolutionError, match="own"):
        spec.serialized()


# -- queues -----------------------------------------------------------------------------------------------------------


def test_a_queue_is_first_in_first_out(context, queue):
    assert (queue.is_empty(), queue.size(), queue.peek_next_node(), queue.dequeue()) == (True, 0, None, None)
    assert queue.get_next_task() is None
    for name in "abca":
        assert queue.enqueue(spec_of(context, name)) is True
    assert queue.to_list() == ["a", "b", "c", "a"]
    assert (queue.is_empty(), queue.size(), queue.peek_next_node()) == (False, 4, "a")
    spec = queue.dequeue()
    assert (spec.task_id, spec.status) == ("a", TaskStatus.RUNNING)
    assert queue.get_next_task() == "b"
    pending = queue.get_pending_task_specs()
    assert [entry.task_id for entry in pending] == ["c", "a"]
    pending.clear()
    assert queue.size() == 2
    assert queue.get_task_spec("c").task_id == "c"
    assert queue.get_task_spec("nowhere") is None
    queue.cleanup()
    assert queue.to_list() == []


def test_the_start_entry_is_the_graphs_own_task(context):
    queue = InMemoryTaskQueue(context, "b")
    assert queue.dequeue().executable is context.graph.get_node("b")
    with pytest.raises(ValueError, match=r"Start node 'x' not found in graph. Available nodes: \['a', 'b', 'c'\]"):
        InMemoryTaskQueue(context, "x")
    with pytest.raises(ValueError, match="Start node 'x'"):
        InMemoryTaskQueue(ExecutionContext(TaskGraph()), start_node="x")


def test_an_envelope_can_wait_in_memory_too(queue, context):
    queue.enqueue(TaskSpec(some_module.doubled, context).serialized())
    assert queue.to_list() == ["doubled"]
    assert queue.dequeue().get_task().func is some_module.doubled.func
    assert queue.is_empty() is True


def test_metrics_are_counted_once_they_are_on(context, queue):
    queue.enqueue(spec_of(context, "a"))
    zeros = queue.get_metrics()
    assert set(zeros.values()) == {0}
    queue.configure(enable_metrics=True)
    queue.enqueue(spec_of(context, "b"))
    queue.dequeue()
    assert queue.get_metrics() == {**zeros, "enqueued": 1, "dequeued": 1}
    queue.reset_metrics()
    assert queue.get_metrics() == zeros


def test_a_failed_entry_waits_again_only_where_that_was_asked_for(context, queue):
    spec = spec_of(context, "a")
    assert queue.handle_task_failure(spec, "broken") is False
    assert (spec.status, spec.last_error, queue.size()) == (TaskStatus.ERROR, "broken", 0)
    queue.configure(enable_retry=True)
    spec = TaskSpec(context.graph.get_node("a"), context, max_retries=1)
    assert queue.handle_task_failure(spec, "broken") is True
    assert (spec.status, spec.retry_count, queue.to_list()) == (TaskStatus.READY, 1, ["a"])
    assert queue.handle_task_failure(queue.dequeue(), "again") is False


def test_four_methods_make_a_queue(context):
    class Single(TaskQueue):
        def __init__(self, execution_context):
            super().__init__(execution_context)
            self.held = None

        def enqueue(self, spec):
            self.held = spec
            return True

        def dequeue(self):
            held, self.held = self.held, None
            return held

        def is_empty(self):
            return self.held is None

        def cleanup(self):
            self.held = None

    queue = Single(context)
    queue.enqueue(spec_of(context, "a"))
    assert (queue.size(), queue.get_next_task(), queue.size(), queue.get_task_spec("a")) == (1, "a", 0, None)
    with pytest.raises(TypeError):
        TaskQueue()


def test_a_context_always_queues_in_memory(context):
    assert type(context.task_queue) is InMemoryTaskQueue
    assert context.queue is context.task_queue


def test_queues_are_made_by_name(context):
    made = TaskQueueFactory.create("in_memory", execution_context=context, start_node="a")
    assert type(made) is InMemoryTaskQueue
    assert made.to_list() == ["a"]
    assert TaskQueueFactory.create("IN_MEMORY").is_empty()
    alone = TaskQueueFactory.in_memory(context.graph)
    alone.enqueue(spec_of(context, "b"))
    assert alone.to_list() == ["b"]
    assert TaskQueueFactory.in_memory().is_empty()
    with pytest.raises(ConfigError, match=r"'rabbit'; known are in_memory, redis"):
        TaskQueueFactory.create("rabbit")


def test_the_queue_of_workers_comes_from_the_plug_in():
    made = TaskQueueFactory.create("redis", backend_config={"key_prefix": "factory"})
    assert type(made).__name__ == "RedisTaskQueue"
    assert isinstance(made, TaskQueue)


def test_a_missing_plug_in_names_what_to_install(monkeypatch):
    monkeypatch.setattr("graflow.queue.factory.entry_points", lambda **_: [])
    with pytest.raises(ConfigError, match="pip install graflow-celery"):
        TaskQueueFactory.create("redis")


def test_what_a_queue_is_set_to_and_has_counted_are_attributes(queue):
    assert (queue.enable_retry, queue.enable_metrics) == (False, False)
    queue.configure(enable_retry=True, enable_metrics=True)
    assert (queue.enable_retry, queue.enable_metrics) == (True, True)
    queue.enqueue(task_spec=TaskSpec(Task("a", False)))
    assert queue.metrics == queue.get_metrics() == {"enqueued": 1, "dequeued": 0, "retries": 0, "failures": 0}


def test_an_entry_may_be_queued_again_without_counting_a_retry(queue):
    spec = TaskSpec(Task("a", False), max_retries=1, status=TaskStatus.ERROR)
    assert queue.retry_failed_task(spec) is False
    queue.configure(enable_retry=True, enable_metrics=True)
    assert queue.retry_failed_task(task_spec=spec) is True
    assert (spec.status, spec.retry_count, queue.to_list()) == (TaskStatus.READY, 0, ["a"])
    assert queue.metrics["enqueued"] == 1
    spec.status = TaskStatus.ERROR
    spec.increment_retry(error_message="broken")
    assert (spec.status, spec.last_error) == (TaskStatus.READY, "broken")
    assert queue.retry_failed_task(spec) is False
    assert queue.size() == 1
