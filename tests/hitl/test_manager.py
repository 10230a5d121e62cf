from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from graflow.channels.memory_channel import MemoryChannel
from graflow.exceptions import ConfigError, FeedbackAnswerError, FeedbackCancelledError
from graflow.hitl import FeedbackManager, FeedbackRequest, FeedbackResponse, FeedbackTimeoutError
from graflow.hitl.backend.base import Revision
from tests.hitl.backends import Asker, InMemoryBackend, approval
from tests.support import wait_until


@pytest.fixture
def manager(backend):
    return FeedbackManager(backend)


def _ask(manager, timeout=60.0, **more):
    given = {"feedback_type": "approval", "prompt": "Go on?", "timeout": timeout, **more}
    return manager.request_feedback("t", "s", **given)


def _asked(manager, feedback_id):
    wait_until(lambda: manager.get_request(feedback_id) is not None)


def _store(manager, feedback_id, **more):
    fields = {"task_id": "t", "session_id": "s", "feedback_type": "approval", "prompt": "?", **more}
    manager.store_request(FeedbackRequest(feedback_id=feedback_id, **fields))


def test_an_answer_reaches_whoever_waits(manager):
    asker = Asker(lambda: _ask(manager, feedback_id="q"))
    _asked(manager, "q")
    assert [r.feedback_id for r in manager.list_pending_requests("s")] == ["q"]
    assert manager.list_pending_requests("other") == []
    assert manager.provide_feedback("q", approval(by="ann"))
    answer = asker.end()
    assert (answer.approved, answer.responded_by, answer.feedback_id) == (True, "ann", "q")
    assert manager.get_request("q").status == "completed"
    assert manager.list_pending_requests() == []
    assert [r.feedback_id for r in manager.list_requests()] == ["q"]


def test_new_ids_are_random(manager):
    for _ in range(2):
        with pytest.raises(FeedbackTimeoutError):
            _ask(manager, timeout=0)
    ids = {r.feedback_id for r in manager.list_requests()}
    assert len(ids) == 2
    assert all(len(i) == 16 and i.isalnum() for i in ids)


def test_nobody_answers_an_unknown_question(manager):
    assert manager.provide_feedback("nobody", approval()) is False
    assert manager.cancel_request("nobody") is False
    assert manager.get_request("nobody") is manager.get_response("nobody") is None


def test_an_answer_after_the_time_out_counts_and_is_found_by_the_next_ask(manager):
    with pytest.raises(FeedbackTimeoutError):
        _ask(manager, timeout=0.05, feedback_id="q")
    assert manager.get_request("q").status == "timeout"
    assert manager.list_pending_requests() == []
    assert manager.provide_feedback("q", approval())
    assert _ask(manager, timeout=0, feedback_id="q").approved is True


def test_a_question_is_asked_and_told_once_however_often_it_is_waited_for(manager):
    told = []

    class Handler:
        def on_request_created(self, request):
            told.append("created")

        def on_response_received(self, request, response):
            told.append("received")

        def on_request_timeout(self, request):
            told.append("timeout")

    handler = Handler()
    with pytest.raises(FeedbackTimeoutError):
        _ask(manager, timeout=0, feedback_id="q", handler=handler)
    created = manager.get_request("q").created_at
    asker = Asker(lambda: _ask(manager, feedback_id="q", handler=handler))
    wait_until(lambda: manager.get_request("q").status == "pending")
    manager.provide_feedback("q", approval())
    asker.end()
    assert told == ["created", "timeout", "received"]
    assert manager.get_request("q").created_at == created


def test_a_handler_that_raises_changes_nothing(manager):
    manager.store_response(FeedbackResponse(feedback_id="q", response_type="approval", approved=True))
    assert _ask(manager, timeout=0, feedback_id="q", handler=object()).approved is True


def test_the_deadline_is_one_of_the_clock(manager):
    begun = time.monotonic()
    with pytest.raises(FeedbackTimeoutError):
        _ask(manager, timeout=0.05)
    assert time.monotonic() - begun >= 0.05


def test_of_many_answers_the_first_counts(manager):
    for number in range(10):
        _store(manager, f"q{number}")
    with ThreadPoolExecutor(16) as pool:
        for number in range(10):
            start = threading.Barrier(16)

            def answer(who, number=number, start=start):
                start.wait(60)
                return manager.provide_feedback(f"q{number}", approval(approved=who % 2 == 0, by=str(who))), str(who)

            won = [who for is_first, who in pool.map(answer, range(16)) if is_first]
            assert won == [manager.get_response(f"q{number}").responded_by]


