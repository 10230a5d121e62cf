"""One SQLite file: connections of this process, and writes that share commits."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Generic, TypeVar, cast
from weakref import WeakSet

from graflow.exceptions import GraflowError, StoreError, StoreUnavailableError
from graflow.state.sqlite.schema import migrate
from graflow.state.sqlite.session import Session

_T = TypeVar("_T")
_FORK_PATIENCE: Final = 10.0  # seconds
_LOOK_AGAIN: Final = 0.05  # seconds after which a writer looks whether its turn has come, should nobody have told it
_FAILURES: Final = (sqlite3.Error, ValueError, TypeError, OverflowError)
"""What a write may end with that is no error of ours: SQLite's own, and values that it cannot hold."""

_REFUSALS: Final = (sqlite3.DatabaseError, sqlite3.InterfaceError, UnicodeEncodeError)

_PAUSE: Final = 0.005  # seconds
_PRAGMAS: Final = ("page_size = 2048", "wal_autocheckpoint = 4000")
"""A commit writes each page that it touched, and a step touches little of each; a checkpoint waits for the disk."""

_WRITABLE: Final = (
    ". Whoever uses it has to be able to write the file and its folder, where SQLite keeps two more files"
)
_GITIGNORE: Final = "# What graflow keeps here concerns this machine alone.\n*\n"


class _Write(Generic[_T]):
    """One thread's piece of work for the next commit."""

    __slots__ = ("answer", "error", "is_done", "turn", "work")

    def __init__(self, work: Callable[[Session], _T]) -> None:
        self.work = work
        self.is_done = False
        self.turn = threading.Lock()  # let go when there is something to look at
        self.turn.acquire()
        self.answer: _T | None = None
        self.error: BaseException | None = None

    def run(self, session: Session) -> None:
        """Do it. An error of ours is its answer: it was raised before anything was written, or on purpose after."""
        self.answer = self.error = None
        try:
            self.answer = self.work(session)
        except GraflowError as error:
            self.error = error

    def finish(self) -> None:
        self.is_done = True
        self.wake()

    def wake(self) -> None:
        with contextlib.suppress(RuntimeError):  # it is awake already
            self.turn.release()

    def result(self) -> _T:
        if self.error is not None:
            raise self.error
        return cast("_T", self.answer)


