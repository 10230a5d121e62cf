"""Nodes that ask people: `@question`."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Literal

import pytest
from pydantic import BaseModel

import graflow.hitl
from graflow import task, workflow
from graflow.exceptions import ConfigError, TaskFailedError
from graflow.hitl import question
from graflow.state import FlowStatus
from tests.support import wait_until


class Release(BaseModel):
    version: str
    channel: Literal["stable", "beta"] = "beta"


def open_question(runner, flow_id):
    wait_until(lambda: runner.questions(flow_id=flow_id) and runner.get_flow_state(flow_id).owner is None)
    (found,) = runner.questions(flow_id=flow_id)
    return found


def test_the_function_builds_the_prompt_of_results_and_the_answer_is_the_result(runner):
    got = []

    def make():
        @task
        def draft():
            return {"title": "Graflow"}

        @question(Release, of=["ann"], deadline=timedelta(days=2), remind=[timedelta(hours=4)])
        def choose(draft):
            return f"Release {draft['title']}?"

        @task
        def publish(choose):
            got.append(choose)
            return choose.version

        return draft >> choose >> publish

    runner.register(make, "release")
    flow_id = runner.submit("release")
    asked = open_question(runner, flow_id)
    assert (asked.prompt, asked.of, asked.step) == ("Release Graflow?", ["ann"], "choose")
    assert asked.deadline is not None
    runner.answer(asked.id, {"version": "0.2"}, by="ann")
    state = runner.wait(flow_id, 60)
    assert (state.status, state.outputs) == (FlowStatus.COMPLETED, "0.2")
    assert got == [Release(version="0.2")]


def test_nobody_answers_and_the_node_has_its_default(runner):
    @question(str, deadline=0.05, default="nothing")
    def choose():
        return "Which?"

    runner.register(lambda: choose, "defaulted")
    assert runner.wait(runner.submit("defaulted"), 60).outputs == "nothing"


def test_arguments_are_bound_as_those_of_a_task_also_one_that_is_called_context(runner):
    def make():
        @question(int, id="template")
        def count(context, unit="boxes"):
            return f"How many {unit} for {context}?"

        return count(task_id="pens", context="pens")

    runner.register(make, "bound")
    flow_id = runner.submit("bound")
    asked = open_question(runner, flow_id)
    assert (asked.prompt, asked.step) == ("How many boxes for pens?", "pens")
    runner.answer(asked.id, 3, by="ann")
    assert runner.wait(flow_id, 60).outputs == 3


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"of": "ann"}, "of="),
        ({"default": True}, "deadline="),
        ({"needs": 3, "of": ["ann"]}, "needs="),
        ({"answer": int, "deadline": 1, "default": "many"}, "default="),
        ({"answer": threading.Lock}, "answer="),
    ],
    ids=["of", "default", "needs", "no answer", "type"],
)
def test_what_cannot_be_right_is_refused_where_it_is_written(options, told):
    with pytest.raises(ConfigError, match=told):
        question(**options)


def test_a_question_without_parentheses_or_of_no_plain_function_is_refused():
    with pytest.raises(ConfigError, match="parentheses"):

        @question
        def one():
            return "?"

    with pytest.raises(ConfigError, match="plain function"):

        @question()
        async def two():
            return "?"


def test_a_plain_workflow_says_that_it_needs_a_flow():
    with workflow("plain") as wf:

        @question()
        def sure():
            return "Sure?"

        with pytest.raises(TaskFailedError, match="durable flow"):
            wf.execute("sure")


def test_the_face_names_only_what_there_is():
    assert "question" in graflow.hitl.__all__
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = graflow.hitl.no_such_name
