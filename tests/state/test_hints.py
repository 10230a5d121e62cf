"""Hints between the processes of a store: whoever waits hears of them, and nobody has to ask for them."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from graflow import task
from graflow.flows import FlowRunner
from graflow.flows.home import home_of
from graflow.state import MemoryStore, SqliteStore, StateStore
from graflow.state.hints import Hints
from graflow.state.opening import open_store
from tests.state.support import begin, step_change
from tests.support import PrivateRedis, wait_until

LONG = 60.0

TELL = """
import sys
from graflow.state.opening import open_store
store = open_store(sys.argv[1])
for line in sys.stdin:
    store.hints.tell()
"""


def address_of(server: PrivateRedis) -> str:
    """A store that no other test listens to."""
    return f"{server.url}?key_prefix=hints-{uuid.uuid4().hex}"


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.redis)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'flows.db'}"
    server: PrivateRedis = request.getfixturevalue("redis_server")
    return address_of(server)


class Waiter:
    """Waits for hints in a thread of its own, again and again."""

    def __init__(self, store: StateStore, hints: Hints | None = None) -> None:
        self.heard = 0
        self.is_over = threading.Event()
        self._hints = hints or store.hints
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self.is_over.is_set():
            self._hints.wait(LONG, self.is_over)
            self.heard += not self.is_over.is_set()

    def end(self) -> None:
        self.is_over.set()
        self._thread.join(LONG)
        assert not self._thread.is_alive()


def listening(store: StateStore, url: str) -> bool:
    if url.startswith("sqlite"):
        folder = Path(f"{url.removeprefix('sqlite:///')}-waiting")
        return folder.exists() and any(not path.name.startswith(".") for path in folder.iterdir())
    found: Any = store
    return bool(found._server.call("PUBSUB", "NUMSUB", found._keys.hints)[1])


def test_a_hint_of_another_process_is_heard_at_once_and_each_one_again(url: str) -> None:
    store = open_store(url)
    store.initialize()
    waiter = Waiter(store)
    wait_until(lambda: listening(store, url))
    with subprocess.Popen([sys.executable, "-c", TELL, url], stdin=subprocess.PIPE, text=True) as other:
        assert other.stdin is not None
        for number in (1, 2):
            print(file=other.stdin, flush=True)
            wait_until(lambda number=number: waiter.heard >= number)  # type: ignore[misc]
        other.communicate(timeout=LONG)
    waiter.end()
    store.close()


def test_all_who_wait_hear_it_and_none_after_they_have_let_go(url: str) -> None:
    stores = [open_store(url) for _ in range(3)]
    waiters = []
    for store in stores:
        store.initialize()
        waiters.append(Waiter(store))
    pipes = Path(f"{url.removeprefix('sqlite:///')}-waiting")
    wait_until(lambda: listening(stores[0], url))
    told = open_store(url)

    def all_have_heard() -> bool:
        told.hints.tell()
        return all(waiter.heard for waiter in waiters)

    wait_until(all_have_heard)
    for waiter, store in zip(waiters, stores, strict=True):
        waiter.end()
        store.close()
    told.hints.tell()
    told.close()
    if url.startswith("sqlite"):
        assert list(pipes.iterdir()) == []


def test_whoever_waits_ends_when_that_is_over_or_the_store_is_closed(url: str) -> None:
    store = open_store(url)
    store.initialize()
    waiter = Waiter(store)
    wait_until(lambda: listening(store, url))
    store.close()
    waiter.end()


def test_nothing_is_listened_to_any_more_once_that_is_over(url: str) -> None:
    store, is_over = open_store(url), threading.Event()
    store.initialize()
    is_over.set()
    store.hints.wait(LONG, is_over)
    listens: Any = store.hints
    assert listens._heard(LONG, is_over) is False
    assert not listening(store, url)
    store.close()


def test_what_a_killed_process_listened_to_is_taken_away_by_the_next_hint(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "flows.db")
    folder = tmp_path / "flows.db-waiting"
    folder.mkdir()
    os.mkfifo(folder / "1-dead")
    store.hints.tell()
    assert list(folder.iterdir()) == []


def test_where_nobody_can_be_told_waiting_is_waiting(tmp_path: Path) -> None:
    (tmp_path / "flows.db-waiting").write_text("no folder")
    for store in (MemoryStore(), SqliteStore(tmp_path / "flows.db")):
        begun = time.monotonic()
        store.hints.tell()
        store.hints.wait(0.05, threading.Event())
        assert time.monotonic() - begun >= 0.05


@pytest.mark.redis
def test_each_change_of_a_flow_is_told_and_nothing_else_is(redis_server: PrivateRedis) -> None:
    store: Any = open_store(address_of(redis_server))
    store.initialize()
    listening = store._server.subscription(store._keys.news)
    wait_until(lambda: listening.get_message() is not None)  # that it listens
    epoch = begin(store)
    store.get_flow_state("f1")
    store.changed_flows(0)
    store.hints.tell()
    store.append(step_change(epoch, 1))
    store._server.call("PUBLISH", store._keys.news, "end")
    told: list[bytes] = []
    wait_until(lambda: told.extend(each["data"] for each in [listening.get_message()] if each) or b"end" in told)
    assert told == [b"", b"", b"", b"end"], "it was made, claimed, and went on"
    listening.close()
    store.close()


@pytest.mark.redis
def test_who_waits_for_a_change_wakes_up(redis_server: PrivateRedis) -> None:
    url = address_of(redis_server)
    store, other = open_store(url), open_store(url)
    store.initialize()
    waiter = Waiter(store, store.news)
    found: Any = store
    wait_until(lambda: found._server.call("PUBSUB", "NUMSUB", found._keys.news)[1])
    begin(other)
    wait_until(lambda: waiter.heard >= 1)
    waiter.end()
    store.close()
    other.close()


@pytest.mark.redis
def test_a_subscription_that_breaks_is_made_anew(redis_server: PrivateRedis) -> None:
    url = address_of(redis_server)
    store = open_store(url)
    store.initialize()
    waiter = Waiter(store)
    wait_until(lambda: listening(store, url))
    with redis_server.client() as client:
        client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    waiter.is_over.set()
    waiter.end()
    again = Waiter(store)

    def has_heard() -> bool:
        store.hints.tell()
        return again.heard > 0

    wait_until(has_heard)
    again.end()
    store.close()


def test_a_flow_goes_on_with_an_answer_that_another_process_gives_without_a_look_for_it(url: str) -> None:
    @task("ask", inject_context=True)
    def ask(context: Any) -> Any:
        return context.ask("Go?")

    store, others = open_store(url), open_store(url)
    others.url = "memory:others"  # as a process has it that knows no flow
    with FlowRunner(store) as runner, FlowRunner(others, recovery=False) as person:
        home_of(store).recovery.pause = 1000 * LONG
        runner.register(lambda: ask, "hinted")
        flow_id = runner.submit("hinted")
        wait_until(lambda: runner.questions(flow_id=flow_id) and runner.get_flow_state(flow_id).owner is None)
        wait_until(lambda: listening(store, url))
        (question,) = runner.questions(flow_id=flow_id)
        person.answer(question.id, True, by="ann")
        assert runner.wait(flow_id, LONG).outputs is True
    others.close()


@pytest.fixture
def very_many_files() -> Iterator[None]:
    """More than `select` can watch are open in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 4096:
        pytest.skip("this machine lets no process open so many files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, hard))
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    yield
    for each in opened:
        os.close(each)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("very_many_files")
def test_a_process_with_very_many_open_files_hears_hints(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'flows.db'}"
    store = open_store(url)
    store.initialize()
    waiter = Waiter(store)
    try:
        wait_until(lambda: listening(store, url))
        store.hints.tell()
        wait_until(lambda: waiter.heard)
    finally:
        waiter.end()
        store.close()
