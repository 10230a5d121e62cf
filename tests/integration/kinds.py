"""A hundred kinds of members: what they give, raise, and ask of their run."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import ipaddress
import os
import pathlib
import sys
import threading
import uuid
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from graflow import RetryPolicy, TaskExecutionContext, task
from graflow.exceptions import GraflowWorkflowCanceledError, TaskError


@dataclasses.dataclass
class Point:
    x: int
    y: Any = None


class Colour(enum.Enum):
    RED = "red"


class Pair(NamedTuple):
    first: int
    second: int


class OddError(Exception):
    def __init__(self, number: int, *, why: str) -> None:
        super().__init__(f"{number}: {why}")
        self.number = number


class WordlessError(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")


class Subclass(int):
    pass


VALUES: Final[dict[str, Any]] = {
    "none": None,
    "true": True,
    "zero": 0,
    "negative": -7,
    "long": 2**63,
    "longer": 2**70,
    "longest": 10**4400,
    "float": 0.1,
    "tiny": 5e-324,
    "nan": float("nan"),
    "infinite": float("-inf"),
    "complex": 1 + 2j,
    "empty": "",
    "text": "text",
    "umlaut": "ü\u2028",
    "surrogate": "\ud800",
    "null": "\x00",
    "long text": "x" * 5000,
    "longer text": "y" * 70_000,
    "bytes": b"\x00\xff",
    "many bytes": bytes(70_000),
    "bytearray": bytearray(b"a"),
    "list": [1, [2, [3]]],
    "empty list": [],
    "long list": list(range(20_000)),
    "tuple": (1, (2,)),
    "dict": {"a": {"b": None}},
    "empty dict": {},
    "keys": {1: "one", (1, 2): "pair"},
    "tag": {"$t": "tag", "v": 1},
    "set": {1},
    "frozenset": frozenset({"a"}),
    "deque": collections.deque([1, 2], 5),
    "counter": collections.Counter("aab"),
    "ordered": collections.OrderedDict(b=1, a=2),
    "range": range(3),
    "decimal": decimal.Decimal("1.10"),
    "fraction": fractions.Fraction(1, 3),
    "date": dt.date(2024, 2, 29),
    "datetime": dt.datetime(2024, 2, 29, tzinfo=dt.UTC),
    "delta": dt.timedelta(seconds=1),
    "uuid": uuid.UUID(int=1),
    "path": pathlib.PurePosixPath("/a"),
    "address": ipaddress.ip_address("127.0.0.1"),
    "point": Point(1, [Point(2)]),
    "colour": Colour.RED,
    "pair": Pair(1, 2),
    "subclass": Subclass(3),
    "error": ValueError("a value, not a failure"),
    "class": Point,
    "function": print,
    "lock": threading.Lock(),
    "nested": [{"a": (1, b"x", {2})}, Point(3)],
    "deep": None,
    "many": [None] * 2000,
}
deep: Any = []
for _ in range(80):
    deep = [deep]
VALUES["deep"] = deep
looped: list[Any] = []
looped.append(looped)
VALUES["looped"] = looped


@task
def helper(n: int) -> int:
    return n + 1


@task
def broken(n: int) -> int:
    return 1 // n


@task(inject_context=True)
def places(ctx: TaskExecutionContext) -> list[Any]:
    return [ctx.task_id, ctx.cycle_count, ctx.retry_count, ctx.max_retries, sorted(ctx.graph.nodes)]


@task(inject_context=True)
def sets(ctx: TaskExecutionContext, key: str, value: Any) -> None:
    ctx.get_channel().set(key, value)


@task(inject_context=True)
def asks(ctx: TaskExecutionContext, what: str, n: int = 0) -> None:
    match what:
        case "next":
            ctx.next_task(helper(task_id=f"more_{n}", n=n))
        case "iteration":
            ctx.next_iteration(n)
        case "checkpoint":
            ctx.checkpoint({"n": n}, path="kept")
        case "progress":
            ctx.progress(n, 10, "on the way")
        case _:
            getattr(ctx, f"{what}_workflow")(f"{what} asked")


def raising(kind: type[BaseException], *arguments: Any, **named: Any) -> Callable[[], Any]:
    def call() -> Any:
        raise kind(*arguments, **named)

    return call


def chained() -> Any:
    try:
        {}["x"]
    except KeyError as error:
        raise OddError(3, why="no x") from error


def during() -> Any:
    try:
        {}["x"]
    except KeyError:
        raise ValueError("worse")  # noqa: B904 - an error while another is handled


def coroutine() -> Any:
    async def later() -> str:
        await asyncio.sleep(0)
        return "later"

    return later()


def failing_coroutine() -> Any:
    async def later() -> str:
        raise OddError(4, why="later")

    return later()


def after(what: str, n: int = 1) -> Callable[[], Any]:
    def call() -> Any:
        asks(what=what, n=n)
        return f"after {what}"

    return call


def failing_after(what: str) -> Callable[[], Any]:
    def call() -> Any:
        asks(what=what, n=2)
        raise ValueError(what)

    return call


ACTS: Final[dict[str, Callable[[], Any]]] = {
    "calls a task": lambda: helper(n=1),
    "calls a task by position": lambda: helper(1),
    "calls one that fails": lambda: broken(n=0),
    "calls one and goes on": lambda: [helper(n=1), 2],
    "looks around": places,
    "sets a key": lambda: sets(key="k", value=[1]),
    "sets what cannot go": lambda: sets(key="k", value=threading.Lock()),
    "sets and fails": lambda: [sets(key="k", value=1), 1 // 0],
    "maps": lambda: helper.map(range(2)).run(),
    "maps without running": lambda: len(helper.map(range(2), name="unused").tasks),
    "joins": lambda: len((helper(task_id="x", n=1) | helper(task_id="y", n=2)).tasks),
    "chains": lambda: str(helper(task_id="p", n=1) >> helper(task_id="q", n=2)),
    "asks on a thread": lambda: _on_a_thread(lambda: helper(n=1)),
    "value error": raising(ValueError, "bad"),
    "wordless error": raising(WordlessError),
    "type error": helper.func,
    "own error": raising(OddError, 1, why="odd"),
    "os error": raising(FileNotFoundError, 2, "none", "file"),
    "group of errors": raising(ExceptionGroup, "several", [ValueError(1), KeyError(2)]),
    "task error": raising(TaskError, "other", "from elsewhere"),
    "cancelled": raising(GraflowWorkflowCanceledError, "no more", "someone"),
    "stop iteration": lambda: next(iter(())),
    "chained error": chained,
    "error during another": during,
    "system exit": raising(SystemExit, 3),
    "interrupted": raising(KeyboardInterrupt),
    "coroutine": coroutine,
    "failing coroutine": failing_coroutine,
    **{f"after {what}": after(what) for what in ("next", "checkpoint", "progress", "terminate", "cancel")},
    **{f"failing after {what}": failing_after(what) for what in ("next", "cancel", "terminate")},
}


def _on_a_thread(call: Callable[[], Any]) -> list[Any]:
    import contextvars

    found: list[Any] = []
    context = contextvars.copy_context()
    thread = threading.Thread(target=lambda: context.run(lambda: found.append(call())))
    thread.start()
    thread.join()
    return found


def _act(name: str) -> Any:
    return ACTS[name]() if name in ACTS else VALUES[name]


@task
def act(name: str) -> Any:
    return _act(name)


@task
def act_with(name: str, number: int = 1, text: str = "t") -> Any:
    return [_act(name), number, text]


@task(retry_policy=RetryPolicy(max_retries=1, initial_interval=0.0))
def act_again(name: str) -> Any:
    return _act(name)


@task(inject_context=True)
def act_in_context(ctx: TaskExecutionContext, name: str) -> Any:
    return _act(name)


@task(timeout=30.0)
def act_in_time(name: str) -> Any:
    return _act(name)


@task
async def act_later(name: str) -> Any:
    await asyncio.sleep(0)
    return _act(name)


@task
def takes(item: Any) -> Any:
    """What is given may be changed: nobody else has it."""
    if isinstance(item, list):
        item.append("mine")
    return [type(item).__name__, item]


NAMES: Final = [*VALUES, *ACTS]
WITHOUT_COROUTINES: Final = [name for name in NAMES if "coroutine" not in name]


@task
def forks(end: str) -> int:
    """The status of a child, which comes out of this function."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if end == "raises":
        raise ValueError(end)
    return 0 if end == "returns" else sys.exit(3 if end == "exits with 3" else None)
