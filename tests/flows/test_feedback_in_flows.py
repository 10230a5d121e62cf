"""`request_feedback` in flows: kept by their store, so that whoever asks waits without a process."""

from __future__ import annotations

import pytest

from graflow import parallel, task
from graflow.exceptions import FeedbackAnswerError
from graflow.hitl import FeedbackCancelledError, FeedbackResponse, FeedbackTimeoutError
from graflow.state import FlowStatus
from tests.support import wait_until


@pytest.fixture(autouse=True)
def _put_away_at_once(monkeypatch):
    monkeypatch.setattr("graflow.core.run.people._HOLD", 0.0)


def asking(runner, body):
    """Register a flow whose first step asks, and whose second one is behind it."""

    @task("ask", inject_context=True)
    def ask(context):
        return body(context)

    @task("after", inject_context=True)
    def after(context):
        return context.get_result("ask")

    runner.register(lambda: ask >> after, "asks")
    return runner.submit("asks")


def refusals(runner, question):
    """Whose answers the log says were refused, and why."""
    return [(line["who"], line["data"]["why"]) for line in runner.audit(question.id) if line["what"] == "refused"]


def put_away(runner, flow_id, number=1):
    """The open questions of a flow, once there are so many and nobody runs it."""
    found = []

    def are_there():
        found[:] = runner.questions(flow_id=flow_id)
        return len(found) == number and runner.get_flow_state(flow_id).owner is None

    wait_until(are_there)
    return found


def response(question_id, kind, **given):
    return FeedbackResponse(feedback_id=question_id, response_type=kind, **given)


def test_a_step_that_nobody_answers_holds_nothing_and_goes_on_with_the_answer(runner):
    ran = []

    def body(context):
        ran.append(1)
        return context.request_approval("Deploy?", metadata={"to": "production"}, timeout=600)

    flow_id = asking(runner, body)
    (question,) = put_away(runner, flow_id)
    manager = runner.feedback_manager()
    (request,) = manager.list_pending_requests(flow_id)
    assert (request.feedback_id, request.prompt, request.task_id) == (question.id, "Deploy?", "ask")
    assert (request.metadata, request.timeout) == ({"to": "production"}, 600)
    assert manager.provide_feedback(question.id, response(question.id, "approval", approved=True, responded_by="ann"))
    assert runner.wait(flow_id, timeout=30).outputs is True
    assert len(ran) == 2
    answer = manager.get_response(question.id)
    assert (answer.approved, answer.responded_by) == (True, "ann")
    assert not manager.provide_feedback(question.id, response(question.id, "approval", approved=False))
    assert [line["what"] for line in runner.audit(question.id)][:3] == ["asked", "voted", "settled"]


@pytest.mark.parametrize(
    ("ask", "value", "got"),
    [
        (lambda context: context.request_text_input("Why?"), "since", "since"),
        (lambda context: context.request_selection("Which?", ["a", "b"]), "b", "b"),
        (
            lambda context: context.request_feedback("multi_selection", "Which?", ["a", "b"]).selected_multiple,
            ["a"],
            ["a"],
        ),
        (lambda context: context.request_feedback("custom", "What?").custom_data, {"it": [1]}, {"it": [1]}),
    ],
    ids=["text", "selection", "multi_selection", "custom"],
)
def test_each_kind_is_answered_as_any_question_of_a_flow(runner, ask, value, got):
    flow_id = asking(runner, ask)
    (question,) = put_away(runner, flow_id)
    runner.answer(question.id, value, by="ann")
    assert runner.wait(flow_id, timeout=30).outputs == got


def test_the_end_of_its_time_wakes_a_step_and_the_question_takes_answers_still(runner):
    tried = []

    def body(context):
        try:
            first = context.request_text_input("First?", timeout=0.1)
        except FeedbackTimeoutError as error:
            tried.append(error.feedback_id)
            first = "nobody"
        return [first, context.request_text_input("Second?", timeout=600)]

    flow_id = asking(runner, body)
    second, first = put_away(runner, flow_id, number=2)
    manager = runner.feedback_manager()
    assert [manager.get_request(each.id).status for each in (first, second)] == ["timeout", "pending"]
    assert manager.provide_feedback(first.id, response(first.id, "text", text="late"))
    runner.answer(second.id, "in time", by="ann")
    # What the step has seen once it sees again: else the answer would make it another one in its midst.
    assert runner.wait(flow_id, timeout=30).outputs == ["nobody", "in time"]
    assert set(tried) == {first.id}
    assert manager.get_response(first.id).text == "late"


def test_a_time_out_that_the_task_does_not_catch_is_no_failure_and_waits_for_the_answer(runner):
    ran = []

    def body(context):
        ran.append(1)
        return context.request_text_input("Name?", timeout=0.1)

    flow_id = asking(runner, body)
    manager = runner.feedback_manager()
    wait_until(lambda: len(ran) >= 2 and [each.status for each in manager.list_requests(flow_id)] == ["timeout"])
    (question,) = put_away(runner, flow_id)
    wait_until(lambda: runner.question(question.id).patience is None)
    assert manager.provide_feedback(question.id, response(question.id, "text", text="Ada"))
    state = runner.wait(flow_id, timeout=30)
    assert (state.status, state.outputs, state.steps[0].attempts) == (FlowStatus.COMPLETED, "Ada", 1)
    assert len(ran) == 3


