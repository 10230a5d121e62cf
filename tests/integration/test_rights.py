"""Users of Redis that may do little: what is enough works, and what is missing is said before anything is written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from graflow.exceptions import ConfigError
from graflow.state import open_store
from graflow_celery import TaskWorker, attach, submit
from graflow_celery.broker.app import app_for
from graflow_celery.deployment import Deployment
from graflow_celery.record.scripts import LUA
from graflow_celery.record.server import rights
from graflow_celery.settings import Settings
from tests.integration import members
from tests.support import PrivateRedis, private_redis

pytestmark = pytest.mark.redis

FEW = ("~graflow:*", "&graflow*", "+@all", "-@dangerous")


@pytest.fixture(scope="module")
def server() -> Iterator[PrivateRedis]:
    with private_redis() as running:
        yield running


def url_of(server: PrivateRedis, *granted: str) -> str:
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "app", "reset", "on", ">pw", *granted)
    return f"redis://app:pw@{server.host}:{server.port}/0"


def deployment_as(server: PrivateRedis, *granted: str, broker: str | None = None) -> Deployment:
    return Deployment(Settings.load({"url": url_of(server, *granted), "broker_url": broker}))


@pytest.mark.parametrize(
    ("granted", "missing"),
    [
        (("~graflow:*", "+@all"), "&graflow:*"),
        (("~graflow:*", "&graflow*", "+@read", "+@connection"), "+multi"),
        (("~other:*", "&graflow*", "+@all", "-hset", "-xadd"), "+hset +xadd ~graflow:*"),
        (("~*", "&*", "+@all", "-@scripting"), "+eval +evalsha"),
        (("~*", "&*", "+@all", "-@blocking"), "+brpop +xread"),
    ],
    ids=["channels", "reading", "keys and commands", "scripts", "broker"],
)
def test_the_rights_that_are_missing_are_named_before_anything_is_written(
    server: PrivateRedis, granted: tuple[str, ...], missing: str
) -> None:
    deployment = deployment_as(server, *granted)
    with pytest.raises(ConfigError, match=re.escape(f"lacks rights that groups need: ACL SETUSER app {missing}") + "$"):
        deployment.check()
    with pytest.raises(ConfigError, match=re.escape(missing)):
        submit(members.double.map([1]), backend_config={"url": url_of(server, *granted)})
    with server.client() as client:
        assert client.keys() == []


def test_what_only_a_broker_needs_is_not_asked_for_where_messages_go_elsewhere(server: PrivateRedis) -> None:
    granted = ("~graflow:*", "resetchannels", "+@all", "-multi", "-brpop", "-publish")
    deployment_as(server, *granted, broker="amqp://localhost//").check(works=True)


def test_whoever_may_only_read_may_look(server: PrivateRedis) -> None:
    handle = submit(members.double.map([1]), backend_config={"url": server.url})
    reader = {"url": url_of(server, "~graflow:*", "+@read", "+@connection", "+time", "+evalsha", "+eval")}
    assert attach(handle.run_id, reader).status().total == 1
    handle.cancel()
    with server.client() as client:
        client.flushall()


def test_every_command_of_the_scripts_is_among_those_that_are_asked_for() -> None:
    texts = [path.read_text(encoding="utf-8") for path in LUA.glob("*.lua")]
    used = {name for text in texts for name in re.findall(r"(?:redis\.p?call|each|fetch)\('([A-Z]+)'", text)}
    asked = {line.split()[0] for line in (*rights.ON_A_KEY, *rights.ON_TWO_KEYS, *rights.ON_NO_KEY)}
    assert used <= asked


@pytest.mark.slow
def test_a_user_of_one_prefix_without_dangerous_commands_runs_groups(server: PrivateRedis, tmp_path: Path) -> None:
    config = {"url": url_of(server, *FEW)}
    with TaskWorker(config, imports=[members.__name__], quiet=True) as worker:
        handle = submit(members.double.map([1, 2]), backend_config=config, then=members.total_elsewhere)
        assert handle.results(timeout=60) == [2, 4]
        assert worker.is_alive()
        # Remote control comes by channels, which such a user has by their names.
        answers = app_for(Settings.load(config)).control.inspect(timeout=30, limit=1).ping()
        assert answers == {worker.name: {"ok": "pong"}}
        handle.cancel()


def test_a_store_of_flows_is_kept_where_the_user_may_not_ask_how_the_server_is_set_up(server: PrivateRedis) -> None:
    store = open_store(url_of(server, "~{graflow:flows}*", "+@all", "-@dangerous"))
    try:
        assert store.get_flow_state("nothing") is None
    finally:
        store.close()
    with server.client() as client:
        client.flushall()


def test_rights_that_are_taken_away_later_are_named_as_well(server: PrivateRedis) -> None:
    config = {"url": url_of(server, *FEW)}
    deployment = Deployment(Settings.load(config))
    deployment.check()
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "app", "-hset")
    with pytest.raises(ConfigError, match=r"The user of the Redis at .* may not do this: .*hset"), deployment.errors():
        deployment.record.workers.beat("w", {})
    with server.client() as client:
        client.flushall()