def test_an_answer_in_the_last_moment_is_no_time_out():
    class Late(InMemoryBackend):
        """Somebody answers between the last look of the waiter and its own note."""

        def revise(self, feedback_id, decide):
            found = self.get_request(feedback_id)
            if found is not None and self.get_response(feedback_id) is None:
                self.store_response(FeedbackResponse(feedback_id=feedback_id, response_type="approval", approved=False))
                self.store_request(found.model_copy(update={"status": "completed"}))
            return super().revise(feedback_id, decide)

    manager = FeedbackManager(Late())
    assert _ask(manager, timeout=0, feedback_id="q").approved is False
    assert manager.get_request("q").status == "completed"
    assert manager.provide_feedback("q", approval()) is False


def test_whoever_waits_hears_of_a_cancel_and_settled_states_stay(manager):
    asker = Asker(lambda: _ask(manager, feedback_id="q"))
    _asked(manager, "q")
    assert manager.cancel_request("q")
    assert isinstance(asker.end(), FeedbackCancelledError)
    assert manager.provide_feedback("q", approval()) is False
    assert manager.cancel_request("q") is False
    assert manager.get_request("q").status == "cancelled"
    with pytest.raises(FeedbackCancelledError):
        _ask(manager, timeout=0, feedback_id="q")
    _store(manager, "done")
    assert manager.provide_feedback("done", approval())
    assert manager.cancel_request("done") is False
    assert manager.get_request("done").status == "completed"


def test_an_answer_that_does_not_fit_leaves_the_question_open(manager):
    _store(manager, "q")
    with pytest.raises(FeedbackAnswerError, match="approved"):
        manager.provide_feedback("q", FeedbackResponse(feedback_id="q", response_type="approval"))
    assert manager.get_request("q").status == "pending"
    assert manager.provide_feedback("q", approval())


def test_notes_on_a_question_leave_its_state_alone(manager):
    _store(manager, "q", metadata={"a": 1})
    manager.provide_feedback("q", approval())
    manager.annotate("q", {"b": 2})
    assert (manager.get_request("q").status, manager.get_request("q").metadata) == ("completed", {"a": 1, "b": 2})
    manager.annotate("nobody", {"b": 2})


def test_one_id_is_one_question(manager):
    _store(manager, "q")
    with pytest.raises(ConfigError, match="asked as approval"):
        _ask(manager, feedback_id="q", feedback_type="text", timeout=0)


def test_channels_get_the_answer_when_it_is_given_and_when_it_is_taken(backend):
    channel, other = MemoryChannel("a"), MemoryChannel("b")
    _store(FeedbackManager(backend), "q", write_to_channel=True, channel_key="ok")
    assert FeedbackManager(backend, channel_manager=channel).provide_feedback("q", approval())
    assert channel.get("ok") is True
    assert channel.get("ok.__feedback_response__")["approved"] is True
    asker = FeedbackManager(backend, channel_manager=other)
    _ask(asker, timeout=0, feedback_id="q", write_to_channel=True, channel_key="ok")
    assert other.get("ok") is True


def test_unknown_backends_are_refused_and_nothing_is_made_before_the_first_question(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="'filesystem' and 'redis'"):
        FeedbackManager("carrier pigeon")
    manager = FeedbackManager()
    assert manager.list_pending_requests() == manager.list_requests() == []
    assert manager.provide_feedback("q", approval()) is False
    assert list(tmp_path.iterdir()) == []


def test_waiting_takes_no_thread(manager):
    before = threading.active_count()
    for _ in range(5):
        with pytest.raises(FeedbackTimeoutError):
            _ask(manager, timeout=0.02)
    assert threading.active_count() <= before


def test_hints_of_a_backend_are_listened_to():
    class Hinting(InMemoryBackend):
        def __init__(self):
            super().__init__()
            self.events, self.published = [], []

        def start_listener(self, feedback_id, event):
            self.events.append(event)
            return threading.current_thread()

        def publish(self, feedback_id):
            self.published.append(feedback_id)
            for event in self.events:
                event.set()

    hinting = Hinting()
    asker = Asker(lambda: _ask(FeedbackManager(hinting), feedback_id="q"))
    wait_until(lambda: hinting.events)
    assert FeedbackManager(hinting).provide_feedback("q", approval())
    assert asker.end().approved is True
    assert hinting.published == ["q"]


def test_a_revision_that_decides_nothing_changes_nothing(backend):
    assert backend.revise("q", lambda request, response: None) is None
    request = FeedbackRequest(feedback_id="q", task_id="t", session_id="s", feedback_type="text", prompt="?")
    assert backend.revise("q", lambda held, response: Revision(request)) == request
    assert backend.revise("q", lambda held, response: None) == request
