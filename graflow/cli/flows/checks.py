"""What the doctor looks at in flows and their store."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta

from graflow.cli.findings import Asked, Finding, ok, warning, wrong
from graflow.cli.flows.modules import load_flows
from graflow.exceptions import GraflowError
from graflow.flows.recording.identity import is_gone
from graflow.flows.registry import default_flows
from graflow.flows.waiting.open_questions import open_questions
from graflow.state import StateStore, open_store
from graflow.state.sqlite import SqliteStore

_LONG_QUEUED = 60.0  # seconds
_LONG_OPEN = 86_400.0  # seconds that a question without a deadline may wait before somebody is told


def checks(asked: Asked) -> Iterator[Finding]:
    """The store, and flows in it that nobody runs."""
    try:
        store = open_store(asked.store)
        if isinstance(store, SqliteStore) and not store.path.exists():
            yield ok("store", f"{store.url}: no flow has been run there yet")
            return
        store.initialize()
    except GraflowError as error:
        yield wrong("store", str(error), "name a store that can be used with --store or GRAFLOW_FLOW_STORE")
        return
    try:
        if store.is_persistent:
            yield ok("store", f"{store.url} keeps flows over the end of its server")
        else:
            yield warning(
                "store", f"{store.url} loses its flows with its server", "set appendonly, or name another store"
            )
        load_flows(asked.modules)
        yield from _flows(store)
        yield from _questions(store)
    finally:
        store.close()


def _flows(store: StateStore) -> Iterator[Finding]:
    now = time.time()
    open_now = store.open_flows(at=now)
    known = set(default_flows.names())
    unknown = Counter(record.flow_name for record in open_now if record.flow_name not in known)
    for name, number in sorted(unknown.items()) if known else ():
        yield warning(
            "flows",
            f"{number} open flow{'s' * (number > 1)} '{name}' can be run by nobody that these modules are all of",
            f'start a runner or worker with the module that has @flow("{name}"), or cancel them',
        )
    waiting = [
        record
        for record in open_now
        if (record.owner is None and now - record.fields.get("created_at", now) > _LONG_QUEUED)
        or (record.owner is not None and is_gone(record.owner))
    ]
    if waiting:
        yield warning(
            "flows",
            f"{len(waiting)} flow{'s' * (len(waiting) > 1)} wait for a process, such as {waiting[0].flow_id}",
            "start a program or worker that runs flows of this store, or go on with one: graflow flow resume ID",
        )
    yield ok("flows", f"{len(open_now)} are open")


def _questions(store: StateStore) -> Iterator[Finding]:
    """Questions that nobody has answered: how many, and how old the oldest is."""
    found = open_questions(store)
    if not found:
        return
    now = store.now()
    oldest = min(found, key=lambda question: question.asked_at)
    text = f"{len(found)} are open, the oldest, {oldest.id}, for {timedelta(seconds=int(now - oldest.asked_at))}"
    left = [each for each in found if each.deadline is None and now - each.asked_at > _LONG_OPEN]
    if left:
        yield warning(
            "questions",
            f"{text}; {len(left)} of them have waited for more than a day, and have no deadline",
            f"answer or withdraw them: graflow question show {oldest.id}",
        )
    else:
        yield ok("questions", text)
