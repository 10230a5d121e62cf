"""What a run raises when a task failed."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import re
import traceback

import pytest

from graflow import RetryPolicy, exceptions, task, workflow
from graflow.core.checkpoint import CheckpointManager
from graflow.core.handler import TaskHandler
from graflow.encoding.errors_as_data import describe_error, rebuild_error
from graflow.trace.noop import NoopTracer


class RefusedError(Exception):
    """A user's error with a field of its own."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(status, text)
        self.status = status

    def __str__(self) -> str:
        return " ".join(map(str, self.args))


@dataclasses.dataclass(frozen=True)
class FrozenError(Exception):
    """A user's error whose attributes cannot be set."""

    code: int


class ShadowingError(Exception):
    """A user's error with properties that are called like attributes of ours."""

    message = context = cause = task_id = run_id = property(lambda self: "theirs")


class MadeError(Exception):
    """A user's error that wants other arguments than it has."""

    def __new__(cls, _one, _two):
        return super().__new__(cls)


class SilentError(Exception):
    """A user's error that cannot be printed."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class Registered(Exception):  # noqa: N818 - its name does not matter
    """A user's error that notices each class made of it."""

    made: list[type] = []

    def __init_subclass__(cls) -> None:
        cls.made.append(cls)


def failing(error, **options):
    with workflow("failing") as wf:

        @task(id="load", **options)
        def load():
            raise error

    return wf


ERRORS = [
    KeyError("country"),
    ZeroDivisionError("division by zero"),
    FileNotFoundError(2, "No such file or directory", "a.csv"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    RefusedError(503, "busy"),
    ExceptionGroup("several", [ValueError("one"), KeyError("two")]),
    MemoryError("no room for the table"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(
    "options", [{}, {"max_retries": 1, "retry_policy": RetryPolicy(1, 0.0)}], ids=["once", "retried"]
)
def test_the_type_that_a_task_raised_catches_what_the_run_raises(error, options):
    with pytest.raises(type(error)) as caught:
        failing(error, **options).execute()
    raised = caught.value
    assert isinstance(raised, exceptions.RetryLimitExceededError if options else exceptions.TaskFailedError)
    assert isinstance(raised, exceptions.GraflowRuntimeError)
    assert raised.cause is error
    assert raised.task_id == "load"
    assert str(raised).count(str(error)) == 1
    assert type(error).__name__ in str(raised)


@pytest.mark.parametrize(
    "make",
    [
        lambda: FrozenError(3),
        lambda: ShadowingError("x"),
        lambda: MadeError(1, 2),
        SilentError,
        lambda: ExceptionGroup("several", [ValueError("one")]),
    ],
    ids=["frozen", "shadowing", "made", "silent", "group"],
)
@pytest.mark.parametrize("retries", [None, 1])
def test_an_error_of_any_make_is_named_with_its_task(make, retries):
    error = make()
    wf = failing(error, max_retries=retries)
    with pytest.raises(type(error)) as caught:
        wf.execute()
    raised = caught.value
    assert re.match(rf".*task 'load'.*: {type(error).__name__}", str(raised), re.IGNORECASE), str(raised)
    assert raised.task_id == "load"
    assert raised.cause is error
    assert raised.context is wf.last_context
    assert "load" in str(pickle.loads(pickle.dumps(raised)))
    assert "load" in "".join(traceback.format_exception(raised))


def test_a_group_of_errors_is_told_with_the_errors_in_it():
    inner = ExceptionGroup("again", [ValueError("two"), OSError()])
    with pytest.raises(ExceptionGroup) as caught:
        failing(ExceptionGroup("several", [KeyError("one"), inner, *map(TypeError, "abcdef")])).execute()
    assert str(caught.value) == (
        "Task 'load' failed: ExceptionGroup: several (8 sub-exceptions): KeyError: 'one'; ValueError: two; OSError; "
        "TypeError: a; TypeError: b; and 4 more"
    )


def test_an_error_without_text_fails_a_member_and_a_trace_by_its_type():
    tracer = NoopTracer()
    with workflow("w", tracer=tracer) as wf:

        @task
        def load():
            raise SilentError

        load | task("other")(lambda: 1)
        with pytest.raises(exceptions.ParallelGroupError, match="'load': SilentError: <no text"):
            wf.execute()
    told = tracer.export_runtime_graph("dict")
    assert [node["metadata"].get("error_type") for node in told["nodes"] if node["id"] == "load"] == ["SilentError"]


def test_the_error_has_the_attributes_of_the_one_that_the_task_raised():
    with pytest.raises(RefusedError) as refused:
        failing(RefusedError(503, "busy")).execute()
    assert refused.value.status == 503
    assert not hasattr(refused.value, "reason")
    with pytest.raises(FileNotFoundError) as missing:
        failing(FileNotFoundError(2, "No such file or directory", "a.csv")).execute()
    assert (missing.value.errno, missing.value.filename) == (2, "a.csv")


@pytest.mark.parametrize("error", [StopIteration("end"), Registered("x")], ids=["of the language", "noticed"])
def test_a_type_that_means_more_than_an_error_stays_apart(error):
    with pytest.raises(exceptions.TaskFailedError) as caught:
        failing(error).execute()
    assert not isinstance(caught.value, type(error))
    assert caught.value.cause is error
    assert Registered.made == []


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))])
def test_it_stays_of_both_types_when_it_is_copied_and_pickled(error, again):
    with pytest.raises(exceptions.TaskFailedError) as caught:
        failing(error).execute()
    back = again(caught.value)
    assert isinstance(back, exceptions.TaskFailedError)
    assert isinstance(back, type(error))
    assert (str(back), back.task_id, back.run_id) == (str(caught.value), "load", caught.value.run_id)


