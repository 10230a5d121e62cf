"""What may happen to a question, as functions of the question, what comes, and the time: they know no store.

Settled absorbs: open becomes answered, defaulted, expired or withdrawn, once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from graflow.exceptions import AnswerInvalidError, AnswerRefusedError, ConfigError, GraflowError, NotAskedError
from graflow.questions.answers import check_answer
from graflow.questions.drafts import Ballot, Draft, digest_of
from graflow.questions.models import Question, QuestionState, Vote, WaitKind

CLOCK: Final = "clock"
RUN: Final = "run"
"""Who withdraws the questions of a flow that has ended."""
ANEW: Final = "reask"
"""Who withdraws a question that is asked anew."""
RIVAL: Final = "rival"
"""Who withdraws what is not waited for any more, since another wait was settled."""

WAKE: Final = "wake"
_DEADLINE: Final = "deadline"
_ESCALATE: Final = "escalate"
_REMIND: Final = "remind"
_REFUSALS: Final = 100  # that a log has of one question
_WHY: Final[Mapping[type[GraflowError], str]] = {NotAskedError: "not asked", AnswerRefusedError: "too late"}
_VIEWERS: Final = 100  # that a log has of one question
_MISUSES: Final = 10  # of one kind that a log has of one question
_LONGEST_NAME: Final = 200
_LONGEST_REASON: Final = 16 * 1024


# -- asking ------------------------------------------------------------------------------------------------------------


def opened(question: Question, remind: Iterable[float], at: float) -> Draft:
    """A question that is asked now; its deadline and timers are on this clock from here on."""
    timers = [] if question.deadline is None else [(question.deadline, _DEADLINE)]
    timers += [(at + after, _REMIND) for after in remind]
    if question.escalation is not None and question.on_deadline != "escalate":
        timers.append((at + question.escalation.after, _ESCALATE))
    draft = Draft(question, at).set(asked_at=at, timers=sorted(timers))
    return draft.note("asked", question.step, of=question.of, needs=question.needs, digest=question.digest).tell(
        "asked"
    )


# -- answering ---------------------------------------------------------------------------------------------------------


def voted(question: Question, ballot: Ballot, at: float) -> Draft:
    """A question with one more answer, settled when that decides it; or with a line that says why it was refused."""
    draft = Draft(question, at)
    if _is_replay(question, ballot):
        draft.is_replay = True
        return draft
    if question.is_open and question.deadline is not None and at >= question.deadline:
        draft = attended(question, at)  # its time is over, which nobody has noticed yet
        draft.is_late = True
        return draft
    refusal = _refusal(question, ballot)
    if refusal is not None:
        return refused(question, ballot, refusal, at)
    vote = Vote(
        person=ballot.person,
        value=ballot.value,
        reason=(ballot.reason or "")[:_LONGEST_REASON] or None,
        at=at,
        via=ballot.via,
        verified=ballot.verified,
    )
    others = [each for each in question.votes if each.person != ballot.person]
    draft.set(votes=[*others, vote])
    if ballot.token is not None:
        draft.set(tokens={**question.tokens, ballot.token: ballot.person})
    draft.note("voted", ballot.person, ballot.via, value=ballot.value, verified=ballot.verified)
    draft.before = question.deadline
    is_decided, value = _decision(draft.question)
    if is_decided:
        _settle(draft, QuestionState.ANSWERED, ballot.person, ballot.via, value, vote.reason)
    return draft


def _is_replay(question: Question, ballot: Ballot) -> bool:
    if ballot.token is not None and question.tokens.get(ballot.token) == ballot.person:
        return True
    same = [vote for vote in question.votes if vote.person == ballot.person and vote.value == ballot.value]
    return bool(same) and type(same[0].value) is type(ballot.value)


def _refusal(question: Question, ballot: Ballot) -> GraflowError | None:
    """Why an answer is not counted: of somebody who was not asked, of another type, or too late."""
    if not_asked := _not_asked(question, ballot):
        return NotAskedError(not_asked)
    if not question.is_open:
        by, at, via = question.settled_by or "", question.settled_at or 0.0, question.via or ""
        return AnswerRefusedError(question.id, question.state.value, by, at, via)
    try:
        check_answer(question.answer_schema, ballot.value, question.id)
    except AnswerInvalidError as error:
        return error
    earlier = next((vote for vote in question.votes if vote.person == ballot.person), None)
    if earlier is None or question.revisable:
        return None
    return AnswerRefusedError(question.id, question.state.value, earlier.person, earlier.at, earlier.via)


def _not_asked(question: Question, ballot: Ballot) -> str:
    """Why it is not for this person to answer; empty when it is."""
    if question.kind is not WaitKind.ASK:
        return f"Wait {question.id} is for a {question.kind.value}, which nobody answers"
    if not ballot.person:
        return f"Question {question.id} is answered by somebody: say who"
    if not question.asks(ballot.person, ballot.roles):
        return f"Question {question.id} is not asked of {ballot.person}, but of {', '.join(question.of)}"
    if question.needs > 1 and not ballot.verified:
        return (
            f"Question {question.id} needs {question.needs} different people, and {ballot.person} is only said to be "
            "one: answer with a token of your own, or a signed link"
        )
    return ""


def refused(question: Question, ballot: Ballot, refusal: GraflowError, at: float) -> Draft:
    """A question of which an answer was refused: its log says whose, and why; the answer itself by its digest."""
    draft = Draft(question, at)
    draft.refusal = refusal
    if question.lines >= _REFUSALS + len(question.votes):
        draft.is_replay = True  # its log has enough of these
        return draft
    why = next((why for kind, why in _WHY.items() if isinstance(refusal, kind)), "invalid")
    return draft.note(
        *("refused", ballot.person[:_LONGEST_NAME], ballot.via),
        why=why,
        value_digest=_digest_or_none(ballot.value),
        verified=ballot.verified,
    )


def _digest_or_none(value: Any) -> str | None:
    """The digest of what somebody says is plain JSON."""
    try:
        return digest_of(value)
    except (TypeError, ValueError, RecursionError):
        return None


def _decision(question: Question) -> tuple[bool, Any]:
    """Whether the votes decide a question, and what its value is then."""
    values = [vote.value for vote in question.votes]
    if not question.is_boolean:
        if len(values) < question.needs:
            return False, None
        return True, values[0] if question.needs == 1 else values
    rejected = values.count(False)
    if rejected and (question.veto or question.needs == 1):
        return True, False
    if values.count(True) >= question.needs:
        return True, True
    is_counted = bool(question.of) and not question.roles
    return is_counted and len(set(question.of)) - rejected < question.needs, False


def _settle(draft: Draft, state: QuestionState, by: str, via: str, value: Any, reason: str | None) -> None:
    draft.set(
        state=state,
        value=value,
        settled_by=by,
        settled_at=draft.at,
        via=via,
        reason=reason,
        timers=[(draft.at, WAKE)],
    )
    draft.settles = True
    draft.note("settled", by, via, state=state.value, reason=reason).tell("settled")


def signalled(question: Question, value: Any, by: str, signal_id: str, at: float) -> Draft:
    """A wait for a signal that has come."""
    draft = Draft(question, at)
    draft.before = question.deadline
    draft.note("signalled", by, "", signal=signal_id)
    _settle(draft, QuestionState.ANSWERED, by, "signal", value, None)
    return draft


# -- looking -----------------------------------------------------------------------------------------------------------


def viewed(question: Question, person: str, via: str, *, verified: bool, at: float) -> Draft:
    """A question that somebody has looked at, which its log tells of each person once."""
    draft = Draft(question, at)
    person = person[:_LONGEST_NAME]
    if person in question.viewers or len(question.viewers) >= _VIEWERS:
        draft.is_replay = True
        return draft
    return draft.set(viewers=[*question.viewers, person]).note("viewed", person, via, verified=verified)


def misused(question: Question, claimed: str, why: str, at: float) -> Draft:
    """A question of which somebody had a link that did not hold: its log tells the first few of each kind."""
    draft = Draft(question, at)
    count = question.misused.get(why, 0)
    if count >= _MISUSES:
        draft.is_replay = True
        return draft
    draft.set(misused={**question.misused, why: count + 1})
    return draft.note("refused", claimed[:_LONGEST_NAME], "link", why=why, verified=False)


# -- time --------------------------------------------------------------------------------------------------------------


def attended(question: Question, at: float) -> Draft:
    """What time makes of an open question: reminders, another audience, its default, its end."""
    draft = Draft(question, at)
    while draft.question.is_open and draft.question.timers and draft.question.timers[0][0] <= at:
        (due, what), *later = draft.question.timers
        draft.set(timers=later)
        if what == _REMIND:
            draft.note("reminded", CLOCK).tell("reminder")
        elif what == _ESCALATE:
            _escalate(draft)
        else:
            _end_of_time(draft, due)
    return draft


def reminded(question: Question, by: str, via: str, at: float) -> Draft:
    """A question of which its audience is told once more, since somebody wants that."""
    if not question.is_open:
        return _too_late(Draft(question, at))
    return Draft(question, at).note("reminded", by, via).tell("reminder")


def reassigned(question: Question, of: Sequence[str], by: str, reason: str, via: str, at: float) -> Draft:
    """A question that others are asked instead.

    Raises:
        ConfigError: They are too few.
    """
    draft = Draft(question, at)
    if not question.is_open:
        return _too_late(draft)
    draft.set(of=list(dict.fromkeys(of)))
    asked = draft.question
    if asked.of and not asked.roles and len(asked.of) < asked.needs:
        raise ConfigError(
            f"Question {question.id} needs {asked.needs} people, of whom {', '.join(asked.of)} are too few"
        )
    if asked.of and not asked.roles:
        draft.set(votes=[vote for vote in asked.votes if vote.person in asked.of])
    return draft.note("reassigned", by, via, of=asked.of, reason=reason).tell("asked")


def _escalate(draft: Draft) -> None:
    question = draft.question
    if question.escalation is None or question.escalation.done:
        return
    of = list(dict.fromkeys([*question.of, *question.escalation.of])) if question.of else []
    draft.set(of=of, escalation=question.escalation.model_copy(update={"done": True}))
    draft.note("escalated", CLOCK, of=question.escalation.of).tell("escalation")


def _end_of_time(draft: Draft, due: float) -> None:
    question = draft.question
    escalation = question.escalation
    if question.on_deadline == "escalate" and escalation is not None and not escalation.done:
        deadline = due + escalation.after
        draft.set(deadline=deadline, timers=sorted([*question.timers, (deadline, _DEADLINE)]))
        _escalate(draft)
    elif question.kind is WaitKind.TIME:
        _settle(draft, QuestionState.ANSWERED, CLOCK, CLOCK, None, None)
    elif question.on_deadline == "default":
        _settle(draft, QuestionState.DEFAULTED, CLOCK, CLOCK, question.default, None)
    else:
        _settle(draft, QuestionState.EXPIRED, CLOCK, CLOCK, None, None)


# -- other ends --------------------------------------------------------------------------------------------------------


def withdrawn(question: Question, by: str, reason: str, via: str, at: float) -> Draft:
    """A question that is not asked any more; what is settled stays as it is, and says so."""
    draft = Draft(question, at)
    if question.is_open:
        draft.set(notices=[each.model_copy(update={"due": None}) for each in question.notices])
        _settle(draft, QuestionState.WITHDRAWN, by, via, None, reason)
        if by in {RUN, RIVAL, ANEW}:
            draft.set(timers=[])  # nobody waits for it alone
    else:
        _too_late(draft)
    return draft


def _too_late(draft: Draft) -> Draft:
    """Refuse what a settled question does not take, and write nothing."""
    question = draft.question
    by, at = question.settled_by or "", question.settled_at
    draft.refusal = AnswerRefusedError(question.id, question.state.value, by, at, question.via or "")
    draft.is_replay = True
    return draft


def awaited_for_ever(question: Question, at: float) -> Draft:
    """A question whose step has no more to do than to wait for the answer."""
    draft = Draft(question, at).set(patience=None)
    draft.is_replay = question.patience is None or not question.is_open
    return draft


def taken(question: Question, attempt: int, at: float) -> Draft:
    """A question whose answer its step has."""
    return Draft(question, at).set(taken_at=at, timers=[]).note("taken", question.step, attempt=attempt)


def woken(question: Question, at: float) -> Draft:
    """A question whose flow was told to go on."""
    return Draft(question, at).set(woken_at=at, timers=[]).note("woken", question.flow_id)


def looked(question: Question, at: float, again_in: float | None) -> Draft:
    """A settled question of which nobody could be woken now."""
    timers = [] if again_in is None else [(at + again_in, WAKE)]
    return Draft(question, at).set(timers=timers, looks=question.looks + 1)
