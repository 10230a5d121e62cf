"""Steps of flows that ask people, wait for signals and times, and go on by themselves."""

from __future__ import annotations

import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Literal

import pytest
from pydantic import BaseModel

from graflow import parallel, task
from graflow.core.workflow import WorkflowContext
from graflow.exceptions import (
    AnswerInvalidError,
    AnswerRefusedError,
    ConfigError,
    FlowConflictError,
    FlowNotFoundError,
    NotAskedError,
    QuestionChangedError,
    QuestionExpiredError,
    QuestionNotFoundError,
    QuestionWithdrawnError,
    SignatureError,
)
from graflow.flows import FlowRunner
from graflow.questions import Ask, Moment, Signal
from graflow.questions.drafts import broken_line
from graflow.state import FlowStatus, MemoryStore, StepStatus
from tests.flows.support import Crash, QuestionsWatchedStore
from tests.support import wait_until


class Release(BaseModel):
    version: str
    channel: Literal["stable", "beta"] = "beta"


def asking(runner, name, body, **options):
    """Register a flow of one step, with this body, and another that tells what it got."""

    @task("ask", inject_context=True, **options)
    def ask(context):
        return body(context)

    @task("after", inject_context=True)
    def after(context):
        return context.get_result("ask")

    runner.register(lambda: ask >> after, name)


def asked(runner, flow_id=None, number=1):
    """The open questions, once there are so many, and their flows have been put away."""

    def found():
        page = runner.questions(flow_id=flow_id)
        states = [runner.get_flow_state(each.flow_id) for each in page]
        return len(page) == number and all(state.owner is None for state in states) and page

    page = []

    def are_there():
        page[:] = found() or []
        return bool(page)

    wait_until(are_there)
    return page


# -- asking ------------------------------------------------------------------------------------------------------------


def test_a_flow_that_asks_holds_nothing_and_goes_on_by_itself(runner):
    ran = Counter()

    def body(context):
        ran["before"] += 1
        answer = context.ask("Which?", Release, of=["alice"])
        ran["after"] += 1
        return answer.version

    asking(runner, "ship", body)
    flow_id = runner.submit("ship")
    (question,) = asked(runner)
    state = runner.get_flow_state(flow_id)
    assert (state.status, state.owner, state.wake_at) == (FlowStatus.QUEUED, None, None)
    assert state.steps[0].status is StepStatus.WAITING
    assert (question.prompt, question.of, question.flow_id, question.step) == ("Which?", ["alice"], flow_id, "ask")

    runner.answer(question.id, {"version": "1.2"}, by="alice", reason="tested")
    assert runner.wait(flow_id, 30).outputs == "1.2"
    assert ran == {"before": 2, "after": 1}
    assert runner.get_flow_state(flow_id).steps[0].attempts == 1
    settled = runner.question(question.id)
    assert (settled.state, settled.settled_by, settled.reason) == ("answered", "alice", "tested")
    log = runner.audit(question.id)
    assert [line["what"] for line in log] == ["asked", "voted", "settled", "woken", "taken"]
    assert broken_line(log) is None
    assert runner.questions() == []
    assert [each.id for each in runner.questions("settled")] == [question.id]


def test_two_questions_of_one_step_have_two_answers(runner):
    asking(runner, "two", lambda context: [context.ask("First?", str), context.ask("Second?", str)])
    flow_id = runner.submit("two")
    (first,) = asked(runner)
    runner.answer(first.id, "1", by="alice")
    wait_until(lambda: [each.prompt for each in runner.questions()] == ["Second?"])
    (second,) = asked(runner)
    assert second.id != first.id
    runner.answer(second.id, "2", by="alice")
    assert runner.wait(flow_id, 30).outputs == ["1", "2"]


def test_an_approval_needs_several_people_and_has_a_name_for_what_is_done(runner):
    def body(context):
        plan = context.once("plan", lambda amount: {"amount": amount}, 3)
        ok = context.approve("Pay?", about=plan, of=["alice", "bob", "carol"], needs=2)
        return [bool(ok), ok.id, [vote.person for vote in ok.votes]]

    asking(runner, "pay", body)
    flow_id = runner.submit("pay")
    (question,) = asked(runner)
    with pytest.raises(NotAskedError):
        runner.answer(question.id, True, by="mallory")
    assert runner.answer(question.id, True, by="alice").is_open
    assert not runner.answer(question.id, True, by="carol").is_open
    assert runner.wait(flow_id, 30).outputs == [True, question.id, ["alice", "carol"]]


