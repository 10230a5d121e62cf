"""The same load as a plain Celery group, under the settings that our workers have: what the record is for."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery

from graflow_celery.broker.app import DEFAULTS
from tests.faults import members

app = Celery("plain", set_as_current=False)
app.conf.update(DEFAULTS)
app.conf.update(
    broker_url=os.environ.get("PLAIN_REDIS_URL", ""),
    result_backend=os.environ.get("PLAIN_REDIS_URL", ""),
    task_default_queue="plain",
    task_ignore_result=False,
)


@app.task(name="plain.work")
def work(item: list[Any]) -> int:
    return members.work.func((item[0], item[1], item[2]))


@app.task(name="plain.held")
def held(item: list[Any]) -> int:
    return members.held.func((item[0], item[1], item[2]))


@app.task(name="plain.poison")
def poison(item: list[Any]) -> int:
    return members.poison.func((item[0], item[1], item[2]))


# The one setting under which plain Celery runs the members of a dead process again.
@app.task(name="plain.poison_again", acks_late=True, reject_on_worker_lost=True)
def poison_again(item: list[Any]) -> int:
    return members.poison.func((item[0], item[1], item[2]))
