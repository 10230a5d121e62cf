"""What may happen to the notices of a question on their way to its channels; as the rules, these know no store.

Whoever is about to tell a channel notes that first, so that nobody else does meanwhile; only when nothing has come of
it within a time, since the process has died, is the channel told again, by the same id.
"""

from __future__ import annotations

from typing import Any, Final

from graflow.questions.drafts import Draft
from graflow.questions.models import Notice, Question

TELL_WITHIN = 60.0
"""Seconds after which whoever wanted to tell a channel, and has not said what came of it, counts as dead."""

_TELLING: Final = "telling"
_MOST_TRIES: Final = 8
_OTHERS: Final = 30.0  # seconds that a process gets to tell a channel that another one has not
_LONGEST_ERROR: Final = 300


def begun(question: Question, notice_id: str, at: float) -> Draft:
    """A question of which one process is about to tell a channel; nothing to write where another one is, or has."""
    draft = Draft(question, at)
    notice = _notice(question, notice_id)
    if notice is None or notice.due is None or notice.due > at:
        draft.is_replay = True
    elif notice.state != _TELLING:
        _replace(draft, notice, due=at + TELL_WITHIN, state=_TELLING)
    elif notice.tries + 1 >= _MOST_TRIES:
        _give_up(draft, notice, "whoever told it has died each time")
    else:
        _replace(draft, notice, due=at + TELL_WITHIN, tries=notice.tries + 1)
    return draft


def to_tell(begun: Draft, notice_id: str) -> Notice | None:
    """The notice that `begun` has left to its caller to tell; None where it is another's, or was given up."""
    notice = _notice(begun.question, notice_id)
    return None if begun.is_replay or notice is None or notice.state != _TELLING else notice


def put_off(question: Question, notice_id: str, at: float) -> Draft:
    """A question with a notice that is for others to deliver."""
    draft = Draft(question, at)
    notice = _notice(question, notice_id)
    if notice is None or notice.due is None:
        draft.is_replay = True
        return draft
    return _replace(draft, notice, due=at + _OTHERS)


def delivered(question: Question, notice_id: str, error: str | None, at: float) -> Draft:
    """A question of which a channel was told, or not."""
    draft = Draft(question, at)
    notice = _notice(question, notice_id)
    if notice is None:
        draft.is_replay = True
    elif error is None:
        again = {"tries": notice.tries} if notice.tries else {}
        _replace(draft, notice, due=None, state="sent")
        draft.note("noticed", notice.to, "", notice=notice.id, kind=notice.kind, **again)
    elif notice.tries + 1 >= _MOST_TRIES:
        _give_up(draft, notice, error[:_LONGEST_ERROR])
    else:
        tries = notice.tries + 1
        _replace(draft, notice, due=at + min(3600.0, 5.0 * 2**tries), tries=tries, state="waiting")
    return draft


def _notice(question: Question, notice_id: str) -> Notice | None:
    return next((each for each in question.notices if each.id == notice_id), None)


def _replace(draft: Draft, notice: Notice, **fields: Any) -> Draft:
    made = notice.model_copy(update=fields)
    return draft.set(notices=[made if each.id == notice.id else each for each in draft.question.notices])


def _give_up(draft: Draft, notice: Notice, error: str) -> None:
    _replace(draft, notice, due=None, tries=notice.tries + 1, state="dead")
    draft.note("undeliverable", notice.to, "", notice=notice.id, error=error)
