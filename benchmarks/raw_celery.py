"""Plain Celery doing the same work, as the measure: no code of this project runs here."""

from __future__ import annotations

import os
from functools import cache

from celery import Celery

app = Celery("raw", broker=os.environ.get("RAW_CELERY_URL"), backend=os.environ.get("RAW_CELERY_URL"))
app.conf.update(task_default_queue="raw", worker_prefetch_multiplier=4, broker_connection_retry_on_startup=True)


@app.task(name="raw.noop")
def noop(number: int) -> int:
    return number


@app.task(name="raw.counted", ignore_result=True)
def counted(number: int, run: str, total: int) -> None:
    """A no-op with the least that a waiter needs to know: its result in a hash and a signal from the last one."""
    client = app.backend.client
    client.hset(f"raw:{run}", str(number), str(number))
    if client.hlen(f"raw:{run}") == total:
        client.rpush(f"raw:{run}:done", "1")


@app.task(name="raw.text")
def text(number: int, size: int) -> str:
    return f"{number:016}" * (size // 16)


@cache
def noise_of(size: int) -> bytes:
    return os.urandom(size)


@app.task(name="raw.noise")
def noise(number: int, size: int) -> bytes:
    return noise_of(size + 100)[number : number + size]


@app.task(name="raw.length")
def length(_number: int, value: bytes | str) -> int:
    return len(value)