def test_what_was_done_once_is_not_done_again(runner):
    made = Counter()

    def make():
        made["plan"] += 1
        return made["plan"]

    asking(runner, "once", lambda context: [context.once("plan", make), context.ask("Go?"), context.once("plan", make)])
    flow_id = runner.submit("once")
    (question,) = asked(runner)
    runner.answer(question.id, True, by="alice")
    assert runner.wait(flow_id, 30).outputs == [1, True, 1]


def test_an_answer_to_one_thing_is_none_to_another(runner):
    plans = iter([{"pay": 3}, {"pay": 3000}])
    asking(runner, "changed", lambda context: context.ask("Pay?", about=next(plans)))
    flow_id = runner.submit("changed")
    (question,) = asked(runner)
    runner.answer(question.id, True, by="alice")
    assert runner.wait(flow_id, 30).status is FlowStatus.FAILED
    with pytest.raises(QuestionChangedError, match="an answer to the first is none to the second"):
        runner.result(flow_id)


def test_something_is_asked_anew_by_intent_once_for_each_time(runner):
    def body(context):
        first = context.ask("Colour?", str, key="colour")
        return [first, context.reask("Colour, again?", str, key="colour")]

    asking(runner, "anew", body)
    flow_id = runner.submit("anew")
    (first,) = asked(runner)
    runner.answer(first.id, "red", by="alice")
    wait_until(lambda: [each.prompt for each in runner.questions()] == ["Colour, again?"])
    (second,) = asked(runner)
    runner.answer(second.id, "blue", by="alice")
    assert runner.wait(flow_id, 30).outputs == ["red", "blue"]
    assert runner.question(first.id).value == "red"


def test_an_answer_is_kept_when_its_step_fails_afterwards_and_is_retried(runner):
    ran = Counter()

    def body(context):
        answer = context.ask("Go?", int)
        ran["after"] += 1
        if ran["after"] == 1:
            raise ValueError("not yet")
        return answer

    asking(runner, "fails", body)
    flow_id = runner.submit("fails")
    (question,) = asked(runner)
    runner.answer(question.id, 7, by="alice")
    assert runner.wait(flow_id, 30).status is FlowStatus.FAILED
    assert runner.retry_failed_step(flow_id, "ask").outputs == 7
    assert runner.questions("settled") == runner.questions(None)


def test_a_question_that_nobody_answered_is_asked_again_by_a_retry(runner):
    asking(runner, "late", lambda context: context.ask("Go?", int, deadline=0.01))
    flow_id = runner.submit("late")
    assert runner.wait(flow_id, 30).status is FlowStatus.FAILED
    with pytest.raises(QuestionExpiredError):
        runner.result(flow_id)
    runner.retry_failed_step(flow_id, "ask", wait=False)
    assert runner.wait(flow_id, 30).status is FlowStatus.FAILED
    assert [each.number for each in runner.questions("settled")] == [2, 1]


def test_a_retry_that_asks_again_does_not_know_the_answers_and_its_own_are_kept(runner):
    ran = Counter()

    def body(context):
        first, second = context.ask("First?", int), context.ask("Second?", int)
        told = context.wait_for("bank")
        ran["told"] += 1
        if ran["told"] < 3:
            raise ValueError("not yet")
        return [first, second, told]

    asking(runner, "again", body)
    flow_id = runner.submit("again")
    runner.signal(flow_id, "bank", "paid")
    for value in (1, 2):
        (question,) = asked(runner)
        runner.answer(question.id, value, by="alice")
    assert runner.wait(flow_id, 30).status is FlowStatus.FAILED
    earlier = {each.id: each.value for each in runner.questions("settled")}

    plan = runner.plan_retry(flow_id, "ask", ask_again=True)
    with pytest.raises(FlowConflictError):
        runner.retry_failed_step(flow_id, "ask", plan=plan, wait=False)
    runner.retry_failed_step(flow_id, "ask", ask_again=True, plan=plan, wait=False)
    for value in (3, 4):
        (question,) = asked(runner)
        assert (question.id in earlier, question.number) == (False, 2)
        runner.answer(question.id, value, by="bob")
    assert runner.wait(flow_id, 30).status is FlowStatus.FAILED
    assert {each.id: each.value for each in runner.questions("settled") if each.number == 1} == earlier

    assert runner.retry_failed_step(flow_id, "ask").outputs == [3, 4, "paid"]


