"""Tasks that workers of the tests import."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import multiprocessing
import os
import signal
import threading
import time
import uuid
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

from graflow import RetryPolicy, task, workflow
from graflow.core.task import ParallelGroup
from graflow_celery import submit
from tests.support import forever, never, wait_until


@task
def noop(x: int) -> int:
    return x


@task
def double(x: int) -> int:
    return 2 * x


@task
def add_one(x: int) -> int:
    return x + 1


@task
def listing() -> list[int]:
    return [1, 2, 3]


@task
def total(shards: list[int]) -> int:
    return sum(shards)


@task
def scaled(x: int, factor: int) -> int:
    return x * factor


@task
def fail(x: int) -> int:
    raise ValueError(f"no {x}")


@task
def needs_file(x: int, folder: str) -> int:
    """Odd ones fail until there is a file; each execution leaves a line."""
    with (Path(folder) / "executions").open("a", encoding="utf-8") as lines:
        lines.write(f"{x}\n")
    if x % 2 and not (Path(folder) / "file").exists():
        raise FileNotFoundError(f"no file for {x}")
    return x


@task
def sum_in_folder(values: list[int | None], folder: str) -> int:
    """A continuation; each execution leaves a line."""
    with (Path(folder) / "sums").open("a", encoding="utf-8") as lines:
        lines.write(f"{values}\n")
    if (Path(folder) / "broken").exists():
        raise RuntimeError("broken")
    return sum(value or 0 for value in values)


@task
def fail_odd(x: int) -> int:
    if x % 2:
        raise ValueError(f"{x} is odd")
    return x


@task
def unserialisable(x: int) -> Any:
    return threading.Lock() if x else x


@task
def held(mark: str) -> str:
    """Ends when there is a file."""
    wait_until(Path(mark).exists)
    return mark


@task
def meet(folder: str, count: int) -> int:
    """Ends when so many members are in that folder at the same time."""
    (Path(folder) / uuid.uuid4().hex).touch()
    wait_until(lambda: len(list(Path(folder).iterdir())) >= count)
    return os.getpid()


@task
def pid(x: int) -> int:
    return os.getpid()


@task
def suicide(x: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return x


@task
def die_once(mark: str) -> str:
    """Kills its process the first time it runs for this mark."""
    path = Path(mark)
    if not path.exists():
        path.write_text("died", encoding="utf-8")
        os.kill(os.getpid(), signal.SIGKILL)
    return "survived"


@task
def dies_once_at_five(x: int, mark: str) -> int:
    """Member 5 kills its process the first time it runs for this mark."""
    if x == 5:
        die_once.func(mark)
    return x


@task(options={"time_limit": 1})
def endless(x: int) -> int:
    wait_until(never, 60)
    return x


@task(options={"soft_time_limit": 1})
def softly_endless(x: int) -> int:
    wait_until(never, 60)
    return x


@task(options={"soft_time_limit": 0.5})
def tidies_up(mark: str) -> None:
    """Notes that its time is over before it ends."""
    try:
        wait_until(never, 60)
    finally:
        Path(mark).write_text("tidied up", encoding="utf-8")


@task(options={"soft_time_limit": 0.5})
async def softly_waiting(x: int) -> None:
    await forever()


@task(options={"max_attempts": 2})
def poison(x: int) -> int:
    if x == 0:
        os._exit(3)
    return x


@task(options={"queue": "elsewhere"})
def on_another_queue(x: int) -> int:
    return x


@task(options={"max_attempts": 1})
def poison_once(mark: str) -> None:
    with Path(mark).open("a", encoding="utf-8") as file:
        file.write("ran\n")
    os._exit(3)


@task(options={"priority": 9})
def urgent(x: int) -> float:
    return time.time()


@task(options={"priority": 0})
def unhurried(x: int) -> float:
    return time.time()


@task
def stamp(x: int) -> float:
    return time.time()


@task(retry_policy=RetryPolicy(max_retries=2, initial_interval=0.01))
def fail_twice(mark: str) -> int:
    path = Path(mark)
    tries = int(path.read_text(encoding="utf-8")) if path.exists() else 0
    path.write_text(str(tries + 1), encoding="utf-8")
    if tries < 2:
        raise ValueError("not yet")
    return tries


@task(inject_context=True, retry_policy=RetryPolicy(max_retries=2, initial_interval=3.0))
def recovers(context: Any, mark: str) -> tuple[int, int, int]:
    """Fails the first time for this mark."""
    path = Path(mark)
    if not path.exists():
        path.write_text("failed", encoding="utf-8")
        raise ValueError("not yet")
    return context.retry_count, context.cycle_count, context.attempt


@task(inject_context=True, retry_policy=RetryPolicy(max_retries=2, initial_interval=0.02, backoff_factor=60.0))
def never_recovers(context: Any, x: int) -> None:
    """Waits for a moment before its first retry, longer before its second one."""
    raise ValueError(f"{x} at retry {context.retry_count}")


@task(inject_context=True, retry_policy=RetryPolicy(max_retries=2, initial_interval=0.0))
def writes_and_fails(context: Any, name: str, failures: int) -> list[Any]:
    """Fails so often, each time after it has written, and gives what it saw when it failed no more."""
    channel = context.get_channel()
    seen = [channel.get("half"), channel.get("old"), channel.exists("brief")]
    if context.retry_count < failures:
        channel.set("half", name)
        channel.set("brief", name, ttl=100)
        channel.delete("old")
        channel.append("log", name)
        with channel.lock("any"):
            channel.set("under lock", name)
        raise ValueError(name)
    return seen


@task(inject_context=True, retry_policy=RetryPolicy(max_retries=1, initial_interval=2.0))
def dies_after_its_retry(context: Any, mark: str) -> tuple[int, int]:
    """Fails, kills its process when it is tried again, and ends well the next time."""
    path = Path(mark)
    if not path.exists():
        path.write_text("failed", encoding="utf-8")
        raise ValueError("not yet")
    if path.read_text(encoding="utf-8") == "failed":
        path.write_text("died", encoding="utf-8")
        os.kill(os.getpid(), signal.SIGKILL)
    return context.retry_count, context.attempt


@task(inject_context=True, retry_policy=RetryPolicy(max_retries=1, initial_interval=2.0))
def writes_and_recovers(context: Any, mark: str) -> Any:
    """Writes to the channel before it fails; what it then finds there."""
    channel = context.get_channel()
    if not Path(mark).exists():
        Path(mark).touch()
        channel.set("half", "done")
        raise ValueError("not yet")
    return channel.get("half", "nothing")


@task(retry_policy=RetryPolicy(max_retries=1, initial_interval=60.0))
def fails_for_long(x: int) -> None:
    raise ValueError("come back in a minute")


@task(inject_context=True)
def who(context: Any, x: int) -> tuple[str, int, int]:
    return context.run_id, context.index, context.attempt


@task(inject_context=True)
def patient(context: Any, x: int) -> str:
    wait_until(context.is_cancelled)
    return "cancelled"


@task(inject_context=True)
def reports(context: Any, x: int) -> int:
    context.progress(1, total=2, message="half")
    return x


class Third:
    """A number that only says so."""

    def __float__(self) -> float:
        return 1 / 3


ODD_AMOUNTS = (Decimal("1.5"), Fraction(1, 2), Third(), True, 10**400, float("nan"), float("inf"), None, "3", "three")


@task(inject_context=True)
def reports_oddly(context: Any, index: int) -> int:
    context.progress(ODD_AMOUNTS[index], total=ODD_AMOUNTS[index], message=ValueError("\ud800 said"))
    return index


@task(inject_context=True)
def reports_and_waits(context: Any, mark: str) -> str:
    """Tells that it is half done, and ends when there is a file."""
    for done in (0, 1):
        context.progress(done, total=2, message="half" if done else "begun")
    wait_until(Path(mark).exists)
    return "ended"


@task(inject_context=True)
def use_channel(context: Any, x: int) -> Any:
    channel = context.get_channel()
    channel.atomic_add("sum", x)
    channel.append("seen", x)
    channel.set("last", x)
    return channel.get("given"), context.get_result("listing")


@task(inject_context=True)
def read_key(context: Any, x: int) -> Any:
    return context.get_channel().get("lock")


@task(inject_context=True)
def cancel_all(context: Any, x: int) -> int:
    if x == 0:
        context.cancel_workflow("enough")
    return x


@task(inject_context=True)
def stop_all(context: Any, x: int) -> int:
    if x == 0:
        context.terminate_workflow("good enough")
    return x


@task(inject_context=True)
def iterate(context: Any, x: int | None = None) -> int:
    if context.cycle_count < 3:
        context.next_iteration(context.cycle_count)
    return context.cycle_count


@task(inject_context=True)
def grows(context: Any, x: int) -> int:
    context.next_task(double(task_id=f"grown_{x}", x=x))
    return x


@task
def inner(x: int) -> int:
    return x * 10


def nested(depth: int, leaves: int, config: dict[str, Any]) -> ParallelGroup:
    """Groups in groups, each on workers, with `leaves` no-ops at the bottom."""
    name = f"level{depth}"
    if depth == 0:
        members: list[Any] = [noop(task_id=f"leaf{index}", x=index) for index in range(leaves)]
    else:
        members = [nested(depth - 1, leaves, config)]
    return ParallelGroup(members, name=name).with_execution("redis", backend_config=config)


@task
def count_run(x: tuple[str, str, int]) -> int:
    """Notes that it ran; the last one fails while a file is there."""
    marks, blocked, index = x
    with Path(marks).open("a", encoding="utf-8") as file:
        file.write(f"{index}\n")
    if index == 3 and Path(blocked).exists():
        raise ValueError("blocked")
    return index


@task(options={"time_limit": 1})
def held_over_time(mark: str) -> str:
    """Ends when there is a file, which is later than it may."""
    wait_until(Path(mark).exists)
    return mark


@task
def doubles_and_sums_inside(n: int) -> int:
    """Waits in its slot for the continuation of a group of its own."""
    return submit(double.map(range(n)), then=total).continuation().results(timeout=120)[0]


@task
def doubles_inside(values: list[int]) -> list[int]:
    return submit(double.map(values)).results(timeout=120)


@task(inject_context=True)
def patient_with_values(context: Any, values: list[int]) -> str:
    context.progress(1, total=2, message=f"{len(values)} values")
    wait_until(context.is_cancelled)
    return "cancelled"


@task(options={"time_limit": 1})
def soon(mark: str) -> str:
    return mark


@task(inject_context=True)
def held_by_values(context: Any, values: list[str]) -> int:
    """Tells that it has begun, and ends when there are all those files."""
    context.progress(0)
    wait_until(lambda: all(Path(mark).exists() for mark in values))
    return len(values)


@task(options={"time_limit": 1})
def endless_total(values: list[int]) -> int:
    wait_until(never, 60)
    return sum(values)


@task(options={"soft_time_limit": 1})
def softly_endless_total(values: list[int]) -> int:
    wait_until(never, 60)
    return sum(values)


@task(options={"queue": "elsewhere"})
def total_elsewhere(values: list[int]) -> int:
    return sum(values)


@task(inject_context=True)
def total_at_second_try(context: Any, values: list[str]) -> tuple[int, int]:
    """Kills its process the first time."""
    if context.attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return len(values), context.attempt


@task
def environment(name: str) -> str | None:
    return os.environ.get(name)


@task
def speaks(text: str) -> str:
    print(f"said {text}", end="\nand more\n")
    logging.getLogger("members").info("logged %s", text)
    return text


@task
def speaks_and_fails(text: str) -> None:
    print(f"said {text}")
    raise ValueError(text)


def squared(number: int) -> int:
    return number * number


@task
def in_a_pool(method: str) -> list[int]:
    with multiprocessing.get_context(method).Pool(2) as pool:
        return pool.map(squared, [1, 2, 3])


@task
def status_of_a_copy_that_is_ended() -> int:
    """What a process ends with that is a copy of the worker's, and is sent SIGTERM."""
    child = os.fork()
    while not child:
        signal.pause()
    os.kill(child, signal.SIGTERM)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@task
