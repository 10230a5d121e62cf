"""Names of other packages that are not public and that this one stands on: each is there, and takes what it took."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLACES = {"graflow_celery/broker/transport.py", "graflow/redis/kept_connections.py"}

# By package and class: a name, with its parameters when it is called or overridden.
USED = {
    ("kombu", "kombu.transport.redis:Channel"): [
        "_basic_cancel(consumer_tag)",
        "_brpop_read(**options)",
        "_brpop_start(timeout)",
        "_connparams(asynchronous)",
        "_create_client(asynchronous)",
        "_disconnect_pools()",
        "_do_restore_message(payload, exchange, routing_key, pipe, leftmost)",
        "_get_pool(asynchronous)",
        "_get_subscribe_topics(queue)",
        "_in_poll",
        "_pool",
    ],
    ("kombu", "kombu.transport.redis:QoS"): ["_delivered", "_dirty", "restore_by_tag(tag, client, leftmost)"],
    ("kombu", "kombu.transport.redis:MultiChannelPoller"): ["_on_connection_disconnect(connection)", "poller"],
    ("kombu", "kombu.transport.redis:SentinelChannel"): ["_sentinel_managed_pool(asynchronous)", "_sentinel_manager"],
    ("kombu", "kombu.transport.virtual.base:Message"): ["_raw"],
    ("kombu", "kombu.transport.virtual.base:Transport"): ["_deliver(message, queue)"],
    ("redis", "redis.connection:AbstractConnection"): ["_sock"],
    ("redis", "redis.connection:DefaultParser"): ["parse_error(response)"],
    ("celery", "celery.app.base:Celery"): ["_get_backend()", "_preconf"],
    ("celery", "celery.backends.redis:RedisBackend"): ["_create_client(**params)"],
    ("celery", "celery.worker.request:Request"): [
        "_announce_revoked(reason, terminated, signum, expired)",
        "_eventer",
        "_request_dict",
    ],
    ("prometheus-client", "prometheus_client.metrics:Histogram"): ["_buckets", "_sum", "_upper_bounds"],
}
# What of the standard library is used like that, by its own rules.
OF_PYTHON = {
    *("_config", "_current_process", "_exit", "_get_running_loop", "_getframe", "_identity", "_parent_pid", "_replace"),
}


def changed(package: str, place: str, name: str) -> str | None:
    """What is no longer as it was, in a sentence; None when all of it is."""
    module, _, kind = place.partition(":")
    found = getattr(importlib.import_module(module), kind, None)
    if found is None:
        return f"{package} {version(package)} has no {module}.{kind} any more"
    attribute, _, parameters = name.partition("(")
    if not parameters:
        is_set = any(re.search(rf"self\.{attribute}(: .+)? = ", _source(each)) for each in found.__mro__)
        is_there = hasattr(found, attribute) or is_set or attribute in getattr(found, "__slots__", ())
        return None if is_there else f"{package} {version(package)}: {module}.{kind} has no {attribute} any more"
    method = getattr(found, attribute, None)
    if method is None:
        return f"{package} {version(package)}: {module}.{kind} has no {attribute} any more"
    takes = [
        f"{'**' if each.kind is each.VAR_KEYWORD else ''}{each.name}"
        for each in inspect.signature(method).parameters.values()
        if each.name != "self"
    ]
    if ", ".join(takes) == parameters.rstrip(")"):
        return None
    return (
        f"{package} {version(package)}: {module}.{kind}.{attribute} takes ({', '.join(takes)}) now, not ({parameters}"
    )


def _source(kind: type) -> str:
    try:
        return inspect.getsource(kind)
    except (OSError, TypeError):
        return ""


@pytest.mark.parametrize(
    ("package", "place", "name"),
    [(package, place, name) for (package, place), names in USED.items() for name in names],
)
def test_a_name_that_is_not_public_is_as_it_was(package: str, place: str, name: str) -> None:
    assert changed(package, place, name) is None


def test_what_has_changed_is_named() -> None:
    here = "kombu.transport.redis:Channel"
    at = f"kombu {version('kombu')}"
    assert changed("kombu", here, "_gone") == f"{at}: kombu.transport.redis.Channel has no _gone any more"
    told = changed("kombu", here, "_brpop_start(seconds)")
    assert told == f"{at}: kombu.transport.redis.Channel._brpop_start takes (timeout) now, not (seconds)"


def trees() -> Iterator[tuple[str, ast.Module]]:
    for folder in ("graflow", "graflow_celery"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield str(path.relative_to(ROOT)), ast.parse(path.read_text(encoding="utf-8"))


@cache
def private_names() -> dict[str, set[str]]:
    """The private attributes that are used and that no module of ours makes, and where."""
    made: set[str] = set()
    used: defaultdict[str, set[str]] = defaultdict(set)
    for path, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
                is_own = isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"}
                if isinstance(node.ctx, ast.Store) and is_own:
                    made.add(node.attr)
                else:
                    used[node.attr].add(path)
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                made.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                made.add(node.id)
    return {name: places for name, places in used.items() if name not in made}


def test_every_name_that_is_not_ours_is_listed() -> None:
    listed = {name.partition("(")[0] for names in USED.values() for name in names}
    assert private_names().keys() - OF_PYTHON <= listed


def test_those_of_kombu_and_redis_are_used_where_their_connections_are_kept() -> None:
    theirs = {
        name.partition("(")[0]
        for (package, _), names in USED.items()
        if package in {"kombu", "redis"}
        for name in names
    }
    elsewhere = {name: places - PLACES for name, places in private_names().items() if name in theirs}
    assert not any(elsewhere.values()), elsewhere
