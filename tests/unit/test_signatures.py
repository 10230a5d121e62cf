"""Signatures of queues, channels, serialization, tracing, drawing and errors, as callers write them."""

from __future__ import annotations

import inspect

import pytest

from graflow import exceptions
from graflow.channels.base import Channel
from graflow.channels.factory import ChannelFactory
from graflow.channels.memory_channel import MemoryChannel
from graflow.channels.redis_channel import RedisChannel
from graflow.channels.typed import ChannelTypeRegistry, TypedChannel, _validate_typed_dict
from graflow.core import serialization
from graflow.core.checkpoint import CheckpointManager
from graflow.core.context import ExecutionContext, TaskExecutionContext, create_execution_context
from graflow.core.cycle import CycleController
from graflow.core.graph import TaskGraph
from graflow.core.handlers.group_policy import GroupExecutionPolicy
from graflow.core.retry import RetryController, RetryPolicy
from graflow.core.task_registry import SerializedTask, TaskResolver, TaskResolverRegistry
from graflow.core.workflow import WorkflowContext
from graflow.debug import find_locks
from graflow.queue.base import TaskQueue, TaskSpec
from graflow.queue.factory import TaskQueueFactory
from graflow.queue.memory import InMemoryTaskQueue
from graflow.redis import config as redis_utils
from graflow.trace.base import Tracer
from graflow.trace.composite import CompositeTracer
from graflow.trace.console import ConsoleTracer
from graflow.trace.logging import LoggingTracer
from graflow.trace.noop import NoopTracer
from graflow.trace.progress import ProgressTracer
from graflow.utils import graph