def test_as_data_it_is_the_failure_alone():
    with pytest.raises(KeyError) as caught:
        failing(KeyError("country")).execute()
    back = rebuild_error(describe_error(caught.value))
    assert type(back) is exceptions.TaskFailedError
    assert str(back) == "Task 'load' failed: KeyError: 'country'"
    assert type(back.cause) is KeyError


def test_the_traceback_shows_the_task_and_not_the_engine():
    with pytest.raises(KeyError) as caught:
        failing(KeyError("country")).execute()
    behind = traceback.extract_tb(caught.value.cause.__traceback__)
    assert [frame.name for frame in behind] == ["load"]
    shown = [frame.filename for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert sum("graflow" in name.rpartition("tests")[0] and "/core/" in name for name in shown) <= 1


def test_an_error_of_an_inner_workflow_keeps_the_task_that_it_names():
    inner = failing(KeyError("country"))
    with workflow("outer") as wf:

        @task
        def around():
            inner.execute()

    with pytest.raises(KeyError) as caught:
        wf.execute()
    assert str(caught.value) == "Task 'load' failed: KeyError: 'country'"
    assert caught.value.task_id == "load"


@pytest.mark.parametrize("inside", [0, 1])
@pytest.mark.parametrize("error", ERRORS[:5], ids=lambda error: type(error).__name__)
def test_a_task_that_is_tried_again_for_an_inner_workflow_raises_the_type_that_failed_there(error, inside):
    inner = failing(error, max_retries=inside)
    with workflow("outer") as wf:

        @task(max_retries=1)
        def around():
            inner.execute()

    with pytest.raises(type(error)) as caught:
        wf.execute()
    for raised in (caught.value, pickle.loads(pickle.dumps(caught.value))):
        assert isinstance(raised, exceptions.RetryLimitExceededError)
        assert raised.task_id == "around"
        assert raised.cause.task_id == "load"
        assert str(raised).count(str(error)) == 1
    assert getattr(caught.value, "filename", None) == getattr(error, "filename", None)


def test_a_failed_run_gives_its_context_and_a_resume_runs_what_had_not_succeeded(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    log = tmp_path / "log"  # what is resumed are copies of the functions, which share files alone
    with workflow("report") as wf:

        @task
        def expensive():
            with log.open("a") as file:
                file.write("expensive ")
            return 1

        @task
        def broken(expensive):
            if not (tmp_path / "server").exists():
                raise ConnectionError("server is down")
            return expensive + 1

        expensive >> broken
    with pytest.raises(ConnectionError) as caught:
        wf.execute()
    assert caught.value.context is wf.last_context
    assert "context" not in pickle.loads(pickle.dumps(caught.value)).__dict__
    path, _ = CheckpointManager.create_checkpoint(wf.last_context, path=tmp_path / "failed")
    (tmp_path / "server").touch()

    context, _ = CheckpointManager.resume_from_checkpoint(path)

    assert context.execute() == 2
    assert log.read_text() == "expensive "


def test_a_handler_of_a_workflow_runs_its_tasks():
    class Twice(TaskHandler):
        def execute_task(self, task, context):
            value = (task.run(), task.run())
            context.set_result(task.task_id, value)
            return value

    with workflow("handled") as wf:

        @task(handler="twice")
        def one():
            return 1

    with pytest.raises(exceptions.UnknownHandlerError, match="twice"):
        wf.execute()
    wf.register_handler("twice", Twice())
    assert wf.execute() == (1, 1)


def test_a_tracer_hears_of_a_resumed_run(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with workflow("traced") as wf:

        @task(inject_context=True)
        def first(context):
            context.checkpoint(path=str(tmp_path / "run"))

        @task
        def second():
            return 2

        first >> second
    wf.execute()
    tracer = NoopTracer()

    context, _ = CheckpointManager.resume_from_checkpoint(tmp_path / "run", tracer=tracer)
    context.execute()

    assert "second" in tracer.get_execution_order()
    assert "first" not in tracer.get_execution_order()


def test_a_run_that_succeeds_leaves_nothing_on_its_workflow():
    with workflow("fine") as wf:

        @task
        def one():
            return 1

    wf.execute()
    assert wf.last_context is None