def test_a_retry_that_asks_again_withdraws_what_is_open_and_leaves_other_steps_alone(runner):
    @task("before", inject_context=True)
    def before(context):
        return context.ask("Before?", int)

    @task("ask", inject_context=True)
    def ask(context):
        return [context.get_result("before"), context.ask("Go?", int)]

    runner.register(lambda: before >> ask, "open")
    flow_id = runner.submit("open")
    (first,) = asked(runner)
    runner.answer(first.id, 1, by="alice")
    wait_until(lambda: [each.step for each in runner.questions()] == ["ask"])
    (second,) = asked(runner)
    runner.pause_flow(flow_id)
    runner.retry_failed_step(flow_id, "ask", ask_again=True, wait=False)
    withdrawn = runner.question(second.id)
    assert (withdrawn.state, withdrawn.settled_by) == ("withdrawn", "reask")
    (third,) = asked(runner)
    runner.answer(third.id, 3, by="alice")
    assert runner.wait(flow_id, 30).outputs == [1, 3]
    assert runner.question(first.id).state == "answered"


def test_a_retry_that_asks_again_waits_anew_for_the_first_of_people_and_signals(runner):
    ran = Counter()

    def body(context):
        winner = context.wait_any(Ask("Stop?", int, key="stop"), Signal("bank", key="bank"))
        ran["told"] += 1
        if ran["told"] == 1:
            raise ValueError("not yet")
        return [winner.place, winner.value]

    asking(runner, "either", body)
    flow_id = runner.submit("either")
    asked(runner)
    runner.signal(flow_id, "bank", "paid")
    assert runner.wait(flow_id, 30).status is FlowStatus.FAILED
    runner.retry_failed_step(flow_id, "ask", ask_again=True, wait=False)
    (question,) = asked(runner)
    runner.answer(question.id, 5, by="alice")
    assert runner.wait(flow_id, 30).outputs == [0, 5]


# -- answers -----------------------------------------------------------------------------------------------------------


