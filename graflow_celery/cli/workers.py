"""Workers and their queues."""

from __future__ import annotations

from typing import Final

import click

from graflow.cli.output import as_json, print_facts
from graflow_celery.cli import facts
from graflow_celery.cli.connection import connection, deployment

_WORKERS: Final = ("worker", "slots", "queues", "modules", "keys", "last_beat")
_QUEUES: Final = ("queue", "messages", "workers", "slots", "oldest")


@click.command()
@as_json
@connection
def workers(as_json: bool, url: str | None, key_prefix: str | None) -> None:
    """List the workers that live, with what they consume and may run."""
    with deployment(url, key_prefix) as here:
        print_facts(_WORKERS, [facts.worker_facts(worker) for worker in facts.workers(here)], as_json=as_json)


@click.command()
@as_json
@connection
def queues(as_json: bool, url: str | None, key_prefix: str | None) -> None:
    """List the queues: messages that wait, and workers that consume them."""
    with deployment(url, key_prefix) as here:
        print_facts(_QUEUES, list(facts.queue_facts(here)), as_json=as_json)
