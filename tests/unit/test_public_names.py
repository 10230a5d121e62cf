"""Every name that users import, and the private ones that they rely on."""

from __future__ import annotations

import importlib
import inspect
import types

import pytest

import graflow
from graflow.core.context import ExecutionContext
from graflow.core.engine import WorkflowEngine
from graflow.core.graph import TaskGraph
from graflow.core.task import ParallelGroup, Task, TaskWrapper

NAMES = """
graflow: task workflow chain parallel RetryPolicy TaskExecutionContext exceptions __version__
graflow.core.decorators: task
graflow.core.task: Executable Task TaskWrapper SequentialTask ParallelGroup chain parallel GroupExecutor
graflow.core.graph: TaskGraph
graflow.core.workflow: WorkflowContext workflow current_workflow_context get_current_workflow_context
    require_workflow_context set_current_workflow_context clear_workflow_context
graflow.core.context: ExecutionContext TaskExecutionContext create_execution_context execute_with_cycles
graflow.core.engine: WorkflowEngine time
graflow.core.cycle: CycleController
graflow.core.retry: RetryController RetryPolicy
graflow.core.handler: TaskHandler TaskResult
graflow.core.handlers.direct: DirectTaskHandler
graflow.core.handlers.group_policy: GroupExecutionPolicy StrictGroupPolicy BestEffortGroupPolicy
    CriticalGroupPolicy AtLeastNGroupPolicy POLICY_REGISTRY canonicalize_group_policy resolve_group_policy
graflow.core.checkpoint: CheckpointManager CheckpointMetadata
graflow.core.serialization: dumps loads dump load
graflow.core.task_registry: SerializedTask TaskResolver TaskResolverRegistry TaskResolutionError default_registry
graflow.coordination.coordinator: CoordinationBackend TaskCoordinator
graflow.coordination.executor: GroupExecutor
graflow.coordination.threading_coordinator: ThreadingCoordinator
graflow.queue.base: TaskQueue TaskSpec TaskStatus
graflow.queue.memory: InMemoryTaskQueue
graflow.queue.factory: TaskQueueFactory
graflow.channels.base: Channel
graflow.channels.memory_channel: MemoryChannel
graflow.channels.redis_channel: RedisChannel
graflow.channels.factory: ChannelFactory
graflow.channels.typed: TypedChannel ChannelTypeRegistry _is_typed_dict _validate_typed_dict
graflow.channels.schemas: TaskResultMessage TaskProgressMessage TaskErrorMessage WorkflowStateMessage
    DataTransferMessage CycleNotificationMessage
graflow.trace.base: Tracer
graflow.trace.noop: NoopTracer
graflow.utils.graph: build_graph draw_ascii
graflow.utils.redis_utils: extract_redis_config create_redis_client normalize_redis_config
graflow.debug.find_locks: find_thread_locks find_unpicklable_objects debug_taskgraph_for_locks
"""
OPTIONS = (
    "resolve_keyword_args=True, max_cycles=None, max_retries=None, retry_policy=None, timeout=None, cache=None, "
    "ttl=None, options=None"
)
LIMITS = "max_steps=10000, default_max_cycles=10, default_max_retries=0"
LISTENING = "config=None, tracer=None"
PLACES = [
    (module, name)
    for line in NAMES.replace("\n    ", " ").strip().splitlines()
    for module, _, names in [line.partition(": ")]
    for name in names.split()
]


@pytest.mark.parametrize(("module", "name"), PLACES)
def test_a_public_name_is_importable(module, name):
    assert hasattr(importlib.import_module(module), name)


def test_one_class_under_two_names_is_one_class():
    executor, tasks = (importlib.import_module(f"graflow.{name}") for name in ("coordination.executor", "core.task"))
    assert executor.GroupExecutor is tasks.GroupExecutor
    assert isinstance(graflow.exceptions, types.ModuleType)


def test_private_names_that_are_relied_on():
    group = ParallelGroup([Task("a", False)])
    context = ExecutionContext(TaskGraph())
    assert TaskGraph()._graph.__class__.__name__ == "DiGraph"
    assert set(group._execution_config) == {"backend", "backend_config", "policy"}
    assert group._has_successors() is False
    assert Task("x")._pending_registration is False
    assert TaskWrapper("w", lambda: 0, register_to_context=False)._bound_kwargs == {}
    assert context._task_execution_stack == []
    engine = WorkflowEngine()
    assert list(engine._handlers) == ["direct"]
    assert engine._get_handler(Task("y", False)) is engine._handlers["direct"]
    assert list(inspect.signature(engine._execute_task).parameters) == ["task", "context"]


@pytest.mark.parametrize(
    ("callable_", "parameters"),
    [
        (
            graflow.task,
            (
                f"id_or_func=None, *, id=None, inject_context=False, handler=None, {OPTIONS}, "
                "retry_on=None, give_up_on=None, version=None"
            ),
        ),
        (Task, "task_id, register_to_context=True"),
        (
            TaskWrapper,
            (
                f"task_id, func, inject_context=False, *, register_to_context=True, handler_type=None, {OPTIONS}, "
                "version=None"
            ),
        ),
        (ParallelGroup, "tasks, name=None"),
        (ParallelGroup.with_execution, "self, backend=None, backend_config=None, policy=None"),
        (TaskGraph.add_node, "self, task, task_id=None, skip_if_exists=False"),
        (TaskGraph.rename_node, "self, old_task_id, new_task_id"),
        (graflow.workflow, "name, tracer=None"),
        (
            graflow.workflow("w").execute,
            "start_node=None, max_steps=10000, ret_context=False, initial_channel=None",
        ),
        (
            ExecutionContext.create,
            f"graph, start_node=None, {LIMITS}, channel_backend='memory', {LISTENING}, *, on_max_steps='raise'",
        ),
    ],
)
def test_signatures_are_those_that_callers_use(callable_, parameters):
    shown = inspect.signature(callable_)
    plain = [parameter.replace(annotation=parameter.empty) for parameter in shown.parameters.values()]
    assert str(inspect.Signature(plain)) == f"({parameters})"
