"""What a worker's processes tell of members that have ended, and whose code is another one."""

from __future__ import annotations

import os

from graflow_celery.cli.facts import done_of, with_other_code
from graflow_celery.record import WorkerInfo
from graflow_celery.worker.done import MembersDone


def in_child(act) -> None:
    """Do something in a forked process, which then ends at once."""
    pid = os.fork()
    if not pid:
        try:
            act()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)


def worker(entry: str, **info: object) -> WorkerInfo:
    return WorkerInfo(entry.partition(" ")[0], entry, 0.0, 0.0, info)


def test_what_children_ended_is_known_to_their_parent_after_their_death() -> None:
    done = MembersDone()
    done.begin()
    in_child(lambda: done.add("fast", 3))
    in_child(lambda: (done.add("fast", 4), done.add("a slow one", 1)))
    done.add_lost(2)
    assert done.counts() == ({"fast": 7, "a slow one": 1}, 2)
    assert done.counts() == ({"fast": 7, "a slow one": 1}, 2)


def test_a_parent_that_does_not_listen_stops_nobody_and_misses_nothing() -> None:
    done = MembersDone()
    done.begin()
    for _ in range(40_000):  # far more than a pipe holds
        done.add("fast", 1)
    done.counts()
    done.add("fast", 1)
    assert done.counts() == ({"fast": 40_001}, 0)


def test_without_a_worker_nothing_is_counted() -> None:
    done = MembersDone()
    done.add("fast", 1)
    assert done.counts() == ({}, 0)


def test_who_runs_other_code_than_most_with_the_same_modules_is_told() -> None:
    shop = {"modules": ["shop"]}
    alive = [worker(f"w{n} x", **shop, code="new") for n in range(3)]
    assert with_other_code(alive) == set()
    old, elsewhere = worker("old y", **shop, code="old"), worker("other z", modules=["mail"], code="mail")
    assert with_other_code([*alive, old, elsewhere]) == {"old y"}
    assert with_other_code([alive[0], old]) == {"w0 x", "old y"}, "neither are most"


def test_what_other_workers_say_of_themselves_is_taken_with_care() -> None:
    assert done_of(worker("a x", done={"q": 3, "r": "many", "s": True})) == {"q": 3}
    assert done_of(worker("a x", done=[3])) == {}
    assert done_of(worker("a x")) == {}
