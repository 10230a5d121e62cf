"""Flows in a Redis, for processes of any machine that reaches it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

from graflow.exceptions import StaleEpochError, StoreError, VersionConflictError
from graflow.redis.config import normalize_redis_config
from graflow.state.changes import (
    Appended,
    Change,
    Claimed,
    Created,
    Entry,
    FlowChange,
    FlowChanges,
    FlowRecord,
    Journaled,
    Json,
    NewFlow,
    Request,
    StepRow,
)
from graflow.state.encoding import Stored, to_text
from graflow.state.groups.blocks import KeptMembers
from graflow.state.groups.members import MemberFacts, MemberQuery, member_facts, member_page
from graflow.state.groups.strips import Strip
from graflow.state.models import FlowPage, FlowState, MemberPage
from graflow.state.reading import UNSHOWN, behind_flow, flow_cursor, searched_text, status_names
from graflow.state.redis.cache import RedisCache
from graflow.state.redis.hints import RedisHints
from graflow.state.redis.keys import Keys
from graflow.state.redis.questions import RedisQuestions
from graflow.state.redis.rows import COLUMNS, RowReader, journaled, kept_members, pairs, strip_of, written_arguments
from graflow.state.redis.server import DEFAULT_PREFIX, Server, shown_address
from graflow.state.requests import requests_from, requests_text
from graflow.state.statuses import MOVES, FlowStatus, Move, StepStatus
from graflow.state.store import StateStore
from graflow.state.transitions import (
    ASKED,
    OPEN,
    answers_requests,
    fields_of,
    first_fields,
    not_found,
    refusal,
    refuse_delete,
    refuse_request,
    refused_line,
    request_line,
)
from graflow.state.written import Written

__all__ = ["RedisStore"]

RETENTION: Final = 30 * 86400.0  # seconds
_GRACE: Final = 86400.0  # seconds that what has ended outlives its retention, for `cleanup` to come first
_AT_ONCE: Final = 100
_LOOKED_AT: Final = 2000  # flows that one script looks at: the server does nothing else meanwhile


class RedisStore(RedisQuestions, StateStore):
    """Keeps flows in one Redis, which must not evict and should persist.

    A flow that has ended expires `retention` seconds after its end, and a day of grace, unless `cleanup` came before.
    A call whose answer was lost is made again, and done once.

    Args:
        config: Which server, as `graflow.redis.config` has it: `{"url": …}`, `{"host": …}`.
        key_prefix: What all keys begin with, `{<key_prefix>:flows}`.
        retention: Seconds that a flow is kept after its end.
    """

    is_shared = True

    def __init__(
        self, config: Mapping[str, Any], *, key_prefix: str = DEFAULT_PREFIX, retention: float = RETENTION
    ) -> None:
        settings = normalize_redis_config(config)
        self.url = shown_address(settings, key_prefix)
        self.retention = retention
        self._keys = Keys(f"{{{key_prefix}:flows}}")
        self._server = Server(settings, self._keys)
        self.cache: RedisCache = RedisCache(self._server, self._keys)
        self.hints: RedisHints = RedisHints(self._server, self._keys.hints)
        self.news: RedisHints = RedisHints(self._server, self._keys.news)
        self._lifetime = str(int((retention + _GRACE) * 1000))

    def __repr__(self) -> str:
        return f"RedisStore({self.url!r})"

    @property
    def is_persistent(self) -> bool:  # type: ignore[override]
        return self._server.is_persistent()

    def initialize(self) -> None:
        self._server.check()

    def close(self) -> None:
        self.hints.close()
        self.news.close()
        self._server.close()

    def size(self) -> int | None:
        return self._server.size()

    # -- writing -------------------------------------------------------------------------------------------------------

    def create(self, flow: NewFlow) -> Created:
        fields = {**first_fields(flow), "inputs": flow.inputs}
        written = Written.of(flow.entries, flow.steps, flow.members, fields)
        is_new, row = self._run(
            "create",
            flow.flow_id,
            self._server.token(),
            flow.flow_name,
            FlowStatus(flow.status).value,
            repr(float(flow.at)),
            flow.input_digest,
            _searched(flow),
            self._lifetime,
            *written_arguments(written, written.fields),
        )
        return Created(self._row(flow.flow_id, *row).record(), is_new=is_new == 1)

    def claim(
        self,
        flow_id: str,
        owner: str,
        *,
        seen: FlowRecord,
        at: float,
        entries: Sequence[Entry] = (),
        steps: Sequence[StepRow] = (),
        flow: Mapping[str, Json] | None = None,
        limit: int | None = None,
    ) -> Claimed:
        first = {} if seen.fields.get("started_at") is not None else {"started_at": at}
        written = Written.of(entries, steps, (), {**first, "wake_at": None, **(flow or {})})
        what, *found = self._run(
            "claim",
            flow_id,
            self._server.token(),
            owner,
            seen.status.value,
            seen.epoch,
            seen.beats,
            repr(float(at)),
            _listed(MOVES[Move.CLAIM].sources),
            -1 if limit is None else limit,
            self._lifetime,
            *written_arguments(written, written.fields),
        )
        if what == b"missing":
            raise not_found(flow_id)
        if what == b"state":
            raise refusal(flow_id, Move.CLAIM, FlowStatus(found[0].decode()))
        epoch, row = found
        record = self._row(flow_id, *row).record()
        return Claimed(int(epoch) if what == b"ok" else None, record, is_full=what == b"full")

    def append(self, change: Change) -> Appended:
        rule = MOVES[change.move]
        written = Written.of(change.entries, change.steps, change.members, change.flow, change.blocks)
        # A move without a state of its own is made by an owner, whose flow goes on.
        after = rule.target or FlowStatus.RUNNING
        if not change.token:
            change.token = self._server.token()
        what, *found = self._run(
            "append",
            change.flow_id,
            change.token,
            repr(float(change.at)),
            change.guard,
            int(rule.by_owner),
            _listed(rule.sources),
            rule.target.value if rule.target else "",
            int(rule.raises_epoch),
            int(answers_requests(change.move, after)),
            self._lifetime,
            to_text(refused_line(change).data) if rule.by_owner else "",
            *written_arguments(written, fields_of(change, after, written.fields), change.cut),
        )
        if what == b"ok":
            seq, version, epoch, requests = found
            return Appended(int(seq), int(version), int(epoch), requests_from(requests))
        if what == b"stale":
            raise StaleEpochError(change.flow_id, change.guard, int(found[0]))
        if what == b"version":
            raise VersionConflictError(change.flow_id, change.guard, int(found[0]))
        if what == b"state":
            raise refusal(change.flow_id, change.move, FlowStatus(found[0].decode()))
        raise not_found(change.flow_id)

    def beat(self, flow_id: str, epoch: int) -> tuple[Request, ...]:
        what, *found = self._run("beat", flow_id, epoch)
        if what == b"ok":
            return requests_from(found[0])
        if what == b"stale":
            raise StaleEpochError(flow_id, epoch, int(found[0]))
        raise not_found(flow_id)

    def request(self, flow_id: str, request: Request) -> FlowRecord:
        what, *found = self._run(
            "request",
            flow_id,
            request.kind.value,
            requests_text([request])[1:-1],
            repr(float(request.at)),
            _listed(ASKED[request.kind]),
            to_text(request_line(request).data),
        )
        if what == b"missing":
            raise not_found(flow_id)
        if what == b"state":
            refuse_request(flow_id, request, FlowStatus(found[0].decode()))
        return self._row(flow_id, *found[0]).record()

    def delete(self, flow_id: str) -> bool:
        what, found = self._run("delete", flow_id)
        if what == b"state":
            refuse_delete(flow_id, FlowStatus(found.decode()))
        return bool(found)

    def cleanup(self, *, older_than: float, keep: int, at: float) -> int:
        self.cache.drop_expired(at)
        removed = 0
        while True:
            gone: list[bytes] = self._run("ended", "", repr(at - older_than), keep, _AT_ONCE)
            for flow_id in gone:
                what, found = self._run("delete", flow_id.decode())
                removed += what == b"ok" and found == 1
            if len(gone) < _AT_ONCE:
                return removed

    # -- reading -------------------------------------------------------------------------------------------------------

    def get_record(self, flow_id: str) -> FlowRecord | None:
        row = self._run("record", flow_id)
        return self._row(flow_id, *row).record() if row else None

    def get_flow_state(self, flow_id: str) -> FlowState | None:
        found = self._run("state", flow_id, *UNSHOWN)
        if not found:
            return None
        row, values, steps = found
        return self._row(flow_id, row, values).state(pairs(steps))

    def list_flows(
        self,
        *,
        flow_name: str | None = None,
        status: Sequence[FlowStatus] = (),
        search: str | None = None,
        since: float | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> FlowPage:
        limit = max(1, limit)
        rows = self._listed(
            behind_flow(cursor),
            limit + 1,
            flow_name=flow_name,
            statuses=status_names(status),
            search=(search or "").casefold(),
            since=since,
        )
        page = rows[:limit]
        last = page[-1] if len(rows) > limit else None
        return FlowPage(
            [row.listed() for row in page], flow_cursor(last.created_at, last.flow_id) if last is not None else None
        )

    def list_members(
        self,
        flow_id: str,
        step: str,
        *,
        visit: int | None = None,
        status: Sequence[StepStatus] = (),
        cursor: str | None = None,
        limit: int = 100,
    ) -> MemberPage:
        group = self._group(flow_id, step, visit)
        if group is None:
            return MemberPage([])
        which, size, strip, kept = group
        return member_page(step, which, MemberQuery.of(cursor, size, status, strip), limit, kept)

    def member_facts(
        self,
        flow_id: str,
        step: str,
        *,
        visit: int,
        first: int = 0,
        end: int | None = None,
        status: Sequence[StepStatus] = (),
    ) -> list[MemberFacts]:
        group = self._group(flow_id, step, visit)
        if group is None:
            return []
        _, size, strip, kept = group
        return member_facts(MemberQuery.between(first, size, status, strip), kept, end)

    def _group(self, flow_id: str, step: str, visit: int | None) -> tuple[int, int, Strip, KeptMembers] | None:
        """Visit, size, strip and members of a visit of a group, the last one when None."""
        found = self._run("members", flow_id, step, "" if visit is None else visit)
        if found is None:
            raise not_found(flow_id)
        if not found:
            return None
        which, row, length, top, spans, strip = found
        size = int(length)
        texts_of = partial(self._server.call, "HMGET", self._keys.of_flow(flow_id)[3])
        kept = kept_members(texts_of, row.decode(), size or int(top), spans.decode(), self._blob)
        return int(which), size, strip_of(pairs(strip), size), kept

    def events(self, flow_id: str, after: int = 0, limit: int | None = None) -> list[Journaled]:
        if limit is not None and limit <= 0:
            return []
        journal = self._keys.of_flow(flow_id)[4]
        lines = self._server.run("events", [journal], after + 1, "" if limit is None else limit)
        return [journaled(number, fields, self._blob) for number, fields in lines]

    def changed_flows(self, after: int | None = None, limit: int = 500) -> FlowChanges:
        behind = "" if after is None else after
        last, found = self._server.run("changed", self._keys.changes, self._keys.prefix, behind, limit)
        return FlowChanges(
            int(last),
            tuple(
                FlowChange(
                    int(number), flow_id.decode(), name.decode(), FlowStatus(status.decode()), int(version), int(seq)
                )
                for number, flow_id, name, status, version, seq in found
            ),
        )

    def open_flows(self, *, at: float) -> list[FlowRecord]:
        named = [each.value for each in OPEN]
        # Most looks of a process find nothing, and that costs one command, however many flows have ended.
        if not self._server.call("EXISTS", *(self._keys.index(None, [name]) for name in named)):
            return []
        # One that goes on meanwhile may be met in two states, of which it is in the later one.
        rows = {row.flow_id: row for name in named for row in self._listed(None, 1 << 40, statuses=[name])}
        records = [row.record() for row in sorted(rows.values(), key=lambda row: (row.created_at, row.flow_id))]
        return [
            record
            for record in records
            if record.status is not FlowStatus.QUEUED or (record.fields.get("wake_at") or 0.0) <= at
        ]

    # -- calls ---------------------------------------------------------------------------------------------------------

    def _run(self, name: str, flow_id: str, *arguments: Stored | float) -> Any:
        return self._server.run(name, self._keys.for_script(flow_id), self._keys.prefix, flow_id, *arguments)

    def _row(self, flow_id: str, row: Sequence[bytes], values: Sequence[bytes] = ()) -> RowReader:
        return RowReader(flow_id, pairs(row), pairs(values), self._blob)

    def _blob(self, digest: str) -> bytes:
        content = self._server.call("GET", self._keys.blob(digest))
        if content is None:
            raise StoreError(f"The store names the content {digest} and does not have it")
        found: bytes = content
        return found

    def _listed(
        self,
        behind: tuple[float, str] | None,
        limit: int,
        *,
        flow_name: str | None = None,
        statuses: Sequence[str] = (),
        search: str = "",
        since: float | None = None,
    ) -> list[RowReader]:
        """Flows of an index from its newest on; the script looks at a part of it at a time."""
        index = self._keys.index(flow_name, statuses)
        lower = "-inf" if since is None else repr(float(since))
        created, flow_id = ("+inf", "") if behind is None else (repr(behind[0]), behind[1])
        rows: list[RowReader] = []
        while True:
            is_end, last_created, last_id, found = self._server.run(
                "flows",
                [index],
                *(self._keys.prefix, created, flow_id, lower, flow_name or "", _listed(statuses), search),
                *(limit - len(rows), _LOOKED_AT, *COLUMNS),
            )
            for each, values in zip(found[::2], found[1::2], strict=True):
                row = dict(zip(COLUMNS, values, strict=True))
                rows.append(RowReader(each.decode(), row, {}, self._blob))
            if is_end == b"1" or len(rows) >= limit:
                return rows
            created, flow_id = last_created.decode(), last_id.decode()


def _listed(states: Sequence[str] | frozenset[FlowStatus]) -> str:
    """States as scripts look for one of them: each between blanks."""
    return f" {' '.join(str(state) for state in states)} " if states else ""


def _searched(flow: NewFlow) -> str:
    """What is kept of the text that a search looks into, beside id and name, which the server puts before it."""
    text = searched_text(flow.flow_id, flow.flow_name, flow.inputs)
    if (flow.flow_id + flow.flow_name).isascii():
        text = text.removeprefix(f"{flow.flow_id}\n{flow.flow_name}\n".lower())
    return "" if text == "{}" else text