class Database:
    """A file, opened at its first use and again after a fork.

    A thread that writes commits itself all that waits, unless another one does so already; then that, or the next one,
    does it for this one. So a thread alone pays for no hand-over, and many that come at once share commits.

    Args:
        path: Of the file; it and its folder are made when missing.
        synchronous: `"NORMAL"` or `"FULL"`.
        timeout: Seconds to wait for another process that writes.
    """

    def __init__(self, path: Path, *, synchronous: str, timeout: float) -> None:
        self.path = path
        self._synchronous = synchronous
        self._timeout = timeout
        self._waiting: deque[_Write[Any]] = deque()
        self._writer: Session | None = None
        self._reader: sqlite3.Connection | None = None
        self._open: list[sqlite3.Connection] = []
        self._file: tuple[int, int] | None = None  # which one was opened, so that another in its place is noticed
        weakref.finalize(self, _close_all, self._open)
        self._begin()
        _databases.add(self)

    def _begin(self) -> None:
        self._write_lock = threading.Lock()
        self._read_lock = threading.Lock()
        self._waiting.clear()

    def write(self, work: Callable[[Session], _T]) -> _T:
        """Do a piece of work in a transaction; it is on disk, with others' pieces, when this returns.

        Raises:
            StoreUnavailableError: SQLite did not do it; nothing was changed.
        """
        if self._write_lock.acquire(blocking=False):
            try:
                if not self._waiting:
                    return self._write_alone(work)
            finally:
                self._write_lock.release()
                self._wake_next()
        mine = _Write(work)
        self._waiting.append(mine)
        try:
            while not mine.is_done:
                if not self._write_lock.acquire(blocking=False):
                    mine.turn.acquire(timeout=_LOOK_AGAIN)
                    continue
                try:
                    self._commit_waiting()
                finally:
                    self._write_lock.release()
                self._wake_next()
        except BaseException:  # such as Ctrl-C: whoever is not told that it was written must not find it later
            with contextlib.suppress(ValueError):
                self._waiting.remove(mine)
            self._wake_next()
            raise
        return mine.result()

    def read(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Do a piece of work that sees one state of everything.

        Raises:
            StoreUnavailableError: SQLite did not do it.
        """
        with self._read_lock:
            try:
                self._require_file()
                if self._reader is None:
                    self._reader = self._connect()
                self._reader.execute("BEGIN")
                try:
                    return work(self._reader)
                finally:
                    self._reader.rollback()
            except _REFUSALS as error:
                raise self._explained(error) from error

    def close(self) -> None:
        with self._write_lock, self._read_lock:
            self._close()
            self._file = None

    # -- commits -------------------------------------------------------------------------------------------------------

    def _wake_next(self) -> None:
        if self._waiting:
            with contextlib.suppress(IndexError):
                self._waiting[0].wake()

    def _write_alone(self, work: Callable[[Session], _T]) -> _T:
        """Commit a piece of work that nobody else's waits with, which is what a flow alone does at each step."""
        session: Session | None = None
        refused: GraflowError | None = None
        try:
            session = self._begun()
            try:
                answer = work(session)
            except GraflowError as error:  # as in `_Write.run`
                refused = error
            session.connection.execute("COMMIT")
        except BaseException as error:
            if session is not None:
                session.roll_back()
            if isinstance(error, _REFUSALS):
                raise self._explained(error) from error
            raise
        if refused is not None:
            raise refused
        return answer

    def _begun(self) -> Session:
        """The connection that writes, in a transaction."""
        self._require_file()
        if self._writer is None:
            self._writer = Session(self._connect())
        session = self._writer
        session.begin()
        return session

    def _commit_waiting(self) -> None:
        writes = [self._waiting.popleft() for _ in range(len(self._waiting))]
        try:
            if len(writes) > 1:
                with contextlib.suppress(*_FAILURES):
                    self._commit(writes)
                    return
            for write in writes:  # alone, so that what fails in one does not fail the others
                self._commit_alone(write)
        finally:
            # Something like Ctrl-C broke in: the others' turns are still to come.
            self._waiting.extendleft(write for write in reversed(writes) if not write.is_done)

    def _commit_alone(self, write: _Write[Any]) -> None:
        try:
            self._commit([write])
        except (*_FAILURES, StoreError) as error:
            write.error = error
            if isinstance(error, _REFUSALS):
                write.error = self._explained(error)
                write.error.__cause__ = error
            write.finish()

    def _commit(self, writes: list[_Write[Any]]) -> None:
        session = self._begun()
        try:
            for write in writes:
                write.run(session)
            session.connection.execute("COMMIT")
        except BaseException:
            session.roll_back()
            raise
        for write in writes:
            write.finish()

    # -- connections ---------------------------------------------------------------------------------------------------

    def _connect(self) -> sqlite3.Connection:
        self._make_file()
        connection = sqlite3.connect(
            self.path, timeout=self._timeout, isolation_level=None, check_same_thread=False, cached_statements=512
        )
        with contextlib.ExitStack() as undo:
            undo.callback(connection.close)
            for pragma in _PRAGMAS:
                connection.execute(f"PRAGMA {pragma}")
            connection.execute(f"PRAGMA synchronous = {self._synchronous}")
            self._require_log(connection)
            migrate(connection, str(self.path))
            undo.pop_all()
        self._file = _file_at(self.path)
        self._open.append(connection)
        return connection

    def _require_log(self, connection: sqlite3.Connection) -> None:
        end = time.monotonic() + self._timeout
        while True:
            try:
                (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
                break
            except sqlite3.OperationalError as error:
                # Of several that open a new file at once one makes the log; SQLite does not let the others wait for it.
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                    raise
                time.sleep(_PAUSE)
        if mode != "wal":
            raise StoreError(f"{self.path} lies where SQLite cannot keep a write-ahead log; name a local file")

    def _require_file(self) -> None:
        """Notice that the file is no longer the one that was opened: what is written to that is lost."""
        if self._file is not None and _file_at(self.path) != self._file:
            raise StoreUnavailableError(
                f"The store of flows at {self.path} was removed or replaced while it was in use: bring it back, or "
                "start the program again"
            )

    def _make_file(self) -> None:
        """Make it before SQLite would: nobody else may read what flows are given."""
        if self.path.exists():
            return
        folder = self.path.parent
        try:
            if not folder.exists():
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                if folder.name == ".graflow":
                    (folder / ".gitignore").write_text(_GITIGNORE, encoding="utf-8")
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
        except OSError as error:
            raise StoreError(f"The store of flows cannot be made at {self.path}: {error}") from error

    def _close(self) -> None:
        _close_all(self._open)
        self._reader = self._writer = None

    def _explained(self, error: Exception) -> StoreError:
        """An error of SQLite as one of a store."""
        if isinstance(error, sqlite3.OperationalError):
            may_not = getattr(error, "sqlite_errorcode", 0) & 0xFF in {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY}
            remedy = _WRITABLE if may_not else ""
            return StoreUnavailableError(f"The store of flows at {self.path} does not answer: {error}{remedy}")
        return StoreError(f"The store of flows at {self.path} refuses: {error}")

    # -- forks ---------------------------------------------------------------------------------------------------------

    def before_fork(self) -> bool:
        """Close the file, or give up when a writer does not let go of it."""
        if not self._write_lock.acquire(timeout=_FORK_PATIENCE):
            return False
        if not self._read_lock.acquire(timeout=_FORK_PATIENCE):
            self._write_lock.release()
            return False
        self._close()
        return True

    def after_fork(self, *, in_child: bool) -> None:
        """Go on; in a child with nothing of its parent's."""
        if in_child:
            self._begin()
        else:
            self._read_lock.release()
            self._write_lock.release()


def _file_at(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - at every write, and half as dear as that of a Path
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _close_all(connections: list[sqlite3.Connection]) -> None:
    while connections:
        connections.pop().close()


_databases: WeakSet[Database] = WeakSet()
_held: list[Database] = []


def _before_fork() -> None:
    # SQLite counts its locks in memory, so that a child with a copy of an open file would believe to hold its parent's.
    _held[:] = [database for database in list(_databases) if database.before_fork()]


def _after_fork(*, in_child: bool) -> None:
    for database in _held:
        database.after_fork(in_child=in_child)
    _held.clear()


os.register_at_fork(
    before=_before_fork,
    after_in_parent=lambda: _after_fork(in_child=False),
    after_in_child=lambda: _after_fork(in_child=True),
)