SPEC = (
    "created_at=None, retry_count=0, max_retries=3, last_error=None, group_id=None, trace_id=None, "
    "parent_span_id=None, serialized_task=None, resolver_id='default', strategy='reference'"
)
CHANNEL = {
    "set": "self, key, value, ttl=None",
    "get": "self, key, default=None",
    "delete": "self, key",
    "exists": "self, key",
    "keys": "self",
    "clear": "self",
    "append": "self, key, value, ttl=None",
    "prepend": "self, key, value, ttl=None",
    "atomic_add": "self, key, amount=1",
    "lock": "self, key, timeout=10.0",
}
HOOKS = {
    "on_workflow_start": "self, workflow_name, context",
    "on_workflow_end": "self, workflow_name, context, result=None, error=None",
    "on_task_queued": "self, task, context",
    "on_task_start": "self, task, context",
    "on_task_end": "self, task, context, result=None, error=None",
    "on_parallel_group_start": "self, group_id, member_ids, context",
    "on_parallel_group_end": "self, group_id, member_ids, context, results=None",
    "on_dynamic_task_added": "self, task_id, parent_task_id=None, is_iteration=False, metadata=None",
    "trace_start": "self, name, trace_id=None, metadata=None",
    "trace_end": "self, name, output=None, metadata=None",
    "span_start": "self, name, parent_name=None, metadata=None",
    "span_end": "self, name, output=None, metadata=None",
    "event": "self, name, parent_span=None, metadata=None",
    "attach_to_trace": "self, trace_id, parent_span_id=None",
    "get_current_span_id": "self",
    "_output_trace_start": "self, name, trace_id, metadata",
    "_output_trace_end": "self, name, output, metadata",
    "_output_span_start": "self, name, parent_name, metadata",
    "_output_span_end": "self, name, output, metadata",
    "_output_event": "self, name, parent_span, metadata",
    "_output_attach_to_trace": "self, trace_id, parent_span_id",
    "clone": "self, trace_id",
    "flush": "self",
    "shutdown": "self",
    "get_runtime_graph": "self",
    "get_execution_order": "self",
}
ERRORS = {
    "GraflowError": "message, cause=None",
    "GraflowRuntimeError": "message, cause=None",
    "CycleLimitExceededError": "task_id, cycle_count, max_cycles, run_id=None",
    "RetryLimitExceededError": "task_id, retry_count, max_retries, last_error=None",
    "MaxStepsExceededError": "max_steps, pending, loop=(), run_id=None",
    "TaskError": "task_id, message, cause=None",
    "ParallelGroupError": "message, group_id, failed_tasks, successful_tasks, errors=None",
    "GraflowWorkflowCanceledError": "message, task_id=None, run_id=None",
    "GraphCompilationError": "message, cause=None",
    "DuplicateTaskError": "task_id, places=()",
    "ConfigError": "message, cause=None",
    "TaskResolutionError": "message, cause=None",
}
STYLED = "with_styles=True, node_colors=None, wrap_label_n_words=9"
TRIES = "max_retries=1, retry_delay=1.0"
SINGLE = [
    (TaskSpec, f"executable=None, execution_context=None, status=<TaskStatus.READY: 'ready'>, {SPEC}"),
    (TaskSpec.increment_retry, "self, error_message=None"),
    (TaskSpec.serialized, "self, registry=None"),
    (TaskQueue.enqueue, "self, task_spec"),
    (TaskQueue.configure, "self, enable_retry=False, enable_metrics=False"),
    (TaskQueue.retry_failed_task, "self, task_spec"),
    (TaskQueue.get_metrics, "self"),
    (TaskQueue.reset_metrics, "self"),
    (InMemoryTaskQueue.enqueue, "self, task_spec"),
    (TaskQueue.handle_task_failure, "self, task_spec, error_message"),
    (InMemoryTaskQueue, "execution_context, start_node=None"),
    (TaskQueueFactory.create, "backend, **config"),
    (TaskQueueFactory.in_memory, "graph=None"),
    (MemoryChannel, "name, **_ignored"),
    (RedisChannel, "name, redis_client=None, host='localhost', port=6379, db=0, **connection"),
    (ChannelFactory.register_backend, "name, channel_class"),
    (ChannelFactory.create_channel, "backend, name, **config"),
    (TypedChannel.send, "self, key, message, ttl=None"),
    (TypedChannel.receive, "self, key, default=None"),
    (ChannelTypeRegistry.create_channel, "channel, type_name"),
    (_validate_typed_dict, "data, cls"),
    (serialization.dumps, "obj"),
    (serialization.dump, "obj, file"),
    (serialization.load, "file"),
    (SerializedTask, "strategy, payload, resolver_id='default', version=1"),
    (TaskResolver.serialize, "self, task, strategy='reference', *, bound_to=()"),
    (TaskResolverRegistry.register, "self, resolver_id, resolver"),
    (redis_utils.extract_redis_config, "redis_client"),
    (redis_utils.normalize_redis_config, "config"),
    (find_locks.find_thread_locks, "root, max_depth=8"),
    (find_locks.find_unpicklable_objects, "root, max_depth=8"),
    (find_locks.debug_taskgraph_for_locks, "graph"),
    (GroupExecutionPolicy._validate_group_results, "group_id, tasks, results"),
    (GroupExecutionPolicy._partition_group_results, "results"),
    (TaskGraph.add_edge, "self, from_node, to_node"),
    (TaskGraph.successors, "self, node"),
    (TaskGraph.predecessors, "self, node"),
    (TaskGraph.rename_node, "self, old_task_id, new_task_id"),
    (TaskGraph.get_parallel_group_members, "self, group_id"),
    (WorkflowContext.add_edge, "self, from_node, to_node"),
    (WorkflowContext.rename_node, "self, old_task_id, new_task_id"),
    (ExecutionContext.set_result, "self, task_id, result"),
    (ExecutionContext.merge_results, "self, sub_context"),
    (ExecutionContext.push_task_context, "self, task_ctx"),
    (ExecutionContext.load, "path"),
    (TaskExecutionContext.get_result, "self, node, default=None"),
    (create_execution_context, "start_node='ROOT', max_steps=10, tracer=None"),
    (CycleController.set_node_max_cycles, "self, node_id, max_cycles"),
    (CycleController.get_max_cycles_for_node, "self, node_id"),
    (CycleController.get_cycle_count, "self, node_id"),
    (CycleController.increment, "self, node_id"),
    (CycleController.accept_next_cycle, "self, node_id"),
    (CycleController.check_cycle_limit, "self, node_id"),
    (RetryPolicy.get_delay, "self, retry_count"),
    (RetryController.set_node_max_retries, "self, node_id, max_retries"),
    (RetryController.get_max_retries_for_node, "self, node_id"),
    (RetryController.set_node_policy, "self, node_id, policy"),
    (RetryController.get_policy_for_node, "self, node_id"),
    (RetryController.get_retry_count, "self, node_id"),
    (RetryController.get_last_error, "self, node_id"),
    (RetryController.increment, "self, node_id, error=None"),
    (RetryController.accept_retry, "self, node_id"),
    (RetryController.get_delay, "self, node_id"),
    (RetryController.check_retry_limit, "self, node_id"),
    (graph.build_graph, "start_node, context=None"),
    (graph.draw_ascii, "graph, *, max_width=100"),
    (graph.draw_mermaid, f"graph, title='Graph', *, {STYLED}"),
    (graph.draw_dot, "graph, node_labels=None, node_colors=None"),
    (graph.create_agraph, "graph, node_labels=None, node_colors=None"),
    (graph.draw_png, "graph, output_path=None, node_labels=None, node_colors=None"),
    (
        graph.draw_mermaid_png,
        f"graph, output_path=None, *, title='Graph', {STYLED}, background_color='white', {TRIES}",
    ),
    (graph.draw_task_graph, "graph, title='Task Graph'"),
    (graph.visualize_dependencies, "graph"),
    (graph.show_graph_info, "graph"),
    (Tracer, "enable_runtime_graph=True"),
    (ConsoleTracer, "enable_runtime_graph=True, enable_colors=True, show_metadata=True, indent_size=2"),
    (Tracer.export_runtime_graph, "self, format='dict'"),
    (NoopTracer, "enable_runtime_graph=True"),
]


def signature(callable_):
    shown = inspect.signature(callable_)
    plain = [parameter.replace(annotation=parameter.empty) for parameter in shown.parameters.values()]
    return str(inspect.Signature(plain))[1:-1]


def name_of(value):
    return value if isinstance(value, str) else value.__qualname__


@pytest.mark.parametrize(("callable_", "parameters"), SINGLE, ids=name_of)
def test_a_function_takes_what_callers_give_it(callable_, parameters):
    assert signature(callable_) == parameters


@pytest.mark.parametrize("kind", [Channel, MemoryChannel, RedisChannel])
def test_every_channel_takes_the_same(kind):
    assert {name: signature(getattr(kind, name)) for name in CHANNEL} == CHANNEL


@pytest.mark.parametrize("kind", [Tracer, NoopTracer, CompositeTracer, LoggingTracer, ProgressTracer, ConsoleTracer])
def test_every_listener_takes_the_same(kind):
    assert {name: signature(getattr(kind, name)) for name in HOOKS} == HOOKS


def test_errors_take_what_their_text_is_made_of():
    assert {name: signature(getattr(exceptions, name)) for name in ERRORS} == ERRORS


def test_a_checkpoint_is_resumed_by_its_path():
    first, *others = inspect.signature(CheckpointManager.resume_from_checkpoint).parameters.values()
    assert first.name == "checkpoint_path"
    assert all(other.kind is other.KEYWORD_ONLY for other in others)
