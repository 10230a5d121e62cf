"""What requests carry: models of their bodies, and parameters that several handlers take."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Literal

from fastapi import Header, Query
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from graflow.api.http.problems import ProblemError
from graflow.state.statuses import FlowStatus

_DEEPEST: Final = 100
_MOST_AT_ONCE: Final = 100
_AGES: Final = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_AGE: Final = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(s|min|h|d|w)", re.ASCII)


def _plain(value: Any, depth: int = 0) -> Any:
    """Refuse what no store takes as JSON: numbers without an end, half characters, and depths."""
    if depth > _DEEPEST:
        raise ValueError(f"is more than {_DEEPEST} levels deep")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("holds a number that JSON does not have")
    if isinstance(value, str):
        _check_text(value)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            _check_text(key)
            _plain(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _plain(item, depth + 1)
    return value


def _check_text(text: str) -> None:
    if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError("holds half of a character (a surrogate)")


def _addressable(flow_id: str) -> str:
    """Refuse an id that no path of a URL can hold."""
    _check_text(flow_id)
    if flow_id in {".", ".."} or not flow_id.isprintable() or set(flow_id) & set("/\\"):
        raise ValueError("is no text that an address can hold: printable, without / and \\")
    return flow_id


Plain = Annotated[dict[str, Any], AfterValidator(_plain)]
FlowId = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_addressable)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Start(_Body):
    """A flow to start.

    Attributes:
        inputs: By name, as the flow's function takes them.
        flow_id: Makes the request idempotent; a new id when None.
        metadata: Plain JSON that is kept with it.
    """

    inputs: Plain = Field(default_factory=dict)
    flow_id: FlowId | None = None
    metadata: Plain = Field(default_factory=dict)


class Resume(_Body):
    """How to go on.

    Attributes:
        on_change: What to do when the code of completed steps changed: `refuse`, or `reuse` the others.
    """

    on_change: Literal["refuse", "reuse"] = "refuse"


class Retry(_Body):
    """Which part of a step to run again.

    Attributes:
        index: A member of the group; all that failed when None.
        visit: Which execution of the step; the last one when None.
        downstream: Which later steps run again as well.
        ask_again: Whether people are asked again what the step has asked them.
    """

    index: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    visit: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    downstream: Literal["none", "failed", "all"] = "failed"
    ask_again: bool = False


class Fork(_Body):
    """Where a new run begins, and with what.

    Attributes:
        from_step: The first step that runs again.
        visit: Which execution of it; the first one when None.
        inputs: Other inputs by name, over those that the run has.
        new_flow_id: The id of the new run; a new one when None.
    """

    from_step: Annotated[str, Field(min_length=1)]
    visit: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    inputs: Plain | None = None
    new_flow_id: FlowId | None = None


class Reason(_Body):
    """Why, for the journal."""

    reason: Annotated[str, Field(max_length=1000), AfterValidator(_plain)] = ""


class ManyActions(_Body):
    """One action for several runs.

    Attributes:
        action: What is asked of each.
        ids: The runs.
        reason: Why, for the journal.
    """

    action: Literal["resume", "pause", "cancel", "purge"]
    ids: Annotated[list[str], Field(min_length=1, max_length=_MOST_AT_ONCE)]
    reason: Annotated[str, Field(max_length=1000), AfterValidator(_plain)] = ""


# -- parameters --------------------------------------------------------------------------------------------------------

DryRun = Annotated[bool, Query(description="Answer with the plan, and do nothing.")]
IfMatch = Annotated[
    str | None, Header(description="The digest of a plan in double quotes: refused with 412 when it holds no longer.")
]
IdempotencyKey = Annotated[
    str | None,
    Header(min_length=1, max_length=255, description="The same key starts one flow, however often it is sent."),
]
Statuses = Annotated[
    list[str] | None, Query(alias="status", description="In one of these states: repeated, or with commas.")
]
Search = Annotated[str | None, Query(max_length=1000, description="With this text in id, name or small inputs.")]
Since = Annotated[
    str | None, Query(max_length=100, description="Made then or later: a time in ISO 8601, or an age such as `24h`.")
]


def names_of(given: list[str] | None) -> list[str]:
    """What a parameter names that may be repeated, or have commas."""
    return [name.strip() for each in given or () for name in each.split(",") if name.strip()]


def statuses_of(given: list[str] | None, *others: str) -> list[FlowStatus]:
    """The states that a question names.

    Args:
        given: What it says.
        others: What besides states it may say, which is left out here.

    Raises:
        ProblemError: For what is none.
    """
    names, known = names_of(given), {*(status.value for status in FlowStatus), *others}
    for name in names:
        if name not in known:
            raise ProblemError(422, "request-invalid", f"status is one of {', '.join(sorted(known))}, not {name!r}")
    return [FlowStatus(name) for name in dict.fromkeys(names) if name not in others]


def since_of(given: str | None, now: datetime) -> float | None:
    """The time that a question names, seconds since the epoch.

    Raises:
        ProblemError: For what is none.
    """
    if given is None:
        return None
    age = _AGE.fullmatch(given)
    try:
        if age is not None:
            return (now - timedelta(seconds=float(age[1]) * _AGES[age[2]])).timestamp()
        at = datetime.fromisoformat(given)
        return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise ProblemError(
            422, "request-invalid", f"since is a time such as 2026-01-31T12:00Z, or an age such as 24h, not {given!r}"
        ) from None
