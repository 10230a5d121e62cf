"""What a step waits for, as it says so: `Ask`, `Signal`, `Moment`."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, Final

from graflow.durations import Deadline, Duration
from graflow.encoding.shapes import is_name
from graflow.exceptions import AnswerInvalidError, ConfigError
from graflow.protocols import MISSING
from graflow.questions.answers import AnswerType
from graflow.questions.drafts import digest_of
from graflow.questions.models import Escalation, Question, WaitKind
from graflow.state.encoding import to_text

LONGEST_PROMPT: Final = 16 * 1024  # bytes
MOST_PEOPLE: Final = 100
LONGEST_SUBJECT: Final = 16 * 1024  # characters as JSON of what a question is about, to be kept and shown with it
_MOST_REMINDERS: Final = 20
_LONGEST: Final = 100 * 365 * 86_400.0  # seconds


@dataclass(frozen=True)
class Place:
    """Where something is waited for.

    Attributes:
        flow_id: The flow.
        generation: Of it.
        flow_name: Its name.
        step: The step.
        visit: Its visit.
        key: The idempotency key of the task there.
        name: What the wait is called there.
        first: The number from which on it is looked for: what was asked before is asked anew.
        since: The generation from which on it is looked for: people are asked anew what they were asked before.
    """

    flow_id: str
    generation: int
    step: str
    visit: int
    key: str
    name: str
    first: int = 1
    since: int = 0
    flow_name: str = ""

    def id(self, number: int) -> str:
        """The id of what is waited for here; another one each time that it is asked anew."""
        first = f"q-{digest_of([self.key, self.name])[:24]}"
        return first if number == 1 else f"{first}-{number}"


@dataclass(frozen=True, kw_only=True)
class _Wait(ABC):
    key: str | None = None
    hold: float = 0.0

    def __post_init__(self) -> None:
        if self.key is not None and not is_name(self.key):
            raise ConfigError(f"key= is a text of 1 to 200 characters, not {self.key!r}")
        seconds("hold=", self.hold)

    @abstractmethod
    def draft(self, place: Place, number: int, at: float) -> Question:
        """The question that is asked."""

    def reminders(self) -> list[float]:
        """Seconds after which it is told again."""
        return []

    def read(self, question: Question) -> Any:
        """The answer as the step wants it."""
        return question.value


@dataclass(frozen=True)
class Ask(_Wait):
    """A question to people.

    Args:
        prompt: What they are asked.
        answer: What they may answer: `bool`, `str`, `int`, a `Literal`, a pydantic model, or a JSON Schema.
        key: What the question is called in its step; otherwise its place among those without a key.
        about: What it is about, as plain JSON: an answer for one thing is none for another. The prompt when not given.
        of: Who is asked: people, and roles as `role:<name>`; anybody when empty.
        needs: How many of them have to answer; with several, the answer is a list of theirs, but for `bool`.
        veto: Whether one rejection ends it; otherwise it goes on until `needs` can no longer be reached.
        revisable: Whether people may change their answer until it is settled.
        deadline: Seconds, a timedelta, or a datetime with a time zone; counted from when it was first asked.
        default: The answer when there is none by the deadline.
        on_deadline: `"default"`, `"fail"` or `"escalate"`; the first when there is a default, else the second.
        remind: When to tell its channels again: seconds or timedeltas from when it was first asked.
        escalate: `(after, people)`: who is asked besides when nobody has answered; with `on_deadline="escalate"` at the
            deadline, which is put off by `after`.
        notify: Names of channels that are told; the runner has them.
        hold: Seconds to wait in place before the flow is put away.

    Raises:
        ConfigError: For what cannot be right.
    """

    prompt: str
    answer: Any = bool
    about: Any = field(default=None, kw_only=True)
    of: Sequence[str] = field(default=(), kw_only=True)
    needs: int = field(default=1, kw_only=True)
    veto: bool = field(default=True, kw_only=True)
    revisable: bool = field(default=False, kw_only=True)
    deadline: Deadline | None = field(default=None, kw_only=True)
    default: Any = field(default=MISSING, kw_only=True)
    on_deadline: str | None = field(default=None, kw_only=True)
    remind: Sequence[Duration] = field(default=(), kw_only=True)
    escalate: tuple[Duration, Sequence[str]] | None = field(default=None, kw_only=True)
    notify: Sequence[str] = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.prompt, str) or not self.prompt.strip():
            raise ConfigError(f"A question has a prompt, not {self.prompt!r}")
        if len(self.prompt.encode(errors="replace")) > LONGEST_PROMPT:
            raise ConfigError(f"A prompt has at most {LONGEST_PROMPT} bytes; keep the rest elsewhere, and name it")
        check_people("of=", self.of)
        check_people("notify=", self.notify)
        if isinstance(self.needs, bool) or not isinstance(self.needs, int) or not 1 <= self.needs <= MOST_PEOPLE:
            raise ConfigError(f"needs= is a count of people from 1 to {MOST_PEOPLE}, not {self.needs!r}")
        is_counted = bool(self.of) and not any(each.startswith("role:") for each in self.of)
        if is_counted and self.needs > len(set(self.of)):
            raise ConfigError(f"needs={self.needs} is more than the {len(set(self.of))} people of of=")
        for name in ("veto", "revisable"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"{name}= is True or False, not {getattr(self, name)!r}")
        self._check_time()
        _ = self.type, self.kept_default  # refused where it is written

    def _check_time(self) -> None:
        if self.on_deadline not in (None, "default", "fail", "escalate"):
            raise ConfigError(f'on_deadline= is "default", "fail" or "escalate", not {self.on_deadline!r}')
        if self.on_deadline == "default" and self.default is MISSING:
            raise ConfigError('on_deadline="default" needs default=')
        if self.on_deadline == "escalate" and self.escalate is None:
            raise ConfigError('on_deadline="escalate" needs escalate=(after, people)')
        if self.deadline is None and (self.on_deadline is not None or self.default is not MISSING):
            raise ConfigError("default= and on_deadline= say what is done at the deadline: give deadline= as well")
        if self.escalate is not None:
            if not isinstance(self.escalate, tuple | list) or len(self.escalate) != 2:
                raise ConfigError(f"escalate= is (after, people), such as (3600, ['ann']), not {self.escalate!r}")
            after, people = self.escalate
            seconds("escalate=", after)
            check_people("escalate=", people)
            if not people:
                raise ConfigError("escalate= names who is asked besides")
        if not isinstance(self.remind, tuple | list):
            raise ConfigError(f"remind= is a list of seconds or timedeltas, not {self.remind!r}")
        if len(self.remind) > _MOST_REMINDERS:
            raise ConfigError(f"remind= has at most {_MOST_REMINDERS} times")
        if self.deadline is not None and not isinstance(self.deadline, datetime):
            seconds("deadline=", self.deadline)
        _ = self.reminders()

    @cached_property
    def type(self) -> AnswerType:
        return AnswerType(self.answer)

    @cached_property
    def kept_default(self) -> Any:
        if self.default is MISSING or self.default is None:
            return None
        try:
            return self.type.kept(self.default)
        except AnswerInvalidError as error:
            raise ConfigError(f"default= is no answer to the question: {'; '.join(error.errors)}") from error

    def reminders(self) -> list[float]:
        return [seconds("remind=", each) for each in self.remind]

    def draft(self, place: Place, number: int, at: float) -> Question:
        subject = None if self.about is None else _plain(self.about)
        about = "" if self.about is None else digest_of(subject)
        made = self.type.schema
        escalation = None
        if self.escalate is not None:
            escalation = Escalation(after=seconds("escalate=", self.escalate[0]), of=list(self.escalate[1]))
        has_default = self.default is not MISSING
        return Question(
            **_placed(place, number),
            kind=WaitKind.ASK,
            digest=digest_of([WaitKind.ASK.value, made, self.needs, self.veto, about or digest_of(self.prompt)]),
            about=about,
            subject=subject if len(to_text(subject)) <= LONGEST_SUBJECT else None,
            prompt=self.prompt,
            schema=made,
            of=list(self.of),
            needs=self.needs,
            veto=self.veto,
            revisable=self.revisable,
            deadline=until(self.deadline, at),
            on_deadline=self.on_deadline or ("default" if has_default else "fail"),
            default=self.kept_default,
            escalation=escalation,
            notify=list(self.notify),
        )

    def read(self, question: Question) -> Any:
        if question.state == "defaulted" and question.value is None:
            return None
        if question.needs > 1 and not question.is_boolean and question.state == "answered":
            return [self.type.read(question.id, each) for each in question.value]
        return self.type.read(question.id, question.value)


@dataclass(frozen=True)
class Signal(_Wait):
    """Something that another system tells the flow of.

    Args:
        name: What it is called.
        model: What it is, as `answer=` of `Ask`; anything when None.
        key: What the wait is called in its step.
        deadline: As that of `Ask`.
        default: What the wait gives when nothing has come by the deadline.
    """

    name: str
    model: Any = None
    deadline: Deadline | None = field(default=None, kw_only=True)
    default: Any = field(default=MISSING, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_signal_name(self.name)
        if self.default is not MISSING and self.deadline is None:
            raise ConfigError("default= says what is done at the deadline: give deadline= as well")
        if self.deadline is not None and not isinstance(self.deadline, datetime):
            seconds("deadline=", self.deadline)
        _ = self.type

    @cached_property
    def type(self) -> AnswerType:
        return AnswerType(Any if self.model is None else self.model)

    def draft(self, place: Place, number: int, at: float) -> Question:
        schema = self.type.schema
        return Question(
            **_placed(place, number),
            kind=WaitKind.SIGNAL,
            digest=digest_of([WaitKind.SIGNAL.value, schema, self.name]),
            prompt=self.name,
            schema=schema,
            deadline=until(self.deadline, at),
            on_deadline="fail" if self.default is MISSING else "default",
            default=None if self.default is MISSING or self.default is None else self.type.kept(self.default),
        )

    def read(self, question: Question) -> Any:
        if question.state == "defaulted" and question.value is None:
            return None
        return self.type.read(question.id, question.value)


@dataclass(frozen=True)
class Moment(_Wait):
    """A time.

    Args:
        when: Seconds or a timedelta from when it was first waited for, or a datetime with a time zone.
        key: What the wait is called in its step.
    """

    when: Deadline

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.when, datetime):
            seconds("when", self.when)

    def draft(self, place: Place, number: int, at: float) -> Question:
        told = self.when.isoformat() if isinstance(self.when, datetime) else seconds("when", self.when)
        return Question(
            **_placed(place, number),
            kind=WaitKind.TIME,
            digest=digest_of([WaitKind.TIME.value, told]),
            prompt="",
            deadline=until(self.when, at),
        )

    def read(self, question: Question) -> Any:  # noqa: ARG002 - a time says nothing
        return None


Wait = Ask | Signal | Moment


def check_signal_name(name: object) -> None:
    """Raise for what cannot be the name of a signal."""
    if not is_name(name) or any(each in name for each in "/\n\x00"):
        raise ConfigError(f"A signal has a name of 1 to 200 characters without '/', not {name!r}")


def seconds(name: str, given: object) -> float:
    """A duration in seconds.

    Raises:
        ConfigError: It is none.
    """
    value = given.total_seconds() if isinstance(given, timedelta) else given
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LONGEST or math.isnan(value):
        raise ConfigError(f"{name} takes seconds from 0, or a timedelta, not {given!r}")
    return float(value)


def until(given: Deadline | None, at: float) -> float | None:
    """A deadline as seconds since the epoch."""
    if given is None:
        return None
    if isinstance(given, datetime):
        if given.tzinfo is None:
            raise ConfigError(f"A deadline that is a datetime has a time zone, unlike {given!r}")
        if given - datetime.now(UTC) > timedelta(seconds=_LONGEST):
            raise ConfigError(f"A deadline is at most 100 years from now, unlike {given!r}")
        return given.timestamp()
    return at + seconds("deadline=", given)


def _placed(place: Place, number: int) -> dict[str, Any]:
    return {
        "id": place.id(number),
        "flow_id": place.flow_id,
        "flow_name": place.flow_name,
        "step": place.step,
        "visit": place.visit,
        "key": place.name,
        "number": number,
        "generation": place.generation,
    }


def check_people(name: str, people: object) -> None:
    """Raise ConfigError for what are no people that a question can ask."""
    if isinstance(people, str) or not isinstance(people, Sequence):
        raise ConfigError(f"{name} is a list of names, not {people!r}")
    if len(people) > MOST_PEOPLE:
        raise ConfigError(f"{name} has at most {MOST_PEOPLE} names, not {len(people)}")
    for each in people:
        if not is_name(each):
            raise ConfigError(f"{name} has names of 1 to 200 characters, not {each!r}")


def _plain(about: Any) -> Any:
    dump = getattr(about, "model_dump", None)
    made = dump(mode="json") if callable(dump) else about
    try:
        digest_of(made)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"about= is plain JSON or a pydantic model: {error}") from error
    return made
