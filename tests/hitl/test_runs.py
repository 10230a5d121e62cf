from __future__ import annotations

import pickle
import warnings

import pytest

from graflow import exceptions, task, workflow
from graflow.channels.memory_channel import MemoryChannel
from graflow.coordination.coordinator import CoordinationBackend
from graflow.core.branches.surroundings import Surroundings
from graflow.core.checkpoint import CheckpointManager
from graflow.core.context import ExecutionContext
from graflow.core.engine import WorkflowEngine
from graflow.core.remote.branch import RemoteBranch
from graflow.core.task import parallel
from graflow.hitl import FeedbackCancelledError, FeedbackManager, FeedbackResponse, FeedbackTimeoutError
from graflow.trace.base import Tracer
from tests.hitl.backends import InMemoryBackend, approval

WAITS = r"waits for people"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def log():
    return []


def context_of(wf, **options):
    graph, start = wf.compiled()
    return ExecutionContext.create(graph, start, **options)


def run_until_it_waits(context, engine=None):
    with pytest.warns(UserWarning, match=WAITS):
        assert (engine or WorkflowEngine()).execute(context) is None
    assert context.stop_reason == "waiting"
    return [question.feedback_id for question in context.waiting]


def resumed(context):
    return CheckpointManager.resume_from_checkpoint(context.last_checkpoint_path, code="saved")[0]


def texts(**answers):
    return FeedbackResponse(feedback_id="", response_type="text", **answers)


def asking_workflow(log, retries=0):
    with workflow("asking") as wf:

        @task
        def first():
            log.append("first")
            return 1

        @task(inject_context=True, max_retries=retries)
        def ask(ctx):
            log.append("ask")
            one = ctx.request_text_input("one?", timeout=0.02)
            two = ctx.request_text_input("two?", timeout=0.02)
            return one, two

        @task
        def last(ask):
            log.append("last")
            return ask

        first >> ask >> last
    return wf


def test_a_run_that_nobody_answers_is_saved_and_goes_on_with_the_answers(log):
    context = context_of(asking_workflow(log, retries=3))
    (one,) = run_until_it_waits(context)
    assert context.checkpoint_metadata["user_metadata"] == {
        "reason": "feedback_timeout",
        "feedback_id": one,
        "task_id": "ask",
        "timeout": 0.02,
    }
    manager = FeedbackManager()
    asked = manager.get_request(one)
    assert (asked.status, asked.task_id, asked.session_id) == ("timeout", "ask", context.session_id)
    assert asked.metadata == {
        "checkpoint_path": context.last_checkpoint_path,
        "checkpoint_id": context.checkpoint_metadata["checkpoint_id"],
        "checkpoint_created_at": context.checkpoint_metadata["created_at"],
        "checkpoint_steps": 1,
        "checkpoint_reason": "feedback_timeout",
    }
    assert context.get_result("ask") is None
    context = resumed(context)
    assert run_until_it_waits(context) == [one]
    assert manager.provide_feedback(one, texts(text="A"))
    context = resumed(context)
    (two,) = run_until_it_waits(context)
    assert two != one
    assert manager.provide_feedback(two, texts(text="B"))
    context = resumed(context)
    assert WorkflowEngine().execute(context) == ("A", "B")
    assert (context.stop_reason, context.waiting) == ("completed", [])
    assert context.cycle_controller.get_cycle_count("ask") == 1
    assert context.retry_controller.get_retry_count("ask") == 0
    assert log == ["first", "ask"] or log.count("first") == 1
    assert len(manager.list_requests()) == 2


def test_the_same_run_may_also_go_on_in_its_process(log):
    context = context_of(asking_workflow(log))
    (one,) = run_until_it_waits(context)
    context.feedback_manager.provide_feedback(one, texts(text="A"))
    (two,) = run_until_it_waits(context)
    context.feedback_manager.provide_feedback(two, texts(text="B"))
    assert WorkflowEngine().execute(context) == ("A", "B")
    assert log == ["first", "ask", "ask", "ask", "last"]


def test_a_task_may_catch_the_time_out_and_go_on():
    with workflow("catching") as wf:

        @task(inject_context=True)
        def ask(ctx):
            try:
                return ctx.request_approval("?", timeout=0)
            except FeedbackTimeoutError as error:
                return error.timeout

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert wf.execute() == 0


def test_done_with_none_is_told_from_waiting():
    with workflow("none") as wf:

        @task(inject_context=True)
        def ask(ctx):
            ctx.request_approval("?", timeout=0)

    with pytest.warns(UserWarning, match=WAITS):
        value, context = wf.execute(ret_context=True)
    assert (value, context.stop_reason) == (None, "waiting")
    assert wf.last_context is context
    context.feedback_manager.provide_feedback(context.waiting[0].feedback_id, approval())
    assert (WorkflowEngine().execute(context), context.stop_reason) == (None, "completed")


