"""The outcomes of all members of a block on their way back, as one page: times and values in columns.

What does not go into the columns, such as a failure, is a whole outcome of its own beside them. Of each member a page
gives the very outcome that it would have alone, times rounded to microseconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Final

from graflow.codec import from_jsonable
from graflow.core.branches.given import Given
from graflow.encoding.shapes import Shape, check_parts, check_shapes, is_object, is_seconds, is_text, object_of, row_of
from graflow.exceptions import PayloadError
from graflow.seals import content_of
from graflow.values.plain import SCALARS, TAG
from graflow_celery.record import (
    BlockReport,
    GrantedBlock,
    GroupRecord,
    MemberReport,
    MemberState,
    RecordedBlock,
    RecordedOutcome,
)
from graflow_celery.wire.outcomes import result_pickles, sealed
from graflow_celery.wire.payload import INLINE_LIMIT, VERSION, as_text, parse, unpack
from graflow_celery.wire.seal import RunSeal

_PLAIN: Final = b"J"
_PAGE: Final = "page"
_OTHERS: Final = b'"others":{'
_DIGITS: Final = 10
_NUMBERS: Final = frozenset({int, float})
_MOST: Final = 2e17  # microseconds


def _are_times(column: list[Any]) -> bool:
    """Whether they are numbers of microseconds, seen without a step in Python for each."""
    return _NUMBERS.issuperset(map(type, column)) and max(column) < _MOST and min(column) > -_MOST


_SHAPES: Final[Mapping[str, Shape]] = {
    "base": is_seconds,
    "durations": _are_times,
    "ended": _are_times,
    "others": object_of(row_of(is_text, is_object)),
}
_TAGGED: Final = f'"{TAG}"'.encode()


class PageWriter:
    """Collects the outcomes of a block in the order of its members; not for use from two threads at once."""

    def __init__(self, block: GrantedBlock, seal: RunSeal) -> None:
        self.block = block
        self._seal = seal
        self.is_whole = True
        """Whether all of it can still be reported as one."""
        self._taken = 0
        self._values: list[Any] = []
        self._texts: dict[int, str] = {}
        self._durations: list[float] = []
        self._ended: list[float] = []
        self._others: dict[int, MemberReport | None] = {}

    def __len__(self) -> int:
        return len(self._ended)

    def add_value(self, value: str | int | bool | None, duration: float, ended: float) -> None:
        """Keep the value of the next member, which has succeeded: one that cannot change and that JSON can hold."""
        self._durations.append(duration)
        self._values.append(value)
        self._ended.append(ended)

    def add_text(self, text: str, duration: float, ended: float) -> None:
        """Keep the value of the next member, which has succeeded, as typed JSON that is written already."""
        self._texts[len(self._ended)] = text
        self.add_value(None, duration, ended)

    def add_report(self, report: MemberReport | None) -> None:
        """Keep a whole outcome of the next member; None for one that has none here, which breaks the page."""
        self._others[len(self._ended)] = report
        self.add_value(None, 0.0, 0.0)
        if report is None or report.blobs or content_of(report.payload)[:1] != _PLAIN:
            self.is_whole = False

    def reports(self) -> list[MemberReport]:
        """Outcomes that were not taken yet, one by one; the block is not reported as one after that."""
        self.is_whole = False
        made = []
        for at in range(self._taken, len(self._ended)):
            if at not in self._others:
                made.append(self._report(at))
            elif (report := self._others.pop(at)) is not None:
                made.append(report)
        self._taken = len(self._ended)
        return made

    def _report(self, at: int) -> MemberReport:
        index, state = self.block.members[at], MemberState.SUCCEEDED
        value = self._texts.get(at) or as_text(self._values[at])
        packed = _PLAIN + _body(round(self._durations[at], 6), round(self._ended[at], 6), value)
        return MemberReport(index, self.block.attempt, state, sealed(self._seal, index, state, packed))

    def page(self) -> BlockReport | None:
        """The block as one, unless a member is missing or the page is too long."""
        if not self.is_whole or len(self) < len(self.block.members):
            return None
        reports = {at: report for at, report in self._others.items() if report is not None}
        content = self._content(reports)
        if len(content) > INLINE_LIMIT:
            return None
        failures = {r.index: r.state for r in reports.values() if r.state is not MemberState.SUCCEEDED}
        page = self._seal.seal(_PLAIN + content, _PAGE, *_place(self.block.members))
        return BlockReport(self.block.number, self.block.attempt, failures, page)

    def _content(self, reports: dict[int, MemberReport]) -> bytes:
        base = next((ended for ended in self._ended if ended), 0.0)
        durations = as_text([round(duration * 1e6) for duration in self._durations])
        ended = as_text([round((ended - base) * 1e6) if ended else 0 for ended in self._ended])
        parts = [f'"version":{VERSION},"base":{round(base, 6)!r},"durations":{durations},"ended":{ended}']
        if self._texts:
            texts = self._texts
            values = ",".join(texts.get(at) or as_text(value) for at, value in enumerate(self._values))
            parts.append(f'"values":[{values}]')
        else:
            parts.append(f'"values":{as_text(self._values)}')
        if reports:
            others = ",".join(
                f'"{at}":["{r.state.value}",{content_of(r.payload)[1:].decode()}]' for at, r in reports.items()
            )
            parts.append(f'"others":{{{others}}}')
        return f"{{{','.join(parts)}}}".encode()


def _place(members: range) -> tuple[str, str]:
    """Where in its run a page belongs: first member, number of members."""
    return str(members.start), str(len(members))


def _body(duration: float, ended: float, value: str) -> bytes:
    return f'{{"version":{VERSION},"duration":{duration!r},"timestamp":{ended!r},"value":{value}}}'.encode()


class Page:
    """The outcomes of a recorded block, made one by one when they are asked for.

    Raises:
        SignatureError: At the first look into it, when this process has keys and the page is not signed for its place.
        PayloadError: At the first look into it, when it cannot be read.
    """

    def __init__(self, block: RecordedBlock, seal: RunSeal) -> None:
        self.block = block
        self._seal = seal

    @property
    def members(self) -> Sequence[int]:
        """Members whose outcomes are here: all of the block, but for those that run again."""
        block = self.block
        return [index for index in block.members if index not in block.again] if block.again else block.members

    def holds(self, index: int) -> bool:
        """Whether the outcome of a member is here."""
        return index in self.block.members and index not in self.block.again

    @property
    def may_have_failures(self) -> bool:
        """Whether to look for members that did not succeed."""
        return self.block.state is not None or _OTHERS in self.block.page

    @property
    def failures(self) -> dict[int, MemberState]:
        """Members that did not succeed, by index."""
        block, first = self.block, self.block.members.start
        if block.state is not None:
            return dict.fromkeys(self.members, block.state)
        states = {first + int(at): MemberState(state) for at, (state, _) in self._others.items()}
        return {i: state for i, state in states.items() if state is not MemberState.SUCCEEDED and i not in block.again}

    @property
    def values(self) -> list[Any]:
        """Values by position in the block; None of members that did not succeed, in this round or before it."""
        if self.block.state is not None:
            return [None] * len(self.block.members)
        values: list[Any] = list(self._body["values"])
        for at, (_, body) in self._others.items():
            values[int(at)] = body.get("value")
        if _TAGGED in self.block.page:
            values = [self._value(at, value) for at, value in enumerate(values)]
        return values

    def row(self, ids: Sequence[str]) -> Given | None:
        """All of its members with their ids, where each has given a value and done nothing else; else None."""
        block = self.block
        if block.state is not None or block.again or self._others:
            return None
        body, members = self._body, block.members
        return Given(
            members.start,
            ids[members.start : members.stop],
            self.values,
            *(body["base"], body["durations"], body["ended"]),
        )

    def given(self) -> Iterator[tuple[int, Any, float, float]]:
        """Index, value, seconds and end of each member that has given a value and done nothing else."""
        block = self.block
        if block.state is not None:
            return
        body, others, is_tagged = self._body, self._others, _TAGGED in block.page
        columns = zip(block.members, body["values"], body["durations"], body["ended"], strict=True)
        for at, (index, value, duration, ended) in enumerate(columns):
            if (others and str(at) in others) or index in block.again:
                continue
            own = self._value(at, value) if is_tagged else value
            yield index, own, duration / 1e6, round(body["base"] + ended / 1e6, 6)

    def others(self) -> list[RecordedOutcome]:
        """The outcomes of all other members."""
        if self.block.state is not None:
            return self.outcomes()
        first = self.block.members.start
        return [self.outcome(first + int(at)) for at in self._others if self.holds(first + int(at))]

    @property
    def durations(self) -> list[float]:
        """Seconds that its members took, as far as one was told; never 0."""
        return [] if self.block.state is not None else [max(spent, 1) / 1e6 for spent in self._body["durations"]]

    def _value(self, at: int, value: Any) -> Any:
        if type(value) in SCALARS:
            return value
        return from_jsonable(value, pickles=result_pickles(self._seal, self.block.members[at]))

    def outcome(self, index: int) -> RecordedOutcome:
        """The outcome of one of the `members`, as if it had been reported alone."""
        block = self.block
        if block.state is not None:
            state, payload = block.state, block.page
        else:
            state, packed = self._packed(index)
            payload = sealed(self._seal, index, state, packed)
        return RecordedOutcome(index, state, block.attempts, block.owner, block.finished_at, False, payload)

    def outcomes(self) -> list[RecordedOutcome]:
        """The outcomes of all `members`, by index."""
        return [self.outcome(index) for index in self.members]

    def _packed(self, index: int) -> tuple[MemberState, bytes]:
        at, body = index - self.block.members.start, self._body
        if str(at) in self._others:
            state, other = self._others[str(at)]
            return MemberState(state), _PLAIN + as_text(other).encode()
        ended = round(body["base"] + body["ended"][at] / 1e6, 6)
        return MemberState.SUCCEEDED, _PLAIN + _body(body["durations"][at] / 1e6, ended, as_text(body["values"][at]))

    def close(self) -> None:
        """Let go of what was decoded; it is decoded again at the next look."""
        self.__dict__.pop("_body", None)

    @cached_property
    def _body(self) -> dict[str, Any]:
        members = self.block.members
        body = parse(unpack(self._seal.open(self.block.page, _PAGE, *_place(members))), "page")
        check_parts(body, "base", what="A page of outcomes")
        columns = [body.get(name) for name in ("durations", "ended", "values")]
        if any(not isinstance(column, list) or len(column) != len(members) for column in columns):
            raise PayloadError("A page of outcomes does not have its members")
        check_shapes(body, _SHAPES, "A page of outcomes")
        if not all(at.isdigit() and len(at) < _DIGITS and int(at) < len(members) for at in body.get("others", ())):
            raise PayloadError("A page of outcomes has more than its members")
        return body

    @property
    def _others(self) -> dict[str, Any]:
        found: dict[str, Any] = self._body.get("others", {})
        return found


def recorded_outcomes(
    record: GroupRecord, seal: RunSeal, start: int = 0, count: int | None = None
) -> list[RecordedOutcome]:
    """The recorded outcomes of `count` members from `start`, by index; open ones are absent, n is the continuation.

    Raises:
        GroupNotFoundError: no such run.
        SignatureError, PayloadError: as `Page`.
    """
    by_index = {outcome.index: outcome for outcome in record.outcomes(seal.run_id, start, count)}
    stop = None if count is None else start + count
    for block in record.blocks(seal.run_id, start, count):
        page = Page(block, seal)
        by_index.update((i, page.outcome(i)) for i in page.members if i >= start and (stop is None or i < stop))
    return [by_index[index] for index in sorted(by_index)]