def fibonacci(n: int) -> int:
    return n if n < 2 else sum(fibonacci.map([n - 1, n - 2]).run())


@task
def fibonacci_on_workers(n: int) -> int:
    return n if n < 2 else sum(fibonacci_on_workers.map([n - 1, n - 2]).with_execution("redis").run())


@task(inject_context=True)
def lies_about(context: Any, name: str, *, in_channel: bool) -> str:
    """Says what became of another task, as a worker may that nobody trusts."""
    ledger = context.execution_context.ledger
    if in_channel:
        ledger.channel.set(f"{name}.__result__", "forged")
    else:
        ledger.set_result(name, "forged")
    return "lied"


_first_loop: list[asyncio.AbstractEventLoop] = []
"""The loop that an async client of this module would be bound to."""


@task
async def has_the_first_loop(x: int) -> bool:
    loop = asyncio.get_running_loop()
    _first_loop.append(loop)
    return loop is _first_loop[0] and not loop.is_closed()


@task
def has_the_first_loop_inside(x: int) -> bool:
    with workflow("inside") as inner:
        has_the_first_loop(task_id="inner", x=x)
        return bool(inner.execute())


@task
def holds_the_interpreter(seconds: int) -> int:
    """Lets no other thread of its process run meanwhile."""
    return int(ctypes.PyDLL(None).sleep(seconds))