def test_every_form_of_question_gives_its_answer(log):
    manager = FeedbackManager(InMemoryBackend())

    class Answering:
        def on_request_created(self, request):
            answer = {
                "text": {"text": "t"},
                "selection": {"selected": "b"},
                "multi_selection": {"selected_multiple": ["a"]},
                "custom": {"custom_data": {"n": 1}},
                "approval": {"approved": True},
            }[request.feedback_type.value]
            manager.provide_feedback(
                request.feedback_id, FeedbackResponse(feedback_id="", response_type=request.feedback_type, **answer)
            )

        def on_response_received(self, request, response):
            log.append(request.feedback_type.value)

    with workflow("forms") as wf:

        @task(inject_context=True)
        def ask(ctx):
            found = [
                ctx.request_feedback(kind, "?", ["a", "b"] if "selection" in kind else None, handler=Answering()).value
                for kind in ("text", "selection", "multi_selection", "custom")
            ]
            yes = ctx.request_feedback(
                "approval", "?", channel_key="ok", write_to_channel=True, handler=Answering()
            ).approved
            return [*found, yes, ctx.get_channel().get("ok"), ctx.get_channel().get("ok.__feedback_response__")]

    context = context_of(wf)
    context.feedback_manager = manager
    *found, whole = WorkflowEngine().execute(context)
    assert found == ["t", "b", ["a"], {"n": 1}, True, True]
    assert whole["approved"] is True
    assert context.channel.get("ok") is True
    assert log == ["text", "selection", "multi_selection", "custom", "approval"]


def test_empty_answers_give_empty_values():
    class Empty(FeedbackManager):
        def request_feedback(self, task_id, session_id, feedback_type, *more, **rest):
            return FeedbackResponse(feedback_id="q", response_type=feedback_type)

    with workflow("empty") as wf:

        @task(inject_context=True)
        def ask(ctx):
            return ctx.request_approval("?"), ctx.request_text_input("?"), ctx.request_selection("?", ["a"])

    context = context_of(wf)
    context.feedback_manager = Empty(InMemoryBackend())
    assert WorkflowEngine().execute(context) == (False, "", "")


def test_an_unknown_kind_of_question_fails_early():
    with workflow("kinds") as wf:

        @task(inject_context=True)
        def ask(ctx):
            return ctx.request_feedback("vote", "?")

    with pytest.raises(ValueError, match="vote"):
        wf.execute()


def test_a_cancelled_question_is_a_failure(log):
    context = context_of(asking_workflow(log))
    (one,) = run_until_it_waits(context)
    context.feedback_manager.cancel_request(one)
    with pytest.raises(FeedbackCancelledError, match=one):
        WorkflowEngine().execute(context)


def test_an_answer_that_was_taken_is_not_told_again(log):
    told = []

    class Handler:
        def on_request_created(self, request):
            told.append(("created", request.prompt))

        def on_response_received(self, request, response):
            told.append(("received", request.prompt))

        def on_request_timeout(self, request):
            told.append(("timeout", request.prompt))

    with workflow("twice") as wf:

        @task(inject_context=True)
        def ask(ctx):
            return [ctx.request_feedback("text", p, timeout=0, handler=Handler()).text for p in ("one", "two")]

    context = context_of(wf)
    for answer in ("A", "B"):
        (asked,) = run_until_it_waits(context)
        context.feedback_manager.provide_feedback(asked, texts(text=answer))
    assert WorkflowEngine().execute(context) == ["A", "B"]
    assert told == [
        *(("created", "one"), ("timeout", "one"), ("received", "one")),
        *(("created", "two"), ("timeout", "two"), ("received", "two")),
    ]


def test_each_pass_of_a_loop_asks_anew():
    with workflow("loop") as wf:

        @task(inject_context=True, max_cycles=5)
        def ask(ctx, number=0):
            text = ctx.request_text_input(f"{number}?", timeout=0)
            if number < 2:
                ctx.next_iteration(number + 1)
            return text

    context, seen = context_of(wf), []
    for number in range(3):
        (asked,) = run_until_it_waits(context)
        seen.append(asked)
        context.feedback_manager.provide_feedback(asked, texts(text=str(number)))
        context = resumed(context)
    assert WorkflowEngine().execute(context) == "2"
    assert len(set(seen)) == 3


