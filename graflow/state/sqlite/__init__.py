"""Flows in one SQLite file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from sqlite3 import Connection

from graflow.exceptions import StoreConfigError
from graflow.state.changes import (
    Appended,
    Change,
    Claimed,
    Created,
    Entry,
    FlowChanges,
    FlowRecord,
    Journaled,
    Json,
    NewFlow,
    Request,
    StepRow,
)
from graflow.state.groups.members import MemberFacts
from graflow.state.models import FlowPage, FlowState, MemberPage
from graflow.state.reading import behind_flow, status_names
from graflow.state.sqlite import reading, writing
from graflow.state.sqlite.cache import SqliteCache
from graflow.state.sqlite.database import Database
from graflow.state.sqlite.hints import PipeHints
from graflow.state.sqlite.questions import SqliteQuestions
from graflow.state.sqlite.session import Session
from graflow.state.statuses import FlowStatus, StepStatus
from graflow.state.store import StateStore
from graflow.state.transitions import first_fields, not_found
from graflow.state.written import Written

__all__ = ["SqliteStore"]

_DELETED_AT_ONCE = 100


class SqliteStore(SqliteQuestions, StateStore):
    """Keeps flows in one file, for any number of threads and processes of one machine.

    What is written survives the end of the process, also by kill -9. The last commits may be missing after the machine
    lost power, unless `synchronous` is `"FULL"`, which costs about five times as much per write.

    Args:
        path: Of the file; it (mode 0600) and its folder (0700) are made when they are missing.
        synchronous: `"NORMAL"` or `"FULL"`.
        timeout: Seconds to wait while another process writes.

    Raises:
        StoreConfigError: The path is that of a folder.
    """

    def __init__(self, path: str | Path, *, synchronous: str = "NORMAL", timeout: float = 30.0) -> None:
        super().__init__()
        self.path = Path(path).expanduser().absolute()
        if self.path.is_dir():
            raise StoreConfigError(f"The store of flows is a file, and {self.path} is a folder; name a file in it")
        self.url = f"sqlite:///{self.path}"
        self._database = Database(self.path, synchronous=synchronous, timeout=timeout)
        self.cache: SqliteCache = SqliteCache(self._database)
        self.hints: PipeHints = PipeHints(self.path.with_name(f"{self.path.name}-waiting"))

    def __repr__(self) -> str:
        return f"SqliteStore({str(self.path)!r})"

    def initialize(self) -> None:
        self._database.write(lambda _: None)

    def close(self) -> None:
        self.hints.close()
        self._database.close()

    def size(self) -> int:
        files = (self.path, Path(f"{self.path}-wal"))
        return sum(each.stat().st_size for each in files if each.exists())

    # -- writing -------------------------------------------------------------------------------------------------------

    def create(self, flow: NewFlow) -> Created:
        written = Written.of(flow.entries, flow.steps, flow.members, {**first_fields(flow), "inputs": flow.inputs})

        def work(session: Session) -> Created:
            is_new = writing.create(session, flow, written)
            return Created(_present(session, flow.flow_id), is_new)

        return self._database.write(work)

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
        written = Written.of(entries, steps, (), flow)

        def work(session: Session) -> Claimed:
            if limit is not None and writing.is_full(session, flow_id, limit):
                return Claimed(None, _present(session, flow_id), is_full=True)
            epoch = writing.claim(session, flow_id, owner, seen, at, written)
            return Claimed(epoch, _present(session, flow_id))

        return self._database.write(work)

    def append(self, change: Change) -> Appended:
        written = Written.of(change.entries, change.steps, change.members, change.flow, change.blocks)
        return self._database.write(partial(writing.append, change=change, written=written))

    def beat(self, flow_id: str, epoch: int) -> tuple[Request, ...]:
        return self._database.write(lambda session: writing.beat(session, flow_id, epoch))

    def request(self, flow_id: str, request: Request) -> FlowRecord:
        def work(session: Session) -> FlowRecord:
            writing.request(session, flow_id, request)
            return _present(session, flow_id)

        return self._database.write(work)

    def delete(self, flow_id: str) -> bool:
        return self._database.write(lambda session: writing.delete(session, flow_id))

    def cleanup(self, *, older_than: float, keep: int, at: float) -> int:
        self.cache.drop_expired(at)
        removed = 0
        while True:
            # A part at a time: flows that run must not wait for all of it.
            gone = self._database.write(partial(_delete_ended, before=at - older_than, keep=keep))
            removed += gone
            if gone < _DELETED_AT_ONCE:
                return removed

    # -- reading -------------------------------------------------------------------------------------------------------

    def get_record(self, flow_id: str) -> FlowRecord | None:
        def work(connection: Connection) -> FlowRecord | None:
            flow = reading.FlowReader.find(connection, flow_id)
            return flow.record() if flow is not None else None

        return self._database.read(work)

    def get_flow_state(self, flow_id: str) -> FlowState | None:
        def work(connection: Connection) -> FlowState | None:
            flow = reading.FlowReader.find(connection, flow_id)
            return flow.state() if flow is not None else None

        return self._database.read(work)

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
        work = partial(
            reading.flows,
            flow_name=flow_name,
            statuses=status_names(status),
            search=(search or "").casefold(),
            since=since,
            behind=behind_flow(cursor),
            limit=max(1, limit),
        )
        return self._database.read(work)

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
        return self._database.read(
            lambda connection: reading.members(
                connection, flow_id, step, visit=visit, status=status, cursor=cursor, limit=limit
            )
        )

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
        return self._database.read(
            lambda connection: reading.facts_of_members(
                connection, flow_id, step, visit=visit, first=first, end=end, status=status
            )
        )

    def events(self, flow_id: str, after: int = 0, limit: int | None = None) -> list[Journaled]:
        return self._database.read(lambda connection: reading.events(connection, flow_id, after, limit))

    def changed_flows(self, after: int | None = None, limit: int = 500) -> FlowChanges:
        return self._database.read(lambda connection: reading.changed_flows(connection, after, limit))

    def open_flows(self, *, at: float) -> list[FlowRecord]:
        return self._database.read(lambda connection: reading.open_flows(connection, at))


def _present(session: Session, flow_id: str) -> FlowRecord:
    flow = reading.FlowReader.find(session.connection, flow_id)
    if flow is None:
        raise not_found(flow_id)
    return flow.record()


def _delete_ended(session: Session, *, before: float, keep: int) -> int:
    gone = reading.ended_flows(session.connection, before, keep, _DELETED_AT_ONCE)
    for flow_id in gone:
        writing.delete(session, flow_id)
    return len(gone)