def test_a_question_that_is_cancelled_is_an_error_of_its_step(runner):
    def body(context):
        try:
            return context.request_approval("Deploy?")
        except FeedbackCancelledError as error:
            return error.feedback_id

    flow_id = asking(runner, body)
    (question,) = put_away(runner, flow_id)
    manager = runner.feedback_manager()
    assert manager.cancel_request(question.id)
    assert not manager.cancel_request(question.id)
    assert runner.wait(flow_id, timeout=30).outputs == question.id
    assert manager.get_request(question.id).status == "cancelled"


def test_a_retry_that_asks_again_asks_for_feedback_anew(runner):
    flow_id = asking(runner, lambda context: context.request_text_input("Why?", timeout=600))
    (first,) = put_away(runner, flow_id)
    manager = runner.feedback_manager()
    assert manager.provide_feedback(first.id, response(first.id, "text", text="so"))
    assert runner.wait(flow_id, timeout=30).outputs == "so"
    runner.retry_failed_step(flow_id, "ask", downstream="all", ask_again=True, wait=False)
    (second,) = put_away(runner, flow_id)
    assert manager.provide_feedback(second.id, response(second.id, "text", text="otherwise"))
    assert runner.wait(flow_id, timeout=30).outputs == "otherwise"
    assert manager.get_response(first.id).text == "so"


def test_an_answer_that_does_not_fit_leaves_the_question_open(runner):
    flow_id = asking(runner, lambda context: context.ask("Pay?", of=["ann", "bob"], needs=2))
    (question,) = put_away(runner, flow_id)
    manager = runner.feedback_manager()
    for answer in (
        response(question.id, "text", text="yes"),
        response(question.id, "approval"),
        response(question.id, "approval", approved=True, responded_by="eve"),
        response(question.id, "approval", approved=True),
    ):
        with pytest.raises(FeedbackAnswerError):
            manager.provide_feedback(question.id, answer)
    assert manager.get_request(question.id).status == "pending"
    assert runner.question(question.id).votes == []
    assert refusals(runner, question) == [
        *(("somebody", "invalid"), ("somebody", "invalid"), ("eve", "not asked"), ("somebody", "not asked")),
    ]


def test_an_answer_that_comes_too_late_is_none_and_the_log_has_it(runner):
    flow_id = asking(runner, lambda context: context.request_approval("Deploy?", timeout=600))
    (question,) = put_away(runner, flow_id)
    manager = runner.feedback_manager()
    assert manager.provide_feedback(question.id, response(question.id, "approval", approved=False))
    late = response(question.id, "approval", approved=True, responded_by="bob")
    assert manager.provide_feedback(question.id, late) is False
    assert manager.provide_feedback("q-0", late) is False
    assert runner.wait(flow_id, 30).outputs is False
    assert refusals(runner, question) == [("bob", "too late")]


def test_handlers_are_told_of_each_event_once_and_channels_get_the_answer(runner):
    told = []

    class Handler:
        def on_request_created(self, request):
            told.append(("created", request.prompt))

        def on_response_received(self, request, response):
            told.append(("received", response.text))

        def on_request_timeout(self, request):
            told.append(("timeout", request.status))

    def body(context):
        asked = context.request_feedback(
            "text", "Name?", timeout=0.1, handler=Handler(), channel_key="name", write_to_channel=True
        )
        return [asked.text, context.get_channel().get("name")]

    flow_id = asking(runner, body)
    wait_until(lambda: ("timeout", "timeout") in told)
    (question,) = put_away(runner, flow_id)
    runner.answer(question.id, "Ada", by="ann")
    assert runner.wait(flow_id, timeout=30).outputs == ["Ada", "Ada"]
    assert told == [("created", "Name?"), ("timeout", "timeout"), ("received", "Ada")]


def test_members_of_a_group_ask_too_and_what_has_finished_does_not_run_again(runner):
    ran = []

    @task("asks", inject_context=True)
    def asks(context):
        ran.append("asks")
        return context.request_text_input("Name?", timeout=0)

    @task("works")
    def works():
        ran.append("works")
        return 1

    @task("behind")
    def behind(asks, works):
        ran.append("behind")
        return [asks, works]

    runner.register(lambda: parallel(asks, works) >> behind, "group")
    flow_id = runner.submit("group")
    (question,) = put_away(runner, flow_id)
    wait_until(lambda: runner.question(question.id).patience is None)
    assert "behind" not in ran
    runner.answer(question.id, "Ada", by="ann")
    assert runner.wait(flow_id, timeout=30).outputs == ["Ada", 1]
    assert (ran.count("works"), ran.count("asks"), ran.count("behind")) == (1, 2, 1)