def test_a_manager_of_ones_own_is_not_pickled_and_its_place_is():
    context = ExecutionContext.create(asking_workflow([]).compiled()[0])
    context.feedback_manager = FeedbackManager("redis", {"host": "nowhere", "password": "geheim", "key_prefix": "p"})
    packed = pickle.dumps(context.questions)
    assert b"geheim" not in packed
    again = pickle.loads(packed).manager(context)
    assert (again._backend.place()["host"], again._backend.key_prefix) == ("nowhere", "p")
    context.feedback_manager = FeedbackManager(InMemoryBackend())
    with pytest.raises(exceptions.ConfigError, match="InMemoryBackend"):
        pickle.loads(pickle.dumps(context.questions)).manager(context)


def test_questions_are_kept_where_the_settings_say(folder):
    context = context_of(asking_workflow([]), config={"data_dir": "mine"})
    run_until_it_waits(context)
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoints", "mine"]
    assert context.feedback_manager is context.feedback_manager


# -- groups ------------------------------------------------------------------------------------------------------------

BACKENDS = [CoordinationBackend.THREADING, CoordinationBackend.DIRECT]


def group_workflow(log, backend, policy="strict", members=None):
    with workflow("deploy") as wf:

        @task
        def build():
            log.append("build")

        @task
        def check():
            log.append("check")
            return "checked"

        @task(inject_context=True)
        def approve(ctx):
            log.append("approve")
            ctx.get_channel().set("asked by", ctx.task_id)
            if not ctx.request_approval("Deploy?", timeout=0.02):
                raise RuntimeError("rejected")
            return "approved"

        @task
        def deploy():
            log.append("DEPLOYED")
            return "deployed"

        group = parallel(check, approve).with_execution(backend, policy=policy)
        build >> group >> deploy
    return wf