def test_of_many_who_answer_one_is_first_and_the_others_hear_who(runner):
    asking(runner, "race", lambda context: context.ask("Who?", int))
    for _ in range(5):
        runner.submit("race")
    questions = asked(runner, number=5)
    start, won, lost = threading.Barrier(16), Counter(), Counter()

    def answer(who):
        start.wait()
        for question in questions:
            try:
                runner.answer(question.id, who, by=f"p{who}")
                won[question.id] += 1
            except AnswerRefusedError as error:
                lost[question.id, error.by] += 1

    threads = [threading.Thread(target=answer, args=(who,)) for who in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert won == {question.id: 1 for question in questions}
    assert lost == {(each.id, runner.question(each.id).settled_by): 15 for each in questions}
    for question in questions:
        settled = runner.question(question.id)
        assert runner.wait(question.flow_id, 30).outputs == settled.value
        assert settled.settled_by == f"p{settled.value}"
        assert broken_line(runner.audit(question.id)) is None


def test_whoever_answers_while_the_flow_ends_with_another_answer_hears_who_was_first(runner, store, monkeypatch):
    asking(runner, "ends", lambda context: context.ask("Who?", int))
    flow_id = runner.submit("ends")
    (question,) = asked(runner)
    write = store.write_questions

    def write_late(writes):
        monkeypatch.setattr(store, "write_questions", write)
        runner.answer(question.id, 1, by="ann")
        assert runner.wait(flow_id, 30).outputs == 1
        return write(writes)

    monkeypatch.setattr(store, "write_questions", write_late)
    with pytest.raises(AnswerRefusedError) as refused:
        runner.answer(question.id, 2, by="bob")
    assert (refused.value.by, refused.value.state) == ("ann", "answered")


def test_answers_of_another_type_and_to_nothing_are_refused(runner):
    asking(runner, "typed", lambda context: context.ask("How many?", int))
    flow_id = runner.submit("typed")
    (question,) = asked(runner)
    with pytest.raises(AnswerInvalidError):
        runner.answer(question.id, "three", by="alice")
    with pytest.raises(QuestionNotFoundError):
        runner.answer("q-0", 3, by="alice")
    assert runner.answer(question.id, 3, by="alice").value == 3
    assert runner.answer(question.id, 3, by="alice").value == 3, "the same again"
    assert runner.wait(flow_id, 30).outputs == 3


def test_a_question_that_is_withdrawn_is_an_error_that_a_step_may_catch(runner):
    def body(context):
        try:
            return context.ask("Go?")
        except QuestionWithdrawnError as error:
            return f"{error.by}: {error.reason}"

    asking(runner, "withdrawn", body)
    flow_id = runner.submit("withdrawn")
    (question,) = asked(runner)
    runner.withdraw(question.id, "no need", by="ann")
    assert runner.wait(flow_id, 30).outputs == "ann: no need"
    with pytest.raises(AnswerRefusedError, match="withdrawn by ann"):
        runner.answer(question.id, True, by="alice")


@pytest.mark.parametrize("end", ["cancel", "delete"])
def test_the_end_of_a_flow_withdraws_what_it_asks(runner, store, end):
    asking(runner, "cancelled", lambda context: context.ask("Go?", deadline=3600))
    flow_id = runner.submit("cancelled")
    (question,) = asked(runner)
    runner.cancel_flow(flow_id, "enough")
    assert runner.questions() == []
    if end == "delete":
        store.delete(flow_id)
        with pytest.raises(QuestionNotFoundError):
            runner.answer(question.id, True, by="alice")
        return
    assert (runner.question(question.id).state, runner.question(question.id).settled_by) == ("withdrawn", "run")
    with pytest.raises(AnswerRefusedError, match="withdrawn"):
        runner.answer(question.id, True, by="alice")
    assert runner.get_flow_state(flow_id).status is FlowStatus.CANCELLED


def test_a_flow_that_is_paused_takes_its_answer_when_it_is_resumed(runner):
    asking(runner, "paused", lambda context: context.ask("Go?", int))
    flow_id = runner.submit("paused")
    (question,) = asked(runner)
    runner.pause_flow(flow_id)
    runner.answer(question.id, 3, by="alice")
    assert runner.get_flow_state(flow_id).status is FlowStatus.PAUSED
    assert runner.resume_flow(flow_id).outputs == 3


# -- time --------------------------------------------------------------------------------------------------------------


def test_a_default_is_taken_at_the_deadline_without_anybody(runner):
    asking(
        runner,
        "defaulted",
        lambda context: context.ask("Which?", Release, deadline=0.05, default=Release(version="0")).version,
    )
    assert runner.wait(runner.submit("defaulted"), 30).outputs == "0"
    (question,) = runner.questions("settled")
    assert (question.state, question.settled_by) == ("defaulted", "clock")


def test_a_resume_moves_no_deadline(runner, store):
    asking(runner, "deadline", lambda context: context.ask("Go?", deadline=timedelta(hours=1)))
    flow_id = runner.submit("deadline")
    (question,) = asked(runner)
    runner.pause_flow(flow_id)
    runner.resume_flow(flow_id, wait=False)
    wait_until(lambda: runner.get_flow_state(flow_id).wake_at is not None)
    assert runner.question(question.id).deadline == question.deadline
    assert runner.get_flow_state(flow_id).wake_at == datetime.fromtimestamp(question.deadline, UTC)


def test_a_flow_with_a_timeout_ends_while_it_waits(runner):
    @task("ask", inject_context=True)
    def ask(context):
        return context.ask("Go?")

    runner.register(lambda: ask, "timed", timeout=0.2)
    flow_id = runner.submit("timed")
    assert runner.wait(flow_id, 30).status is FlowStatus.FAILED
    wait_until(lambda: runner.questions("settled", flow_id=flow_id))
    assert runner.questions("settled")[0].state == "withdrawn"


def test_channels_are_told_once_each_and_a_dead_one_blocks_nobody(store):
    told, failed = [], []

    def ops(notice, question):
        told.append((notice.kind, question.prompt))

    def broken(notice, question):
        failed.append(notice.id)
        raise OSError("away")

    with FlowRunner(store, notifiers={"ops": ops, "broken": broken}) as runner:
        asking(runner, "noticed", lambda context: context.ask("Go?", notify=["ops", "broken"], remind=[0.01]))
        flow_id = runner.submit("noticed")
        (question,) = asked(runner)
        wait_until(lambda: len(told) == 2 and failed)
        runner.answer(question.id, True, by="alice")
        assert runner.wait(flow_id, 30).outputs is True
        wait_until(lambda: len(told) == 3)
    assert told == [("asked", "Go?"), ("reminder", "Go?"), ("settled", "Go?")]
    assert len(set(failed)) == len(failed), "tried again later"


def test_a_channel_is_told_by_one_of_those_who_find_it_to_be_told(store):
    told = []
    with FlowRunner(store, recovery=False, notifiers={"ops": lambda *_: told.append("by another")}) as other:

        def ops(notice, question):
            told.append(notice.kind)
            other.player.sweep()  # looks at the same question in this very moment

        with FlowRunner(store, notifiers={"ops": ops}) as runner:
            asking(runner, "told", lambda context: context.ask("Go?", notify=["ops"]))
            runner.submit("told")
            (question,) = asked(runner)
            wait_until(lambda: runner.question(question.id).notices[0].state == "sent")
    assert told == ["asked"]


def test_a_handler_is_a_channel_too(store):
    told = []

    class Desk:
        def on_request_created(self, request):
            told.append((request.metadata["notice_id"], request.prompt))

        def on_response_received(self, request, response):
            told.append((request.metadata["notice_id"], response.approved, response.responded_by))

    with FlowRunner(store, notifiers={"ops": Desk()}) as runner:
        asking(runner, "handled", lambda context: context.ask("Go?", notify=["ops"]))
        runner.submit("handled")
        (question,) = asked(runner)
        wait_until(lambda: told)
        runner.answer(question.id, True, by="alice")
        wait_until(lambda: len(told) == 2)
    assert told == [(f"{question.id}.0", "Go?"), (f"{question.id}.1", True, "alice")]
    with pytest.raises(ConfigError, match="ops"):
        FlowRunner(store, notifiers={"ops": "https://desk.example"}).player


def test_a_wait_in_place_needs_no_second_execution(runner):
    ran = Counter()

    def body(context):
        ran["body"] += 1
        return context.ask("Go?", hold=60)

    asking(runner, "held", body)
    flow_id = runner.submit("held")
    wait_until(runner.questions)
    runner.answer(runner.questions()[0].id, True, by="alice")
    assert runner.wait(flow_id, 30).outputs is True
    assert ran["body"] == 1


# -- signals, and several waits ----------------------------------------------------------------------------------------


def test_a_signal_that_comes_early_is_kept_and_given_to_one_wait(runner):
    asking(
        runner, "signals", lambda context: [context.ask("Begin?"), context.wait_for("bank"), context.wait_for("bank")]
    )
    flow_id = runner.submit("signals")
    (question,) = asked(runner)
    assert runner.signal(flow_id, "bank", {"paid": 1}, id="e1")
    assert runner.signal(flow_id, "bank", {"paid": 2}, id="e2")
    assert not runner.signal(flow_id, "bank", {"paid": 9}, id="e1"), "it had come"
    runner.answer(question.id, True, by="alice")
    assert runner.wait(flow_id, 30).outputs == [True, {"paid": 1}, {"paid": 2}]
    with pytest.raises(FlowConflictError, match="is completed"):
        runner.signal(flow_id, "bank", {})
    with pytest.raises(FlowNotFoundError):
        runner.signal("nobody", "bank", {})


def test_a_signal_wakes_the_flow_that_waits_for_it(runner):
    asking(runner, "signalled", lambda context: context.wait_for("bank", Release).version)
    flow_id = runner.submit("signalled")
    wait_until(lambda: runner.get_flow_state(flow_id).steps and runner.get_flow_state(flow_id).owner is None)
    assert runner.questions() == [], "nobody is asked"
    runner.signal(flow_id, "other", 1)
    runner.signal(flow_id, "bank", {"version": "3"})
    assert runner.wait(flow_id, 30).outputs == "3"


def test_a_flow_takes_so_many_signals_and_no_more(runner):
    asking(runner, "flooded", lambda context: context.ask("Go?"))
    flow_id = runner.submit("flooded")
    asked(runner)
    for number in range(100):
        runner.signal(flow_id, "bank", number)
    with pytest.raises(FlowConflictError, match="takes no more"):
        runner.signal(flow_id, "bank", 100)


def test_the_first_of_several_waits_withdraws_the_others(runner):
    def body(context):
        winner = context.wait_any(Ask("Stop?", key="stop"), Signal("bank"), Moment(timedelta(hours=1)))
        return [winner.place, winner.value]

    asking(runner, "any", body)
    flow_id = runner.submit("any")
    (question,) = asked(runner)
    runner.signal(flow_id, "bank", "paid")
    assert runner.wait(flow_id, 30).outputs == [1, "paid"]
    assert (runner.question(question.id).state, runner.question(question.id).settled_by) == ("withdrawn", "rival")


def test_a_time_may_be_the_first(runner):
    asking(runner, "timer", lambda context: context.wait_any(Ask("Stop?"), Moment(0.05)).place)
    assert runner.wait(runner.submit("timer"), 30).outputs == 1


def test_a_flow_waits_for_all_of_several_and_runs_once_more(runner):
    ran = Counter()

    def body(context):
        ran["body"] += 1
        return context.wait_all(Ask("A?", int), Ask("B?", int), Signal("bank"))

    asking(runner, "all", body)
    flow_id = runner.submit("all")
    questions = asked(runner, number=2)
    for question in questions:
        runner.answer(question.id, ord(question.prompt[0]), by="alice")
    assert ran["body"] == 1
    runner.signal(flow_id, "bank", "paid")
    assert runner.wait(flow_id, 30).outputs == [65, 66, "paid"]
    assert ran["body"] == 2


# -- what dies in between ----------------------------------------------------------------------------------------------


def run_until_crash(store, program, left, is_answer_lost):
    """Drive a flow and answer what it asks, in a process that dies after so many writes; whether the flow has ended."""

    def strike(writes):
        if writes >= left:
            raise Crash

    def lose(writes):
        if is_answer_lost and writes > left:
            raise Crash

    watched = QuestionsWatchedStore(store, (lambda _: None) if is_answer_lost else strike, lose)
    runner = FlowRunner(watched, recovery=False, lease=0.05)
    program(runner)
    try:
        runner.player.create("f", "ship", {}, status=FlowStatus.QUEUED, durability="required", metadata=None)
        runner.player.advance("f")
        for question in runner.questions():
            runner.answer(question.id, question.prompt, by="alice")
        runner.player.sweep()
        runner.player.advance("f")
    except Crash:
        return False
    return runner.get_flow_state("f").status is FlowStatus.COMPLETED


@pytest.mark.parametrize("is_answer_lost", [False, True])
def test_whatever_write_is_the_last_of_a_process_nothing_is_lost_asked_or_told_twice(is_answer_lost):
    ended = False
    for left in range(60):
        store, effects = MemoryStore(), Counter()

        def program(runner, effects=effects):
            def body(context):
                answer = context.ask("Go?", str)
                context.flow.side_effect(lambda: effects.update([answer]))
                return answer

            asking(runner, "ship", body)

        ended = run_until_crash(store, program, left, is_answer_lost)
        with FlowRunner(store, lease=0.05) as survivor:
            program(survivor)
            survivor.submit("ship", flow_id="f")

            def is_over(survivor=survivor):
                for question in survivor.questions():
                    survivor.answer(question.id, question.prompt, by="alice")
                return survivor.get_flow_state("f").status is FlowStatus.COMPLETED

            wait_until(is_over)
            assert survivor.result("f") == "Go?"
            (question,) = survivor.questions(None)
            log = survivor.audit(question.id)
            counts = Counter(line["what"] for line in log)
            assert (counts["asked"], counts["settled"], counts["taken"]) == (1, 1, 1), left
            assert broken_line(log) is None
        if ended:
            break
    assert ended, "no process came to the end"


# -- where it cannot be ------------------------------------------------------------------------------------------------


def test_links_are_signed_for_one_person_and_one_question(runner, monkeypatch):
    monkeypatch.setenv("GRAFLOW_SIGNING_KEY", "k1:" + "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s=")
    asking(runner, "linked", lambda context: context.ask("Go?", of=["alice", "bob"]))
    runner.submit("linked")
    (question,) = asked(runner)
    path = runner.answer_link(question.id, for_="alice")
    found, link = runner.linked(path.removeprefix("/answer/"))
    assert (found.id, link.person) == (question.id, "alice")
    with pytest.raises(NotAskedError):
        runner.answer_link(question.id, for_="mallory")
    with pytest.raises(SignatureError):
        runner.linked(path.removeprefix("/answer/")[:-2])


def test_lists_are_for_somebody_and_have_pages(runner):
    asking(runner, "listed", lambda context: context.ask("Go?", of=context.flow.inputs["of"]))

    @task("ask", inject_context=True)
    def ask(context):
        return context.ask("Go?", of=[context.flow.inputs["who"]])

    def listed_for(who: str):
        return ask

    runner.register(listed_for)
    for who in ("alice", "bob", "alice", "role:board", "alice"):
        runner.submit("listed_for", {"who": who})
    asked(runner, number=5)
    first = runner.questions(of="alice", limit=2)
    rest = runner.questions(of="alice", limit=2, cursor=first.next_cursor)
    assert (len(first), len(rest)) == (2, 1)
    assert len(runner.questions(of="carol", roles=["board"])) == 1
    with pytest.raises(ConfigError):
        runner.questions("waiting")


def test_outside_of_flows_and_in_members_nobody_can_be_asked_so(runner):
    @task("ask", inject_context=True)
    def ask(context):
        return context.ask("Go?")

    with WorkflowContext("plain") as workflow:
        workflow.graph.add_node(ask) if not workflow.graph.has_node("ask") else None
        with pytest.raises(Exception, match="needs a durable flow"):
            workflow.execute("ask")

    @task("member", inject_context=True)
    def member(context):
        return context.ask("Go?")

    @task("other")
    def other():
        return 1

    runner.register(lambda: parallel(member, other).set_group_name("g"), "group")
    state = runner.execute("group")
    assert state.status is FlowStatus.FAILED
    assert "cannot put its flow away" in state.error


def test_waits_of_one_call_have_their_own_keys(runner):
    asking(runner, "same", lambda context: context.wait_all(Ask("A?", key="k"), Ask("A?", key="k")))
    state = runner.execute("same")
    assert "Two waits of one call have the same key=" in state.error


def test_a_flow_waits_for_a_thousand_things_and_no_more(runner, monkeypatch):
    monkeypatch.setattr("graflow.flows.waiting.limits.MOST_OPEN", 3)
    asking(runner, "many", lambda context: context.wait_all(*[Ask(f"{n}?", key=f"k{n}") for n in range(4)]))
    state = runner.wait(runner.submit("many"), 30)
    assert (state.status, "more than 3 answers" in state.error) == (FlowStatus.FAILED, True)
    assert list(runner.questions(None, flow_id=state.flow_id)) == []
    asking(runner, "fewer", lambda context: context.wait_all(*[Ask(f"{n}?", key=f"k{n}") for n in range(3)]))
    flow_id = runner.submit("fewer")
    for question in asked(runner, flow_id, number=3):
        runner.answer(question.id, True, by="ann")
    assert runner.wait(flow_id, 30).outputs == [True, True, True]


# -- what it holds -----------------------------------------------------------------------------------------------------


@pytest.mark.redis
def test_a_flow_that_waits_has_no_room_in_reserve(redis_server, redis_client):
    with FlowRunner(redis_server.url) as runner:
        asking(runner, "small", lambda context: context.ask("Go?"))
        flow_id = runner.submit("small")
        (question,) = asked(runner, flow_id)
        journal = f"{{graflow:flows}}:flow:{flow_id}:journal"
        assert redis_client.memory_usage(journal) < 2000
        assert not redis_client.exists(f"{journal}:copy")
        assert [event.kind for event in runner.events(flow_id)][:2] == ["flow.claimed", "step.started"]
        runner.answer(question.id, True, by="ann")
        assert runner.wait(flow_id, 30).outputs is True
        places = [event.seq for event in runner.events(flow_id)]
        assert places == list(range(1, len(places) + 1))
