"""A question, as it is kept and as it is shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from graflow.secret import masked
from graflow.state.questions import OPEN, QuestionRow, RowKind
from graflow.state.transitions import FOREVER

FORMAT: Final = 1
_OF_THE_ROW: Final = frozenset({"id", "flow_id", "state", "asked_at", "version"})
_TIMES: Final = ("asked_at", "deadline", "patience", "settled_at", "woken_at", "taken_at")
_ROLE: Final = "role:"
_UNSHOWN: Final = frozenset(
    {"tokens", "notices", "timers", "looks", "head", "lines", "v", "rivals", "digest", "about", "viewers", "misused"}
)


class QuestionState(StrEnum):
    """Where a question is; all but the first absorb."""

    OPEN = OPEN
    ANSWERED = "answered"
    DEFAULTED = "defaulted"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"


class WaitKind(StrEnum):
    """What is waited for."""

    ASK = "ask"
    SIGNAL = "signal"
    TIME = "time"


class _Model(BaseModel):
    model_config = ConfigDict(extra="ignore", populate_by_name=True)


class Vote(_Model):
    """What one person answered.

    Attributes:
        person: Who.
        value: Plain JSON of the type that was asked for.
        reason: Their words.
        at: When, seconds since the epoch.
        via: By what way: `"link"`, `"rest"`, `"cli"`, `"page"`, `"python"`.
        verified: Whether somebody has made sure that it was they.
    """

    person: str
    value: Any
    reason: str | None = None
    at: float = 0.0
    via: str = "python"
    verified: bool = True


class Notice(_Model):
    """Something to be told to a channel, at least once.

    Attributes:
        id: Its name, for whoever gets it twice.
        kind: `"asked"`, `"reminder"`, `"escalation"` or `"settled"`.
        to: The channel.
        due: When it is to be told, seconds since the epoch; None once it was, or has been given up. While it is told,
            when it is told again should nothing come of that.
        tries: How often that failed.
        state: `"waiting"`, `"telling"`, `"sent"` or `"dead"`.
    """

    id: str
    kind: str
    to: str
    due: float | None
    tries: int = 0
    state: str = "waiting"


class Escalation(_Model):
    """Who is asked besides, or instead, when nobody has answered.

    Attributes:
        after: Seconds after which.
        of: Who.
        done: Whether it has happened.
    """

    after: float
    of: list[str]
    done: bool = False


class Feedback(_Model):
    """What `request_feedback` says of its question beside what every question has.

    Attributes:
        task_id: The task that asks.
        session_id: Its run, or branch.
        type: The kind of answer, as `FeedbackType` has it.
        options: What can be selected.
        metadata: Shown with it.
        timeout: Seconds for which the task waits.
        channel_key: The key of the channel that gets the answer.
        write_to_channel: Whether it does.
    """

    task_id: str
    session_id: str
    type: str
    options: list[str] | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)
    timeout: float
    channel_key: str | None = None
    write_to_channel: bool = False


class Question(_Model):
    """A question of a step, or a wait for a signal or a time, which is the same without anybody to ask.

    Attributes:
        id: Its name; follows from where it is asked.
        kind: `"ask"`, `"signal"` or `"time"`.
        flow_id: The flow that waits.
        flow_name: Its name; empty where an older version has asked.
        step: The step there.
        visit: Its visit.
        key: What it is called in its step.
        number: How often it was asked anew in its place, from 1.
        generation: Of the flow, when it was asked.
        digest: Tells the same question from another.
        about: Digest of what it is about, where somebody said that; otherwise that is its prompt.
        subject: What it is about, as people are shown it; None where nobody said, or it is too large for that.
        prompt: What people are asked; for a signal its name.
        answer_schema: JSON Schema of an answer (`schema` as JSON).
        of: People, and roles as `role:<name>`, who are asked; anybody when empty.
        needs: How many of them have to answer.
        veto: Whether one rejection is enough to reject.
        revisable: Whether a vote may be changed until all is settled.
        deadline: Until when answers are taken, seconds since the epoch; None for ever.
        patience: Until when its step waits for one, which takes them all the same; None for as long as it is open.
        feedback: What `request_feedback` says of it; None for what was asked otherwise.
        on_deadline: `"default"`, `"fail"` or `"escalate"`.
        default: The answer when there is none by the deadline.
        escalation: Who is asked when nobody has answered.
        notify: Channels that are told.
        state: Where it is.
        value: The answer once it is settled; a list of answers when several people had to give one.
        votes: What people answered so far.
        reason: The last words about it.
        settled_by: Who settled it; `"clock"` for a deadline.
        via: By what way.
        asked_at: Seconds since the epoch, as the other times.
        settled_at: When it was settled.
        woken_at: When its flow was told to go on.
        taken_at: When its step had the answer.
        rivals: Other waits of which one is enough.
        timers: When something is to happen to it, and what.
        notices: What is to be told of it.
        looks: How often it was looked for somebody to wake.
        tokens: Names of answers that were counted, and who gave them.
        viewers: Who has looked at it.
        misused: How often its log tells of links to it that did not hold, by why.
        lines: Lines of its log, and
        head: the digest of the last one.
        version: Of its row.
    """

    v: int = FORMAT
    id: str
    kind: WaitKind = WaitKind.ASK
    flow_id: str
    flow_name: str = ""
    step: str
    visit: int = 1
    key: str
    number: int = 1
    generation: int = 0
    digest: str
    about: str = ""
    subject: Any = None
    prompt: str = ""
    answer_schema: dict[str, Any] = Field(default_factory=dict, alias="schema")
    of: list[str] = Field(default_factory=list)
    needs: int = 1
    veto: bool = True
    revisable: bool = False
    deadline: float | None = None
    patience: float | None = None
    feedback: Feedback | None = None
    on_deadline: str = "fail"
    default: Any = None
    escalation: Escalation | None = None
    notify: list[str] = Field(default_factory=list)
    state: QuestionState = QuestionState.OPEN
    value: Any = None
    votes: list[Vote] = Field(default_factory=list)
    reason: str | None = None
    settled_by: str | None = None
    via: str | None = None
    asked_at: float = 0.0
    settled_at: float | None = None
    woken_at: float | None = None
    taken_at: float | None = None
    rivals: list[str] = Field(default_factory=list)
    timers: list[tuple[float, str]] = Field(default_factory=list)
    notices: list[Notice] = Field(default_factory=list)
    looks: int = 0
    tokens: dict[str, str] = Field(default_factory=dict)
    viewers: list[str] = Field(default_factory=list)
    misused: dict[str, int] = Field(default_factory=dict)
    lines: int = 0
    head: str = ""
    version: int = 0

    @property
    def is_open(self) -> bool:
        return self.state is QuestionState.OPEN

    def is_awaited(self, at: float) -> bool:
        """Whether its step still waits for an answer."""
        return self.is_open and (self.patience is None or at < self.patience)

    @property
    def is_boolean(self) -> bool:
        """Whether the answer is yes or no."""
        return self.answer_schema.get("type") == "boolean"

    @property
    def due(self) -> float | None:
        """When somebody has to look at it."""
        times = [due for due, _ in self.timers]
        times += [notice.due for notice in self.notices if notice.due is not None]
        return min(times, default=None)

    @property
    def roles(self) -> list[str]:
        """The roles that are asked."""
        return [each.removeprefix(_ROLE) for each in self.of if each.startswith(_ROLE)]

    def asks(self, person: str, roles: frozenset[str] = frozenset()) -> bool:
        """Whether somebody is among those who are asked."""
        return not self.of or person in self.of or any(_ROLE + role in self.of for role in roles)

    def row(self) -> QuestionRow:
        """As a store keeps it, one version on."""
        data = self.model_dump(mode="json", by_alias=True, exclude=set(_OF_THE_ROW), exclude_defaults=True)
        return QuestionRow(
            *(self.id, self.flow_id, RowKind.QUESTION, self.state.value, self.asked_at, self.due),
            version=self.version + 1,
            data={"v": self.v, **data},
        )

    @classmethod
    def of_row(cls, row: QuestionRow) -> Question:
        known: Mapping[str, Any] = {
            **row.data,
            "id": row.id,
            "flow_id": row.flow_id,
            "state": row.state,
            "asked_at": row.at,
            "version": row.version,
        }
        return cls.model_validate(known)

    def shown(self) -> dict[str, Any]:
        """As plain JSON for whoever looks at it; times are ISO texts in UTC."""
        found = self.model_dump(mode="json", by_alias=True, exclude=set(_UNSHOWN))
        for name in _TIMES:
            found[name] = iso(found[name])
        found["subject"], found["feedback"] = masked(found["subject"]), masked(found["feedback"])
        for vote in found["votes"]:
            vote["at"] = iso(vote["at"])
        return found


def wake_time(questions: Sequence[Question]) -> float:
    """When a flow that waits for these has to be looked at, should nobody have told it."""
    times = (at for each in questions for at in (each.deadline, each.patience) if at is not None)
    return min(times, default=FOREVER)


def iso(at: float | None) -> str | None:
    """A time as text in UTC."""
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")
