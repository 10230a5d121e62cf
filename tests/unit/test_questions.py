"""The rules of questions: who decides, who is late, what time makes of them, what may be asked and answered."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pytest
from pydantic import BaseModel, field_validator

from graflow.exceptions import (
    AnswerInvalidError,
    AnswerRefusedError,
    ConfigError,
    NotAskedError,
    QuestionExpiredError,
    QuestionWithdrawnError,
    SignatureError,
)
from graflow.questions import Approval, Ask, Moment, Question, QuestionState, Signal
from graflow.questions.answers import LONGEST_ANSWER, check_answer
from graflow.questions.asks import LONGEST_PROMPT, Place
from graflow.questions.drafts import Ballot, Draft, broken_line, whole_lines
from graflow.questions.links import Link, claimed_link, link_of, link_token, signed_link
from graflow.questions.notices import TELL_WITHIN, begun, delivered, put_off, to_tell
from graflow.questions.outcomes import value_of, winner_of
from graflow.questions.rules import (
    attended,
    looked,
    misused,
    opened,
    taken,
    viewed,
    voted,
    withdrawn,
    woken,
)
from graflow.signing import SigningKeys

AT = 1_700_000_000.0
PLACE = Place("f1", 0, "ask", 1, "f1/ask/1", "#1")
ALL = ["alice", "bob", "carol"]


class Release(BaseModel):
    version: str
    channel: Literal["stable", "beta"] = "beta"

    @field_validator("version")
    @classmethod
    def _is_numbered(cls, version: str) -> str:
        if not version[:1].isdigit():
            raise ValueError("begins with a digit")
        return version


class Log:
    """A question with all that was written about it."""

    def __init__(self, asked: Ask | Signal | Moment) -> None:
        self.lines: list[dict[str, Any]] = []
        self.keep(opened(asked.draft(PLACE, 1, AT), asked.reminders(), AT))

    def keep(self, draft: Draft) -> Draft:
        if not draft.is_replay:
            self.lines += whole_lines(draft.question.id, draft.lines)
            row = draft.question.row()
            self.question = Question.of_row(row)
        return draft

    def vote(self, person: str, value: Any, at: float = AT + 1, **more: Any) -> Draft:
        return self.keep(voted(self.question, Ballot(person, value, **more), at))

    def answer(self, person: str, value: Any, at: float = AT + 1, **more: Any) -> None:
        """As a store does it: what is refused is written, and raised."""
        draft = self.vote(person, value, at, **more)
        if draft.refusal is not None:
            raise draft.refusal

    def attend(self, at: float) -> Draft:
        return self.keep(attended(self.question, at))

    def happened(self) -> list[str]:
        return [line["what"] for line in self.lines]


# -- answers -----------------------------------------------------------------------------------------------------------


def test_the_first_answer_settles_a_question_and_the_second_hears_who_was_first() -> None:
    log = Log(Ask("Ship?"))
    assert log.vote("alice", True, reason="tested", via="rest").refusal is None
    assert (log.question.state, log.question.value, log.question.settled_by) == ("answered", True, "alice")
    refusal = log.vote("bob", False).refusal
    assert isinstance(refusal, AnswerRefusedError)
    assert (refusal.by, refusal.at, refusal.via, refusal.state) == ("alice", AT + 1, "rest", "answered")
    assert log.question.value is True
    assert log.happened() == ["asked", "voted", "settled", "refused"]


def test_the_same_answer_again_changes_nothing_and_is_no_error() -> None:
    log = Log(Ask("Ship?"))
    log.vote("alice", True, token="t1")
    assert log.vote("alice", True).is_replay
    assert log.vote("alice", False, token="t1").is_replay
    assert log.vote("alice", 1).refusal is not None, "1 is no True"
    assert log.vote("mallory", True, token="t1").refusal is not None, "a token of somebody else"


def test_an_answer_of_another_type_is_refused_with_its_place() -> None:
    log = Log(Ask("Which?", Release))
    with pytest.raises(AnswerInvalidError, match="channel: 'nightly' is not one of"):
        log.answer("alice", {"version": "1", "channel": "nightly"})
    with pytest.raises(AnswerInvalidError, match="'version' is a required property"):
        log.answer("alice", {})
    assert log.question.is_open
    assert not log.question.votes
    log.vote("alice", {"version": "1.2"})
    assert value_of(Ask("Which?", Release), log.question) == Release(version="1.2")


def test_what_the_schema_cannot_say_is_found_by_whoever_asked() -> None:
    log = Log(Ask("Which?", Release))
    log.vote("alice", {"version": "next"})
    with pytest.raises(AnswerInvalidError, match="version: Value error, begins with a digit"):
        value_of(Ask("Which?", Release), log.question)


@pytest.mark.parametrize(
    ("answer", "fits", "not_"),
    [
        (bool, False, "no"),
        (str, "yes", 1),
        (int, 3, "3"),
        (Literal["stable", "beta"], "beta", "alpha"),
        (list[int], [1, 2], [1, "2"]),
        ({"type": "object", "required": ["a"]}, {"a": 1}, {"b": 1}),
        ({}, {"anything": None}, None),
    ],
    ids=["bool", "str", "int", "literal", "list", "schema", "anything"],
)
def test_answers_are_of_the_type_that_was_asked_for(answer: Any, fits: Any, not_: Any) -> None:
    log = Log(Ask("Which?", answer))
    if not_ is not None:
        with pytest.raises(AnswerInvalidError):
            log.answer("alice", not_)
    log.vote("alice", fits)
    assert value_of(Ask("Which?", answer), log.question) == fits


def test_a_schema_that_names_others_fetches_nothing() -> None:
    with pytest.raises(AnswerInvalidError, match="its schema cannot be used"):
        check_answer({"$ref": "http://127.0.0.1:9/schema.json"}, {}, "q-1")


@pytest.mark.parametrize("value", ["x" * (LONGEST_ANSWER + 1), float("nan"), object()], ids=["long", "nan", "object"])
def test_what_is_too_long_or_no_json_is_no_answer(value: Any) -> None:
    with pytest.raises(AnswerInvalidError):
        check_answer({}, value, "q-1")


# -- people ------------------------------------------------------------------------------------------------------------


def test_only_those_who_are_asked_may_answer() -> None:
    log = Log(Ask("Ship?", of=["alice", "role:release"]))
    with pytest.raises(NotAskedError, match="not asked of mallory"):
        log.answer("mallory", True)
    with pytest.raises(NotAskedError):
        log.answer("mallory", True, roles=frozenset({"guest"}))
    with pytest.raises(NotAskedError):
        log.answer("", True)
    log.vote("bob", True, roles=frozenset({"release"}))
    assert log.question.settled_by == "bob"


def test_several_people_are_needed_and_one_counts_once() -> None:
    log = Log(Ask("Pay?", of=ALL, needs=2))
    log.vote("alice", True)
    assert log.question.is_open
    assert log.vote("alice", True).is_replay
    refusal = log.vote("alice", False).refusal
    assert isinstance(refusal, AnswerRefusedError)
    assert refusal.state == "open"
    log.vote("bob", True)
    assert (log.question.state, log.question.value) == ("answered", True)
    assert {vote.person for vote in log.question.votes} == {"alice", "bob"}


def test_of_several_people_nobody_counts_who_is_only_said_to_be_one() -> None:
    log = Log(Ask("Pay?", of=ALL, needs=2))
    with pytest.raises(NotAskedError, match="only said to be one"):
        log.answer("alice", True, verified=False)


@pytest.mark.parametrize(("veto", "needed"), [(True, 1), (False, 2)])
def test_one_rejection_ends_it_or_as_many_as_leave_too_few(veto: bool, needed: int) -> None:
    log = Log(Ask("Pay?", of=ALL, needs=2, veto=veto))
    for person in ALL[: needed - 1]:
        log.vote(person, False)
        assert log.question.is_open
    log.vote(ALL[needed - 1], False, reason="too dear")
    assert (log.question.state, log.question.value, log.question.reason) == ("answered", False, "too dear")


def test_a_role_has_no_number_so_rejections_without_veto_leave_it_open() -> None:
    log = Log(Ask("Pay?", of=["role:board"], needs=2, veto=False))
    for person in ALL:
        log.vote(person, False, roles=frozenset({"board"}))
    assert log.question.is_open


def test_a_vote_may_be_changed_where_that_is_allowed_until_all_is_settled() -> None:
    log = Log(Ask("Pay?", of=ALL, needs=2, veto=False, revisable=True))
    log.vote("alice", False)
    log.vote("alice", True)
    log.vote("bob", True)
    assert log.question.value is True
    assert log.vote("bob", False).refusal is not None


def test_several_answers_are_a_list() -> None:
    asked = Ask("How much?", int, of=ALL, needs=2)
    log = Log(asked)
    log.vote("alice", 3)
    log.vote("bob", 5)
    assert value_of(asked, log.question) == [3, 5]


def test_an_approval_counts_as_its_answer_and_has_all_votes() -> None:
    log = Log(Ask("Pay?"))
    log.vote("alice", False, reason="no")
    approval = Approval.of(log.question)
    assert not approval
    assert (approval.id, approval.reason, approval.votes[0].person) == (log.question.id, "no", "alice")


# -- time --------------------------------------------------------------------------------------------------------------


def test_a_deadline_ends_a_question_once_and_beats_what_comes_with_it() -> None:
    log = Log(Ask("Ship?", deadline=60))
    assert log.vote("alice", True, at=AT + 60).is_late
    assert (log.question.state, log.question.settled_by) == ("expired", "clock")
    refusal = log.vote("alice", True, at=AT + 61).refusal
    assert isinstance(refusal, AnswerRefusedError)
    assert refusal.state == "expired"
    with pytest.raises(QuestionExpiredError, match=r"Ship\?"):
        value_of(Ask("Ship?", deadline=60), log.question)


def test_an_answer_in_time_is_written_before_the_deadline_or_not_at_all() -> None:
    draft = Log(Ask("Ship?", deadline=60)).vote("alice", True, at=AT + 59.9)
    assert draft.before == AT + 60


def test_a_default_is_the_answer_at_the_deadline() -> None:
    asked = Ask("Which?", Release, deadline=timedelta(days=2), default=Release(version="0"))
    log = Log(asked)
    assert not log.attend(AT + 2 * 86_400 - 1).settles
    assert log.attend(AT + 2 * 86_400).settles
    assert log.question.state is QuestionState.DEFAULTED
    assert value_of(asked, log.question) == Release(version="0")
    nothing = Log(Ask("Which?", Release, deadline=1, default=None))
    nothing.attend(AT + 1)
    assert value_of(Ask("Which?", Release, deadline=1, default=None), nothing.question) is None


def test_reminders_come_once_each_and_none_after_the_end() -> None:
    log = Log(Ask("Ship?", remind=[10, timedelta(seconds=20), 30], notify=["ops"]))
    assert log.question.due == AT, "its first notice"
    log.attend(AT + 9)
    log.attend(AT + 20)
    log.attend(AT + 20)
    assert log.happened() == ["asked", "reminded", "reminded"]
    log.vote("alice", True, at=AT + 25)
    assert not log.attend(AT + 99).lines
    assert [notice.kind for notice in log.question.notices] == ["asked", "reminder", "reminder", "settled"]


def test_others_are_asked_besides_when_nobody_has_answered() -> None:
    log = Log(Ask("Ship?", of=["alice"], escalate=(60, ["bob"])))
    with pytest.raises(NotAskedError):
        log.answer("bob", True, at=AT + 59)
    log.attend(AT + 60)
    log.attend(AT + 120)
    assert log.question.of == ["alice", "bob"]
    assert log.happened().count("escalated") == 1
    log.vote("bob", True, at=AT + 121)
    assert log.question.settled_by == "bob"


def test_a_deadline_that_escalates_is_put_off_once() -> None:
    log = Log(Ask("Ship?", of=["alice"], deadline=60, on_deadline="escalate", escalate=(30, ["bob"])))
    log.attend(AT + 60)
    assert (log.question.is_open, log.question.deadline, log.question.of) == (True, AT + 90, ["alice", "bob"])
    log.attend(AT + 90)
    assert log.question.state is QuestionState.EXPIRED


def test_a_time_that_has_come_is_settled_by_the_clock() -> None:
    log = Log(Moment(datetime.fromtimestamp(AT + 5, UTC)))
    with pytest.raises(NotAskedError, match="nobody answers"):
        log.answer("alice", None)
    log.attend(AT + 5)
    assert (log.question.state, value_of(Moment(5), log.question)) == ("answered", None)


# -- ends, and the log -------------------------------------------------------------------------------------------------


def test_what_is_settled_absorbs_everything() -> None:
    log = Log(Ask("Ship?", deadline=60))
    log.keep(withdrawn(log.question, "ann", "not now", "cli", AT + 1))
    with pytest.raises(QuestionWithdrawnError, match="by ann: not now"):
        value_of(Ask("Ship?"), log.question)
    assert isinstance(withdrawn(log.question, "bob", "", "cli", AT + 2).refusal, AnswerRefusedError)
    assert isinstance(log.vote("alice", True).refusal, AnswerRefusedError)
    assert not log.attend(AT + 999).settles
    assert log.question.state is QuestionState.WITHDRAWN


def test_the_log_is_a_chain() -> None:
    log = Log(Ask("Pay?", of=ALL, needs=2))
    log.vote("alice", True)
    log.vote("bob", True)
    log.vote("carol", True)
    log.keep(woken(log.question, AT + 2))
    log.keep(taken(log.question, 1, AT + 3))
    assert broken_line(log.lines) is None
    changed = [{**line} for line in log.lines]
    changed[1]["data"] = {"value": False}
    assert broken_line(changed) == 3
    assert broken_line(log.lines[:2] + log.lines[3:]) == 3


def test_the_log_has_each_answer_that_was_refused_by_whom_and_why() -> None:
    log = Log(Ask("Pay?", of=["alice"]))
    log.vote("mallory", True, verified=False, via="link")
    log.vote("alice", "perhaps")
    log.vote("alice", object())
    log.vote("alice", True)
    log.vote("alice", False)
    told = [(line["who"], line["via"], line["data"]["why"]) for line in log.lines if line["what"] == "refused"]
    assert told == [
        ("mallory", "link", "not asked"),
        ("alice", "python", "invalid"),
        ("alice", "python", "invalid"),
        ("alice", "python", "too late"),
    ]
    assert "perhaps" not in str(log.lines), "of a refused answer there is the digest alone"
    assert broken_line(log.lines) is None
    assert (log.question.value, log.question.settled_by) == (True, "alice")


def test_a_log_has_an_end_however_often_somebody_is_refused() -> None:
    log = Log(Ask("Pay?"))
    log.vote("alice", True)
    for _ in range(300):
        assert log.vote("mallory", False).refusal is not None
    assert len(log.lines) <= 110


def test_a_channel_that_fails_is_tried_again_later_and_given_up_in_the_end() -> None:
    log = Log(Ask("Pay?", notify=["ops"]))
    (notice,) = log.question.notices
    dues = []
    for _ in range(8):
        log.keep(delivered(log.question, notice.id, "OSError: away", AT))
        dues.append(log.question.notices[0].due)
    assert dues[:3] == [AT + 10, AT + 20, AT + 40]
    assert (dues[-1], log.question.notices[0].state, log.happened()[-1]) == (None, "dead", "undeliverable")


def test_a_channel_is_told_by_one_process_and_by_another_only_when_that_has_died_over_it() -> None:
    log = Log(Ask("Pay?", notify=["ops"]))
    (notice,) = log.question.notices
    assert to_tell(log.keep(begun(log.question, notice.id, AT)), notice.id) is not None
    assert log.question.due == AT + TELL_WITHIN
    assert to_tell(begun(log.question, notice.id, AT + TELL_WITHIN - 1), notice.id) is None, "the first one is at it"
    again = to_tell(log.keep(begun(log.question, notice.id, AT + TELL_WITHIN)), notice.id)
    assert again is not None
    assert (again.id, again.tries) == (notice.id, 1), "whoever is told twice can tell"
    log.keep(delivered(log.question, notice.id, None, AT + TELL_WITHIN + 1))
    assert to_tell(begun(log.question, notice.id, AT + 10 * TELL_WITHIN), notice.id) is None, "it was told"
    assert put_off(log.question, notice.id, AT).is_replay
    assert (log.question.due, log.lines[-1]["what"], log.lines[-1]["data"]["tries"]) == (None, "noticed", 1)


def test_a_channel_that_kills_whoever_tells_it_is_given_up_in_the_end() -> None:
    log = Log(Ask("Pay?", notify=["ops"]))
    (notice,) = log.question.notices
    told = 0
    for place in range(20):
        told += to_tell(log.keep(begun(log.question, notice.id, AT + place * TELL_WITHIN)), notice.id) is not None
    assert told == 8
    assert (log.question.due, log.question.notices[0].state, log.happened()[-1]) == (None, "dead", "undeliverable")


def test_a_log_tells_of_each_person_once_who_has_looked_and_of_so_many() -> None:
    log = Log(Ask("Pay?"))
    for _ in range(3):
        log.keep(viewed(log.question, "alice", "page", verified=True, at=AT))
    assert [(line["who"], line["via"], line["data"]) for line in log.lines[1:]] == [
        ("alice", "page", {"verified": True})
    ]
    for number in range(300):
        log.keep(viewed(log.question, f"p{number}", "rest", verified=False, at=AT))
    assert log.happened().count("viewed") == 100
    assert broken_line(log.lines) is None
    assert "viewers" not in log.question.shown()


def test_links_that_do_not_hold_cannot_fill_a_log_nor_crowd_out_what_else_is_refused() -> None:
    log = Log(Ask("Pay?", of=["alice"]))
    for number in range(300):
        log.keep(misused(log.question, f"p{number}", "forged link", AT))
    log.keep(misused(log.question, "alice", "expired link", AT))
    log.vote("mallory", True)
    told = [line["data"]["why"] for line in log.lines if line["what"] == "refused"]
    assert told == ["forged link"] * 10 + ["expired link", "not asked"]


def test_what_a_link_claims_is_only_used_where_it_can_name_a_question() -> None:
    keys = SigningKeys({"k1": b"k" * 32})
    told = Link("q-1", "alice", AT)
    assert claimed_link(link_token(keys, told)) == told
    for other in (told._replace(question_id="q:\ud800"), told._replace(person="a\nb"), told._replace(question_id="")):
        assert claimed_link(link_token(keys, other)) is None
    assert claimed_link("nothing.at-all") is None
    assert signed_link(keys, link_token(keys, told)) == told
    with pytest.raises(SignatureError):
        signed_link(SigningKeys({"k1": b"o" * 32}), link_token(keys, told))


def test_nobody_is_looked_for_for_ever_where_nobody_waits() -> None:
    log = Log(Ask("Pay?"))
    log.vote("alice", True)
    log.keep(looked(log.question, AT + 2, 4.0))
    assert log.question.due == AT + 6
    log.keep(looked(log.question, AT + 6, None))
    assert log.question.due is None


def test_the_first_of_several_waits_is_the_winner() -> None:
    waits = [Ask("Ship?", key="a"), Signal("bank", key="b")]
    lost, won = Log(waits[0]), Log(waits[1])
    lost.keep(withdrawn(lost.question, "rival", "", "", AT))
    won.question = won.question.model_copy(update={"state": QuestionState.ANSWERED, "value": {"paid": 3}})
    winner = winner_of(waits, [lost.question, won.question])
    assert (winner.place, winner.value) == (1, {"paid": 3})


# -- what may be asked -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"prompt": ""},
        {"prompt": "x" * (LONGEST_PROMPT + 1)},
        {"answer": object()},
        {"answer": {"type": "no type"}},
        {"answer": {"enum": list(range(101))}},
        {"of": "alice"},
        {"of": ["alice", ""]},
        {"needs": 0},
        {"needs": True},
        {"needs": 3, "of": ["alice", "bob", "bob"]},
        {"deadline": -1},
        {"deadline": "tomorrow"},
        {"deadline": 5, "default": "no boolean"},
        {"default": True},
        {"deadline": 5, "on_deadline": "default"},
        {"deadline": 5, "on_deadline": "escalate"},
        {"deadline": 5, "on_deadline": "explode"},
        {"escalate": (5, [])},
        {"remind": [float("nan")]},
        {"remind": [1] * 21},
        {"key": ""},
    ],
    ids=" and ".join,
)
def test_what_cannot_be_asked_is_refused_where_it_is_written(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Ask(**{"prompt": "Ship?", **options})


@pytest.mark.parametrize("name", ["", "a/b", "a\nb", "x" * 201, 3])
def test_names_of_signals_are_texts_that_an_address_can_hold(name: Any) -> None:
    with pytest.raises(ConfigError, match="A signal has a name"):
        Signal(name)


def test_a_question_is_another_one_when_its_type_its_people_or_what_it_is_about_is() -> None:
    def digest(*args: Any, **options: Any) -> str:
        return Ask(*args, **options).draft(PLACE, 1, AT).digest

    same = digest("Pay 3?", about={"plan": 1})
    assert digest("Pay three?", about={"plan": 1}) == same, "other words for the same thing"
    assert digest("Pay 3?", about={"plan": 2}) != same
    assert digest("Pay 3?", int, about={"plan": 1}) != same
    assert digest("Pay 3?", about={"plan": 1}, needs=2) != same
    assert digest("Pay 3?") != digest("Pay 4?")
    with pytest.raises(ConfigError, match="about="):
        digest("Pay?", about={1, 2})


def test_a_question_takes_little_room() -> None:
    import json

    log = Log(Ask("Ship the release?", of=ALL, needs=2, deadline=60))
    assert len(json.dumps(log.question.row().data)) < 1024
    assert "schema" in log.question.shown()


# -- links -------------------------------------------------------------------------------------------------------------


def test_a_link_holds_for_one_question_one_person_and_its_time() -> None:
    keys = SigningKeys({"k1": b"k" * 32})
    token = link_token(keys, Link("q-1", "zoë", AT + 60))
    assert link_of(keys, token, AT) == Link("q-1", "zoë", AT + 60)
    with pytest.raises(SignatureError, match="time of this link is over"):
        link_of(keys, token, AT + 60)
    payload, _, signature = token.partition(".")
    other, _, _ = link_token(keys, Link("q-2", "zoë", AT + 60)).partition(".")
    for forged in (f"{other}.{signature}", payload, f"{payload}.", f"{payload}.k2~abc", "", "é.k1~x", f"{token}x"):
        with pytest.raises(SignatureError):
            link_of(keys, forged, AT)
    with pytest.raises(SignatureError):
        link_of(SigningKeys({"k1": b"o" * 32}), token, AT)
