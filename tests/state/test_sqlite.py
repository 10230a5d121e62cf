"""The file: its format, others that write to it, and what it costs."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from graflow.exceptions import StoreError, StoreUnavailableError
from graflow.runtime import this_runtime
from graflow.state import SqliteStore, open_store
from graflow.state.changes import Change, Entry
from graflow.state.sqlite.schema import VERSION
from graflow.state.statuses import Move
from tests.state.support import AT, begin, new_flow, record_of, step_change
from tests.support import wait_until


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "flows.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    made = SqliteStore(path, timeout=0.1)
    yield made
    made.close()


def test_a_file_that_may_not_be_written_is_told_with_what_has_to_be(store: SqliteStore, path: Path) -> None:
    begin(store)
    store.close()
    path.with_name("flows.db-wal").mkdir()  # not even root can open it
    with pytest.raises(StoreUnavailableError, match="has to be able to write the file and its folder"):
        store.get_record("f")


def test_a_file_of_a_newer_format_is_refused(store: SqliteStore, path: Path) -> None:
    begin(store)
    store.close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    connection.close()
    with pytest.raises(StoreError, match="upgrade graflow"):
        store.initialize()


def test_a_file_of_something_else_is_left_alone(store: SqliteStore, path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE theirs (a)")
    connection.close()
    with pytest.raises(StoreError, match="something else"):
        store.create(new_flow())
    path.write_bytes(b"this is text, and long enough to be looked at as a database " * 100)
    with pytest.raises(StoreError, match="not a database"):
        store.create(new_flow())


def test_a_place_where_no_file_can_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be made"):
        SqliteStore(tmp_path / "file" / "flows.db").initialize()


def test_a_writer_that_does_not_let_go_is_waited_for_and_then_told(store: SqliteStore, path: Path) -> None:
    epoch = begin(store)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailableError, match="does not answer"):
        store.append(step_change(epoch, 1))
    assert record_of(store).epoch == epoch, "reads go on"
    other.execute("ROLLBACK")
    other.close()
    assert store.append(step_change(epoch, 1)).seq == 2


def test_what_another_program_has_written_is_seen_by_the_next_write(store: SqliteStore, path: Path) -> None:
    epoch = begin(store)
    store.append(step_change(epoch, 1))
    other = open_store(path)
    other.append(step_change(epoch, 2))
    assert store.append(step_change(epoch, 3)).seq == 6
    assert other.append(step_change(epoch, 4)).seq == 8
    state = store.get_flow_state("f1")
    assert state is not None
    assert state.counts == {"completed": 4, "running": 1}
    other.close()


def test_a_change_that_sqlite_cannot_hold_fails_alone(store: SqliteStore) -> None:
    epoch = begin(store)
    before = record_of(store)
    with pytest.raises((OverflowError, StoreError)):
        store.append(Change("f1", Move.STEP, epoch, AT + 2, entries=[Entry("a"), Entry("b", visit=1 << 70)]))
    assert record_of(store) == before
    assert store.events("f1") == []
    assert store.append(step_change(epoch, 1)).seq == 2


def test_writers_that_come_at_once_share_a_commit_and_fail_alone(store: SqliteStore) -> None:
    epochs = [begin(store, f"f{number}") for number in range(8)]
    statements: list[str] = []
    store._database.write(lambda session: session.connection.set_trace_callback(statements.append))
    refused: list[int] = []

    def write(number: int) -> None:
        entry = Entry("x", visit=1 << 70 if number == 3 else 1)
        try:
            store.append(Change(f"f{number}", Move.STEP, epochs[number], AT + 2, entries=[entry]))
        except OverflowError:
            refused.append(number)

    def together(numbers: list[int]) -> int:
        """Begin all while none can write; how many commits there were."""
        statements.clear()
        threads = [threading.Thread(target=write, args=(number,)) for number in numbers]
        with store._database._write_lock:
            for thread in threads:
                thread.start()
            wait_until(lambda: len(store._database._waiting) == len(numbers))
        for thread in threads:
            thread.join()
        return statements.count("COMMIT")

    assert together([0, 1, 2, 4, 5, 6, 7]) == 1
    assert together(list(range(8))) == 7, "one cannot be written, so that each is written alone"
    assert refused == [3]
    assert [len(store.events(f"f{number}")) for number in range(8)] == [2, 2, 2, 0, 2, 2, 2, 2]


def test_a_file_that_was_removed_is_told_and_no_other_is_made(store: SqliteStore, path: Path, tmp_path: Path) -> None:
    epoch = begin(store)
    path.rename(tmp_path / "aside.db")
    with pytest.raises(StoreUnavailableError, match="removed or replaced"):
        store.append(step_change(epoch, 1))
    with pytest.raises(StoreUnavailableError, match="removed or replaced"):
        store.get_record("f1")
    assert not path.exists()
    (tmp_path / "aside.db").rename(path)
    assert store.append(step_change(epoch, 1)).seq == 2


def test_a_write_that_is_broken_off_before_its_turn_is_not_made_later(store: SqliteStore) -> None:
    epochs = [begin(store, f"f{number}") for number in range(2)]
    broken_off: list[int] = []

    def write() -> None:
        try:
            store.append(step_change(epochs[0], 1, "f0"))
        except InterruptedError:
            broken_off.append(1)

    thread = threading.Thread(target=write)
    with store._database._write_lock:
        thread.start()
        wait_until(lambda: store._database._waiting)
        assert thread.ident is not None
        this_runtime().interrupt(thread.ident, InterruptedError)
        wait_until(lambda: broken_off)
    thread.join()
    assert store.append(step_change(epochs[1], 1, "f1")).seq == 2
    assert store.events("f0") == []


def test_a_full_disk_loses_nothing_that_was_written(store: SqliteStore, path: Path) -> None:
    epoch = begin(store)
    store.append(step_change(epoch, 1))
    pages = store._database.write(lambda session: session.connection.execute("PRAGMA page_count").fetchone()[0])
    store._database.write(lambda session: session.connection.execute(f"PRAGMA max_page_count = {pages + 2}").fetchone())
    with pytest.raises(StoreUnavailableError, match="full"):
        store.append(step_change(epoch, 2, value="".join(map(str, range(40_000)))))
    store._database.write(lambda session: session.connection.execute("PRAGMA max_page_count = 1000000").fetchone())
    lines = len(store.events("f1"))
    assert store.append(step_change(epoch, 9)).seq == lines + 2


@pytest.mark.parametrize("mode", ["normal", "full"])
def test_how_safely_it_writes_is_a_setting(path: Path, mode: str) -> None:
    store = open_store(f"sqlite:///{path}?synchronous={mode}")
    assert isinstance(store, SqliteStore)
    store.initialize()
    number = store._database.write(lambda session: session.connection.execute("PRAGMA synchronous").fetchone()[0])
    assert number == {"normal": 1, "full": 2}[mode]
    store.close()


def test_bytes_are_linear_in_steps(tmp_path: Path) -> None:
    sizes = []
    for steps in (500, 1000, 2000):
        file = tmp_path / f"{steps}.db"
        store = SqliteStore(file)
        epoch = begin(store)
        for number in range(1, steps + 1):
            store.append(step_change(epoch, number))
        store.close()  # the log goes into the file
        sizes.append(file.stat().st_size)
    first, second = sizes[1] - sizes[0], sizes[2] - sizes[1]
    assert 1.7 < second / first < 2.3
    assert second / 1000 < 1000, "bytes per step"


def test_a_copy_of_the_file_is_a_store(store: SqliteStore, path: Path, tmp_path: Path) -> None:
    begin(store)
    store.close()
    shutil.copy(path, tmp_path / "copy.db")
    copy = SqliteStore(tmp_path / "copy.db")
    assert copy.get_record("f1") == store.get_record("f1")
    copy.close()
