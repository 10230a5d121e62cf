"""A fingerprint is the same for the same code and values in every process, and another one for others."""

from __future__ import annotations

import functools
import subprocess
import sys
import threading

import pytest

from graflow import task
from graflow.core.envelopes.fingerprint import fingerprint

PROGRAM = """
import enum, functools
from dataclasses import dataclass
from graflow import task
from graflow.core.envelopes.fingerprint import fingerprint

WANTED = {"low", "mid", "high", "none", "max"}

class Level(enum.Enum):
    LOW = 1

@dataclass
class Row:
    names: set

    def has(self, name):
        return name in {"a", "b", "c", "d"}

def helper(x):
    return Row({str(x), "b", "c"}).has(x), Level.LOW

@task(max_retries=2)
def grade(number, kinds=frozenset({"x", "y", "z"})):
    return number if "low" in WANTED and number in {"p", "q", "r"} else helper(number)

print(fingerprint(grade), fingerprint(functools.partial(helper, x={1: {"u", "v"}})), fingerprint(Row({"s", "t"})))
"""


def test_it_does_not_depend_on_the_hash_seed_nor_on_the_process():
    told = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={"PYTHONHASHSEED": str(seed)},
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        ).stdout
        for seed in range(1, 5)
    }
    assert len(told) == 1


def _made(source: str) -> object:
    space = {"__name__": "__main__"}
    exec(source, space)
    return space["f"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("def f(x): return x + 1", "def f(x): return x + 2"),
        ("def f(x): return x + 1", "def f(x): return x - 1"),
        ("def f(x=1): return x", "def f(x=2): return x"),
        ("T = [1]\ndef f(): return T", "T = [2]\ndef f(): return T"),
        ("def g(): return 1\ndef f(): return g()", "def g(): return 2\ndef f(): return g()"),
        ("def m(n):\n def f(): return n\n return f\nf = m(1)", "def m(n):\n def f(): return n\n return f\nf = m(2)"),
        ("class f:\n def g(self): return 1", "class f:\n def g(self): return 2"),
        ("f = {1, 2}", "f = {1, 3}"),
        ("f = 1", "f = True"),
        ("f = (1,)", "f = [1]"),
        ("f = lambda x: x.a", "f = lambda x: x.b"),
    ],
)
def test_other_code_or_values_have_another_one(one: str, other: str):
    assert fingerprint(_made(one)) == fingerprint(_made(one))
    assert fingerprint(_made(one)) != fingerprint(_made(other))


def test_instances_of_one_task_differ_by_their_arguments_alone():
    @task
    def f(x):
        return x

    assert fingerprint(f.instance("a", {"x": 1})) == fingerprint(f.instance("b", {"x": 1}))
    assert fingerprint(f.instance("a", {"x": 1})) != fingerprint(f.instance("a", {"x": 2}))


def test_what_contains_itself_or_cannot_be_taken_apart_has_one():
    loop: list[object] = [b"x"]
    loop.append(loop)
    assert fingerprint(loop) == fingerprint(loop)
    assert fingerprint(threading.Lock()) == fingerprint(threading.Lock())
    assert fingerprint(functools.partial(print, 1)) != fingerprint(functools.partial(print, 2))
