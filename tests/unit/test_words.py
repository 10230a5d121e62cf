"""What is kept of what a member printed and logged."""

from __future__ import annotations

import contextvars
import io
import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from graflow.hearing.streams import HeardRecords, hear
from graflow.hearing.words import MOST, Words
from graflow_celery.worker.running import RunningMember, running_member, words_of_member


@contextmanager
def heard() -> Iterator[RunningMember]:
    """A member that runs in this thread of a process whose members are heard."""
    root, handlers, streams = logging.getLogger(), list(logging.getLogger().handlers), (sys.stdout, sys.stderr)
    sys.stdout, sys.stderr = io.StringIO(), io.StringIO()
    hear(words_of_member)
    hear(words_of_member)
    made = RunningMember("run", 3, None)  # type: ignore[arg-type] - nothing here asks its servers
    token = running_member.set(made)
    try:
        yield made
    finally:
        running_member.reset(token)
        root.handlers = handlers
        sys.stdout, sys.stderr = streams


def said(member: RunningMember) -> list[tuple[str, str]]:
    return [] if member.words is None else [(level, text) for _, level, text in member.words.lines()]


def test_what_is_printed_and_logged_is_heard_once_and_still_shown() -> None:
    with heard() as member:
        print("one", end="")
        print(" and two\nthree")
        print("trouble", file=sys.stderr)
        logging.getLogger("theirs").warning("heed %s", "this")
        assert said(member) == [("OUT", "one and two"), ("OUT", "three"), ("ERR", "trouble"), ("WARNING", "heed this")]
        assert sys.stdout.getvalue() == "one and two\nthree\n"


def test_a_line_that_was_not_ended_is_kept() -> None:
    with heard() as member:
        print("to be continued", end="")
        assert said(member) == [("OUT", "to be continued")]


def test_what_the_engine_logs_is_no_word_of_a_member() -> None:
    with heard() as member:
        for name in ("celery", "celery.app.trace", "graflow_celery.worker", "graflow.core", "kombu.mixins"):
            logging.getLogger(name).warning("about the engine")
        assert member.words is None
        logging.getLogger("graflow_of_mine").warning("about mine")
        assert said(member) == [("WARNING", "about mine")]


def test_nothing_is_heard_while_no_member_runs() -> None:
    with heard() as member:
        token = running_member.set(None)
        print("nobody's")
        running_member.reset(token)
        assert member.words is None


def test_a_thread_is_heard_that_was_given_the_context() -> None:
    with heard() as member:
        ran = [contextvars.copy_context().run, lambda call: call()]
        for run in ran:
            thread = threading.Thread(target=run, args=(lambda: print("from a thread"),))
            thread.start()
            thread.join()
        assert said(member) == [("OUT", "from a thread")]


def test_a_record_that_cannot_be_written_out_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with heard() as member:
        monkeypatch.setattr(logging, "raiseExceptions", False)
        root = logging.getLogger()
        root.handlers = [handler for handler in root.handlers if isinstance(handler, HeardRecords)]
        logging.getLogger("theirs").warning("%d", "no number")
        assert said(member) == []


def test_the_last_64_kib_are_kept() -> None:
    words = Words()
    for number in range(5000):
        words.add("INFO", f"line {number} {'x' * 50}")
    lines = [text for _, _, text in words.lines()]
    assert lines[-1].startswith("line 4999 ")
    assert MOST // 2 < sum(len(line) for line in lines) <= MOST
    assert lines == sorted(lines, key=lambda line: int(line.split()[1]))


@pytest.mark.parametrize("text", ["y" * 10 * MOST, "é" * MOST, "\ud800" * MOST], ids=["ascii", "wide", "surrogates"])
def test_of_a_line_that_is_longer_its_end_is_kept(text: str) -> None:
    for write in (Words.add, Words.write):
        words = Words()
        write(words, "OUT", text + "end")
        (line,) = [line for _, _, line in words.lines()]
        assert line.endswith("end")
        assert len(line.encode()) <= MOST
