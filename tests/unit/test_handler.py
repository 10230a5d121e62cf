from __future__ import annotations

from dataclasses import asdict

import pytest

from graflow.core.handler import TaskHandler, TaskResult
from graflow.core.handlers.direct import DirectTaskHandler


class PlainTask:
    def __init__(self, task_id, outcome):
        self.task_id = task_id
        self.outcome = outcome
        self.runs = 0

    def run(self):
        self.runs += 1
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome


class PlainContext:
    def __init__(self):
        self.stored = []

    def set_result(self, task_id, value):
        self.stored.append((task_id, value))


@pytest.mark.parametrize("value", [5, None, ValueError("a value that is an exception")])
def test_the_direct_handler_stores_and_returns_what_the_task_returns(value):
    context = PlainContext()
    task = PlainTask("t", None)
    task.run = lambda: value
    assert DirectTaskHandler().execute_task(task, context) is value
    assert context.stored == [("t", value)]


def test_the_direct_handler_stores_an_exception_and_raises_the_same_object():
    context, error = PlainContext(), ValueError("boom")
    task = PlainTask("t", error)
    with pytest.raises(ValueError) as caught:
        DirectTaskHandler().execute_task(task, context)
    assert caught.value is error
    assert context.stored == [("t", error)]
    assert task.runs == 1


def test_a_value_that_cannot_be_stored_is_not_stored_twice():
    class Picky(PlainContext):
        def set_result(self, task_id, value):
            super().set_result(task_id, value)
            raise TypeError("not keepable")

    context = Picky()
    with pytest.raises(TypeError, match="not keepable"):
        DirectTaskHandler().execute_task(PlainTask("t", 1), context)
    assert context.stored == [("t", 1)]


def test_handlers_are_named_after_their_class_and_the_default_one_is_direct():
    class Shouting(TaskHandler):
        def execute_task(self, task, context):
            return task.run()

    assert Shouting().get_name() == "Shouting"
    assert DirectTaskHandler().get_name() == "direct"


def test_a_handler_must_say_how_a_task_is_executed():
    with pytest.raises(TypeError):
        TaskHandler()


def test_a_task_result_has_an_outcome_and_defaults_for_the_rest():
    assert asdict(TaskResult("t", True)) == {
        "task_id": "t",
        "success": True,
        "error": None,
        "error_message": None,
        "duration": 0.0,
        "timestamp": 0.0,
    }
    assert TaskResult("t", False, error_message="x") == TaskResult(task_id="t", success=False, error_message="x")
