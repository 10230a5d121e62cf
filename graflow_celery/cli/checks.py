"""What the doctor looks at in a deployment: settings, servers, keys, workers, queues, records."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

import redis

from graflow.cli.findings import Asked, Finding, ok, warning, wrong
from graflow.exceptions import GraflowError
from graflow_celery.cli import facts
from graflow_celery.cli.connection import settings
from graflow_celery.deployment import Deployment, deployment_of
from graflow_celery.settings import Settings

_SKEW: Final = 1.0  # seconds between two clocks that are nothing to speak of


def checks(asked: Asked) -> Iterator[Finding]:
    """Settings first; what needs a server that is away is left out."""
    made = settings(asked.url, asked.key_prefix)
    yield from _settings(made)
    deployment = deployment_of(made)
    try:
        deployment.check()
    except GraflowError as error:
        yield wrong("servers", str(error), "start the server, or correct the setting that is named")
        return
    with deployment.errors():
        yield from _server(deployment)
        yield from _workers(deployment)
        yield from _records(deployment)


def _settings(made: Settings) -> Iterator[Finding]:
    named = made.model_fields_set - {"connection"}
    places = sorted({f"{name} from {made.said(name)}" for name in (*named, *made.connection)})
    yield ok("settings", f"redis: {'; '.join(places) or 'all are the defaults'}")
    keys = made.keys
    if keys is None:
        yield warning(
            "keys",
            "There is no signing key: whoever can write to the servers can have workers run code",
            "graflow keygen --out FILE, and GRAFLOW_SIGNING_KEY_FILE=FILE for programs and workers",
        )
    else:
        yield ok("keys", f"Signed by {keys.ids[0]}, verified by {', '.join(keys.ids)}")


def _server(deployment: Deployment) -> Iterator[Finding]:
    where = f"The Redis of record at {deployment.settings.server}"
    try:
        info: Mapping[str, Any] = deployment.client.info()
    except redis.exceptions.NoPermissionError:
        yield warning(
            "servers", f"{where} answers, and its user may not ask INFO", "allow INFO, so that it can be looked at"
        )
        return
    yield ok("servers", f"{where} answers: version {info.get('redis_version')}")
    if not info.get("aof_enabled") and not _saves(deployment.client):
        yield warning("servers", f"{where} keeps nothing over its own end", "set appendonly yes")
    policy = str(info.get("maxmemory_policy", "noeviction"))
    if policy != "noeviction":
        yield warning(
            "servers", f"{where} evicts keys when its memory is full ({policy})", "set maxmemory-policy noeviction"
        )
    seconds, micro = deployment.client.time()
    skew = time.time() - (int(seconds) + int(micro) / 1e6)
    if abs(skew) > _SKEW:
        yield warning(
            "clocks", f"This machine is {skew:+.1f} s from {where[4:]}", "have both machines keep the time (NTP)"
        )


def _saves(client: redis.Redis) -> bool:
    try:
        return any(bool(value) for value in dict(client.config_get("save")).values())
    except redis.exceptions.ResponseError:  # it may not be asked: believed
        return True


def _workers(deployment: Deployment) -> Iterator[Finding]:
    alive = facts.workers(deployment)
    for worker in alive:
        told = worker.info
        modules = ", ".join(told.get("modules", ())) or "no module"
        yield ok(
            "workers",
            f"{worker.worker_id}: {told.get('slots', 1)} slots, {', '.join(told.get('queues', ()))}, {modules}",
        )
        keys = deployment.keys
        if keys is not None and keys.ids[0] not in told.get("keys", ()):
            yield wrong(
                "keys",
                f"Worker {worker.worker_id} does not know key {keys.ids[0]}, with which this program signs",
                "give the worker that key too, and start it again",
            )
    if not alive:
        yield warning("workers", "No worker lives", "celery -A graflow_celery worker --graflow-import MODULE")
    for queue in facts.queue_facts(deployment):
        if not queue["workers"] and (queue["messages"] or alive):
            yield wrong(
                "queues",
                f"Nobody listens to queue {queue['queue']}, where {queue['messages']} messages wait",
                f"start a worker with -Q {queue['queue']}",
            )


def _records(deployment: Deployment) -> Iterator[Finding]:
    runs = facts.listed_runs(deployment)
    unreadable = [run for run in runs if "group_id" not in run]
    for run in unreadable:
        yield wrong(
            "records", f"Run {run['run_id']} is {run['state']}: {run['reason']}", "see graflow runs; submit it anew"
        )
    yield ok("records", f"{len(runs) - len(unreadable)} groups are open")
