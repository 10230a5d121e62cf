"""What is of a wrong type is refused where it is given, with what would be right."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from graflow import task, workflow
from graflow.core.checkpoint import CheckpointManager
from graflow.core.context import ExecutionContext
from graflow.core.engine import WorkflowEngine
from graflow.core.graph import TaskGraph
from graflow.core.handler import TaskHandler
from graflow.core.handlers.group_policy import CriticalGroupPolicy
from graflow.core.task import TaskWrapper
from graflow.core.workflow import set_current_workflow_context
from graflow.exceptions import ConfigError, FlowNotFoundError
from graflow.flows import FlowRunner
from graflow.hitl import question


class Loud(TaskHandler):
    def execute_task(self, task: object, context: object) -> None: ...


HANDLERS = (
    (3, "handlers must be a mapping with names as its keys, such as {'loud': LoudHandler()}, not 3"),
    ({"x": 3}, "handlers takes a name and a TaskHandler, not 'x', 3"),
    ({3: Loud()}, "handlers must be a mapping with names as its keys"),
    (
        {"loud": Loud},
        "handlers takes a name and a TaskHandler, not 'loud', <class 'tests.unit.test_given.Loud'>; write Loud()",
    ),
)


@pytest.mark.parametrize("take", [WorkflowEngine, lambda handlers: FlowRunner("memory://", handlers=handlers)])
@pytest.mark.parametrize(("given", "text"), HANDLERS)
def test_handlers_are_handlers_by_name(take: Callable[..., object], given: object, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        take(handlers=given)
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"store": 3}, "A store is given as an address, a path or a store itself, not as 3; known are sqlite:///path"),
        ({"lease": "6"}, "lease must be seconds above 0, not '6'"),
        ({"lease": 0}, "lease must be seconds above 0, not 0"),
        ({"lease": float("nan")}, "lease must be seconds above 0, not nan"),
        ({"max_concurrent": 0.5}, "max_concurrent must be a whole number of at least 1, not 0.5"),
        ({"max_steps": "x"}, "max_steps must be a whole number of at least 1, not 'x'"),
        ({"recovery": "no"}, "recovery must be True or False, not 'no'"),
        ({"backend_config": []}, "backend_config must be a mapping with names as its keys, such as {'queue': 'flows'}"),
        ({"config": "x"}, "config must be a mapping with names as its keys, such as {'key_prefix': 'shop'}, not 'x'"),
        ({"notifiers": print}, "notifiers must be a mapping with names as its keys, such as {'mail': send_mail}, not"),
        ({"tracer": 3}, "A tracer is a Tracer"),
    ],
    ids=repr,
)
def test_a_runner_refuses_settings_where_it_is_made(given: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        FlowRunner(**{"store": "memory://", **given})  # type: ignore[arg-type]
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda runner: runner.list_flows(limit=None), "limit must be a whole number of at least 1, not None"),
        (lambda runner: runner.questions(limit="3"), "limit must be a whole number of at least 1, not '3'"),
        (lambda runner: runner.list_flows(search=3), "search must be text, not 3"),
        (lambda runner: runner.list_flows(status=3), "A status is one of "),
        (lambda runner: runner.list_flows(status=[3]), "A status is one of "),
        (lambda runner: runner.questions(state=[]), 'state is "open", "settled" or None, not []'),
        (lambda runner: runner.cleanup("x"), "older_than= is seconds from 0, or a timedelta, not 'x'"),
        (lambda runner: runner.stats(3), "flow_name must be the name of a flow, or None for all, not 3"),
        (lambda runner: runner.get_flow_state(None), "Flow None not found"),
        (lambda runner: runner.cancel_flow(3), "Flow 3 not found"),
        (lambda runner: runner.wait("x", timeout="1"), "timeout is a number of seconds, not '1'"),
        (lambda runner: runner.retry_failed_step("x", "y", downstream=[]), 'downstream is "none", "failed" or "all"'),
    ],
)
def test_a_runner_is_asked_with_what_it_can_look_for(call: Callable[[FlowRunner], object], text: str) -> None:
    with FlowRunner("memory://") as runner, pytest.raises((ConfigError, FlowNotFoundError, TypeError)) as caught:
        call(runner)
    assert str(caught.value).startswith(text)


def context() -> ExecutionContext:
    graph = TaskGraph()
    graph.add_node(TaskWrapper("a", lambda: 1))
    return ExecutionContext.create(graph)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: WorkflowEngine().execute(TaskGraph()), "WorkflowEngine.execute() takes an ExecutionContext, not "),
        (lambda: ExecutionContext(None), "An ExecutionContext takes a TaskGraph, such as wf.graph, not None"),
        (lambda: ExecutionContext.create("w"), "An ExecutionContext takes a TaskGraph, such as wf.graph, not 'w'"),
        (
            lambda: set_current_workflow_context(None),
            "set_current_workflow_context() takes a WorkflowContext, not None;",
        ),
        (lambda: context().get_result(None), "get_result() takes the id of a task, not None"),
        (
            lambda: context().get_result(TaskWrapper("a", print)),
            "get_result() takes the id of a task, not TaskWrapper(a); give 'a'",
        ),
        (lambda: context().save(None), "path must be a path, such as 'runs/monday', not None"),
        (lambda: ExecutionContext.load(3), "path must be a path, such as 'runs/monday', not 3"),
        (lambda: context().request_checkpoint(path=3), "The path of a checkpoint must be a path, such as "),
        (lambda: context().request_checkpoint([3]), "The metadata of a checkpoint is a mapping, such as {'why': "),
        (lambda: CheckpointManager.create_checkpoint(None), "A checkpoint is one of an ExecutionContext, such as wf."),
        (lambda: CheckpointManager.create_checkpoint(context(), path=[]), "The path of a checkpoint must be a path, "),
        (lambda: CheckpointManager.create_checkpoint(context(), metadata=3), "The metadata of a checkpoint is a mapp"),
        (
            lambda: CheckpointManager.create_checkpoint(context(), resuming_task_id=3),
            "resuming_task_id must be the id of a task, not 3",
        ),
        (
            lambda: CheckpointManager.resume_from_checkpoint(None),
            "checkpoint_path must be a path, such as 'runs/monday",
        ),
        (lambda: task(len).map([[]], key=3), "len.map() takes a function of an item as key=, such as str, not 3"),
        (lambda: task(len).starmap([], key="x"), "len.starmap() takes a function of an item as key=, such as str, not"),
        (lambda: CriticalGroupPolicy([3]), "critical_task_ids must be ids of tasks, such as ['load'], not 3"),
        (lambda: CriticalGroupPolicy(None), "critical_task_ids must be a collection of ids, got None"),
    ],
)
def test_what_is_no_such_thing_is_a_type_error(
    call: Callable[[], object], text: str, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TypeError) as caught:
        call()
    assert str(caught.value).startswith(text)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"veto": 3}, "veto= is True or False, not 3"),
        ({"revisable": "no"}, "revisable= is True or False, not 'no'"),
        ({"hold": None}, "hold= takes seconds from 0, or a timedelta, not None"),
        ({"remind": None}, "remind= is a list of seconds or timedeltas, not None"),
        ({"escalate": 3}, "escalate= is (after, people), such as (3600, ['ann']), not 3"),
        ({"on_deadline": []}, 'on_deadline= is "default", "fail" or "escalate", not []'),
    ],
    ids=repr,
)
def test_a_question_refuses_options_where_it_is_written(given: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        question(**given)  # type: ignore[arg-type]
    assert str(caught.value) == text


def test_an_unknown_kind_of_channel_may_be_anything() -> None:
    with pytest.raises(ConfigError, match=r"Unknown channel backend \[\]; known are: memory"):
        ExecutionContext(TaskGraph(), channel_backend=[])  # type: ignore[arg-type]


def test_a_task_saves_its_run_under_a_path() -> None:
    with workflow("saves") as wf:
        TaskWrapper("saves", lambda ctx: ctx.checkpoint(path=3), True)
        with pytest.raises(TypeError, match="The path of a checkpoint must be a path"):
            wf.execute()
