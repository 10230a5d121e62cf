"""Rows of questions: compared and set, listed by what is open, due when they are, gone with their flows."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from graflow.exceptions import FlowConflictError, FlowNotFoundError, InvalidCursorError
from graflow.state import MemoryStore, SqliteStore, StateStore
from graflow.state.questions import QuestionQuery, QuestionRow, QuestionWrite, RowKind
from graflow.state.statuses import Move
from tests.state.support import AT, begin, move


def row_of(number: int = 1, flow_id: str = "f1", **more: Any) -> QuestionRow:
    given: dict[str, Any] = {
        "kind": RowKind.QUESTION,
        "state": "open",
        "at": AT + number,
        "due": None,
        "version": 1,
        "data": {"prompt": "Złóż?", "of": ["alice"]},
        **more,
    }
    return QuestionRow(f"q-{number}", flow_id, **given)


def put(store: StateStore, *rows: QuestionRow, **more: Any) -> bool:
    return store.write_questions([QuestionWrite(row, **more) for row in rows])


def found(store: StateStore, number: int = 1) -> QuestionRow:
    (row,) = store.get_questions([f"q-{number}"])
    assert row is not None, f"q-{number} is not there"
    return row


def ids(rows: list[QuestionRow]) -> list[str]:
    return [row.id for row in rows]


def test_a_row_is_read_as_it_was_written(store: StateStore) -> None:
    begin(store)
    row = row_of(due=AT + 60)
    assert put(store, row, lines=[{"what": "asked"}])
    assert found(store) == row
    assert store.question_lines("q-1") == [{"what": "asked"}]
    assert store.get_questions(["q-0", "q-1"]) == [None, row]
    assert store.question_lines("q-0") == []


def test_a_row_is_made_once_and_changed_by_whoever_has_read_its_last_version(store: StateStore) -> None:
    begin(store)
    assert not put(store, row_of(version=2))
    assert put(store, row_of())
    assert not put(store, row_of(data={"prompt": "another"}), lines=["refused"])
    settled = row_of(version=2, state="answered", data={"value": [1, None, True, {"a": 2.5}]})
    assert put(store, settled, lines=["voted", "settled"])
    assert not put(store, replace(settled, state="withdrawn"))
    assert found(store) == settled
    assert store.question_lines("q-1") == ["voted", "settled"]


def test_rows_are_written_together_or_not_at_all(store: StateStore) -> None:
    begin(store)
    assert put(store, row_of(1), row_of(2))
    assert not put(store, row_of(1, version=2, state="answered"), row_of(2, version=3, state="withdrawn"), lines=["no"])
    assert [found(store, 1).state, found(store, 2).state] == ["open", "open"]
    assert store.question_lines("q-1") == []
    assert put(store, row_of(1, version=2, state="answered"), row_of(2, version=2, state="withdrawn"))
    assert ids(store.list_questions(QuestionQuery(is_open=True))) == []


def test_what_comes_too_late_by_the_clock_of_the_store_is_not_written(store: StateStore) -> None:
    begin(store)
    put(store, row_of())
    now = store.now()
    assert not put(store, row_of(version=2, state="answered"), before=now - 0.001)
    assert found(store).state == "open"
    assert put(store, row_of(version=2, state="answered"), before=now + 3600)


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_the_clock_of_a_store_is_looked_at_while_it_writes(kind: str, tmp_path: Any) -> None:
    store = MemoryStore() if kind == "memory" else SqliteStore(tmp_path / "flows.db")
    begin(store)
    put(store, row_of())
    told = iter([AT + 99, AT + 100])
    store.clock = lambda: next(told)
    assert put(store, row_of(version=2), before=AT + 100)
    assert not put(store, row_of(version=3), before=AT + 100)
    store.close()


def test_of_many_who_change_a_row_one_does(store: StateStore) -> None:
    begin(store)
    put(store, row_of())
    start, won = threading.Barrier(8), []

    def change(who: int) -> None:
        start.wait()
        if put(store, row_of(version=2, state="answered", data={"by": who}), lines=[who]):
            won.append(who)

    threads = [threading.Thread(target=change, args=(who,)) for who in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert found(store).data == {"by": won[0]}
    assert store.question_lines("q-1") == won


def test_lists_have_pages_newest_first_and_no_mailboxes(store: StateStore) -> None:
    begin(store, "f1")
    begin(store, "f2")
    for number in range(1, 8):
        put(store, row_of(number, "f1" if number % 2 else "f2", at=AT + number // 2))
    put(store, row_of(9, kind=RowKind.MAILBOX))
    put(store, row_of(3, version=2, state="answered", at=AT + 1))

    def pages(**query: Any) -> list[str]:
        seen, cursor = [], None
        while True:
            page = store.list_questions(QuestionQuery(cursor=cursor, limit=2, **query))
            seen += ids(page)
            cursor = page.next_cursor
            if cursor is None:
                return seen

    assert pages() == ["q-7", "q-6", "q-5", "q-4", "q-3", "q-2", "q-1"]
    assert pages(is_open=True) == ["q-7", "q-6", "q-5", "q-4", "q-2", "q-1"]
    assert pages(is_open=False) == ["q-3"]
    assert pages(flow_id="f1") == ["q-7", "q-5", "q-3", "q-1"]
    assert pages(flow_id="f1", is_open=True) == ["q-7", "q-5", "q-1"]
    assert pages(flow_id="unknown") == []
    with pytest.raises(InvalidCursorError):
        store.list_questions(QuestionQuery(cursor="no page"))


def test_rows_are_due_in_order(store: StateStore) -> None:
    begin(store)
    put(store, row_of(1, due=AT + 30), row_of(2, due=AT + 10), row_of(3), row_of(4, due=AT + 50, kind=RowKind.MAILBOX))
    assert ids(store.due_questions(AT + 9)) == []
    assert ids(store.due_questions(AT + 30)) == ["q-2", "q-1"]
    assert ids(store.due_questions(AT + 60, limit=1)) == ["q-2"]
    put(store, row_of(2, version=2, due=None))
    assert ids(store.due_questions(AT + 60)) == ["q-1", "q-4"]


@pytest.mark.parametrize("ending", [Move.COMPLETE, Move.FAIL])
def test_the_end_of_a_flow_makes_its_open_rows_due_and_takes_no_answers_any_more(
    store: StateStore, ending: Move
) -> None:
    begin(store)
    put(store, row_of(1, due=AT + 900), row_of(2), row_of(3, state="answered"))
    move(store, ending)
    assert sorted(ids(store.due_questions(AT))) == ["q-1", "q-2"]
    with pytest.raises(FlowConflictError, match=r"is (completed|failed)"):
        put(store, row_of(1, version=2, state="answered"))
    with pytest.raises(FlowConflictError):
        put(store, row_of(4))
    assert put(store, row_of(1, version=2, state="withdrawn"), ends=True)
    assert ids(store.list_questions(QuestionQuery(is_open=True))) == ["q-2"]


def _deleted(store: StateStore) -> None:
    assert store.delete("f1")


def _cleaned(store: StateStore) -> None:
    assert store.cleanup(older_than=1, keep=10, at=AT + 10_000) == 1


@pytest.mark.parametrize("remove", [_deleted, _cleaned])
def test_questions_go_with_their_flow(store: StateStore, remove: Callable[[StateStore], None]) -> None:
    begin(store)
    begin(store, "f2")
    put(store, row_of(1, due=AT), lines=["asked"])
    put(store, row_of(2, "f2"))
    move(store, Move.COMPLETE)
    remove(store)
    assert store.get_questions(["q-1"]) == [None]
    assert store.question_lines("q-1") == []
    assert store.due_questions(AT) == []
    assert ids(store.list_questions(QuestionQuery())) == ["q-2"]


def test_a_flow_that_is_not_there_has_no_questions(store: StateStore) -> None:
    with pytest.raises(FlowNotFoundError):
        put(store, row_of(flow_id="nobody"))


def test_what_was_written_is_a_copy(store: StateStore) -> None:
    begin(store)
    data: dict[str, Any] = {"of": ["alice"]}
    put(store, row_of(data=data))
    data["of"].append("mallory")
    found(store).data["of"].append("mallory")
    assert found(store).data == {"of": ["alice"]}