@pytest.mark.parametrize("policy", ["strict", "best_effort"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_no_member_succeeds_without_its_answer(log, backend, policy):
    context = context_of(group_workflow(log, backend, policy))
    (asked,) = run_until_it_waits(context)
    assert sorted(log) == ["approve", "build", "check"]
    assert (context.waiting[0].task_id, context.has_completed("approve")) == ("approve", False)
    context = resumed(context)
    assert run_until_it_waits(context) == [asked]
    assert FeedbackManager().provide_feedback(asked, approval())
    context = resumed(context)
    assert WorkflowEngine().execute(context) == "deployed"
    assert [context.get_result(name) for name in ("check", "approve")] == ["checked", "approved"]
    assert context.channel.get("asked by") == "approve"
    assert context.steps == 5
    counts = context.cycle_controller.cycle_counts
    assert {counts[name] for name in ("build", "check", "approve", "deploy")} == {1}


def test_finished_members_are_not_run_again(log):
    context = context_of(group_workflow(log, CoordinationBackend.THREADING))
    (asked,) = run_until_it_waits(context)
    context.feedback_manager.provide_feedback(asked, approval())
    assert WorkflowEngine().execute(context) == "deployed"
    assert sorted(log) == ["DEPLOYED", "approve", "approve", "build", "check"]


def test_all_members_that_wait_are_listed_and_each_has_its_own_answer():
    with workflow("many") as wf:

        @task
        def begin():
            return None

        members = []
        for name in ("x", "y", "z"):

            @task(id=name, inject_context=True)
            def ask(ctx):
                return ctx.request_text_input(f"{ctx.task_id}?", timeout=0)

            members.append(ask)
        begin >> parallel(*members)

    context = context_of(wf)
    asked = run_until_it_waits(context)
    assert [question.task_id for question in context.waiting] == ["x", "y", "z"]
    assert len(context.checkpoint_metadata["user_metadata"]["waiting"]) == 3
    for number, feedback_id in enumerate(asked[:2]):
        context.feedback_manager.provide_feedback(feedback_id, texts(text=str(number)))
    context = resumed(context)
    assert run_until_it_waits(context) == asked[2:]
    context.feedback_manager.provide_feedback(asked[2], texts(text="2"))
    WorkflowEngine().execute(context)
    assert [context.get_result(name) for name in ("x", "y", "z")] == ["0", "1", "2"]


def test_a_branch_goes_on_at_the_task_that_asked(log):
    with workflow("branch") as wf:

        @task
        def before():
            log.append("before")
            return 1

        @task(inject_context=True)
        def ask(ctx, before):
            log.append("ask")
            return before, ctx.request_text_input("?", timeout=0)

        @task
        def other():
            log.append("other")

        @task
        def end():
            log.append("end")

        before >> ask
        parallel(before, other) >> end

    context = context_of(wf)
    (asked,) = run_until_it_waits(context)
    context.feedback_manager.provide_feedback(asked, texts(text="yes"))
    context = resumed(context)
    WorkflowEngine().execute(context)
    assert context.get_result("ask") == (1, "yes")
    assert context.steps == 5


def test_groups_inside_groups_wait_as_a_whole(log):
    with workflow("nested") as wf:

        @task
        def begin():
            return None

        @task(inject_context=True)
        def deep(ctx):
            return ctx.request_approval("?", timeout=0)

        @task
        def beside():
            log.append("beside")

        @task
        def other():
            log.append("other")

        @task
        def end():
            log.append("end")

        begin >> parallel(parallel(deep, beside), other) >> end

    context = context_of(wf)
    (asked,) = run_until_it_waits(context)
    assert sorted(log) == ["beside", "other"]
    context.feedback_manager.provide_feedback(asked, approval())
    WorkflowEngine().execute(context)
    assert sorted(log) == ["beside", "end", "other"]
    assert context.get_result("deep") is True


def test_a_member_that_cancels_ends_the_run_all_the_same():
    with workflow("cancelled") as wf:

        @task
        def begin():
            return None

        @task(inject_context=True)
        def ask(ctx):
            return ctx.request_approval("?", timeout=0)

        @task(inject_context=True)
        def stop(ctx):
            ctx.cancel_workflow("enough")

        begin >> parallel(ask, stop).with_execution(CoordinationBackend.DIRECT)

    context = context_of(wf)
    with pytest.raises(exceptions.GraflowWorkflowCanceledError, match="enough"):
        WorkflowEngine().execute(context)


def test_coroutines_wait_too():
    with workflow("async") as wf:

        @task
        def begin():
            return None

        @task(inject_context=True)
        async def ask(ctx):
            return ctx.request_approval("?", timeout=0)

        @task
        async def other():
            return 1

        @task
        def end():
            return "end"

        begin >> parallel(ask, other) >> end

    context = context_of(wf)
    (asked,) = run_until_it_waits(context)
    context.feedback_manager.provide_feedback(asked, approval())
    assert WorkflowEngine().execute(context) == "end"


def test_a_workflow_inside_a_task_makes_its_run_wait(log):
    with workflow("inner") as inner:

        @task(inject_context=True)
        def ask(ctx):
            return ctx.request_approval("?", timeout=0)

    with workflow("outer") as outer:

        @task
        def call():
            log.append("call")
            return inner.execute()

        @task
        def end(call):
            return f"end {call}"

        call >> end

    context = context_of(outer)
    (asked,) = run_until_it_waits(context)
    context.feedback_manager.provide_feedback(asked, approval())
    assert WorkflowEngine().execute(context) == "end True"
    assert log == ["call", "call"]


def test_listeners_see_a_run_that_waits_end_without_an_error():
    class Listener(Tracer):
        ends = []

        def on_workflow_end(self, workflow_name, context, result=None, error=None):
            self.ends.append((result, error, context.stop_reason))

    with workflow("told", tracer=Listener()) as wf:

        @task(inject_context=True)
        def ask(ctx):
            ctx.request_approval("?", timeout=0)

    with pytest.warns(UserWarning, match=WAITS):
        wf.execute()
    assert Listener.ends == [(None, None, "waiting")]


def test_a_run_that_cannot_be_saved_says_so_and_stands_where_it_is(log):
    with workflow("unsavable") as wf:

        @task(inject_context=True)
        def ask(ctx):
            log.append("ask")
            ctx.execution_context.ledger.channel.set("lock", __import__("threading").Lock())
            return ctx.request_approval("?", timeout=0)

    context = context_of(wf)
    with pytest.raises(TypeError, match="cannot be saved"):
        WorkflowEngine().execute(context)
    (asked,) = context.waiting
    context.feedback_manager.provide_feedback(asked.feedback_id, approval())
    assert WorkflowEngine().execute(context) is True


def test_a_member_of_a_submitted_group_asks_the_same_whenever_it_is_begun():
    @task(id="ask", inject_context=True)
    def ask(ctx):
        return ctx.request_approval("?", timeout=0)

    def begun():
        around = Surroundings("group", "run-7", "run-7")
        return RemoteBranch(ask, {}, [], around, channel=MemoryChannel("run-7")).run()

    for _ in range(2):
        outcome = begun()
        assert (outcome.success, type(outcome.error)) == (False, FeedbackTimeoutError)
    manager = FeedbackManager()
    (asked,) = manager.list_requests()
    manager.provide_feedback(asked.feedback_id, approval())
    assert begun().value is True
