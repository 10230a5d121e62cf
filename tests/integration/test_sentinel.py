"""A Redis that is found through Sentinel, as broker and as Redis of record."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import redis

from graflow.core.branches.outcome import BranchOutcome
from graflow.exceptions import ConfigError
from graflow_celery import BrokerUnreachableError, LocalCluster, RecordUnreachableError, TaskWorker, attach, submit
from graflow_celery.broker.app import build_app
from graflow_celery.broker.transport import SentinelTransport
from graflow_celery.deployment import deployment_of
from graflow_celery.record import GrantedMember, MemberState
from graflow_celery.settings import Settings
from graflow_celery.wire.outcomes import pack_outcome, report_of
from graflow_celery.wire.seal import RunSeal
from tests.cluster_support import MEMBERS
from tests.integration import members
from tests.support import free_port, wait_until

SERVER = shutil.which("redis-server") or shutil.which("valkey-server")
pytestmark = [pytest.mark.redis, pytest.mark.skipif(SERVER is None, reason="no redis-server that knows --sentinel")]


def is_master_known(port: int) -> bool:
    with suppress(redis.exceptions.RedisError), redis.Redis(port=port, decode_responses=True) as client:
        return bool(client.sentinel_get_master_addr_by_name("mine"))
    return False


@pytest.fixture
def sentinel(tmp_path: Path) -> Iterator[int]:
    """The port of a Sentinel that watches a server of its own under the name `mine`."""
    port, watching = free_port(), free_port()
    file = tmp_path / "sentinel.conf"
    file.write_text(f"port {watching}\nbind 127.0.0.1\nsentinel monitor mine 127.0.0.1 {port} 1\n", encoding="utf-8")
    arguments = [
        [SERVER, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)],
        [SERVER, str(file), "--sentinel"],
    ]
    servers = [subprocess.Popen(each, stdout=subprocess.DEVNULL) for each in arguments]
    try:
        wait_until(lambda: is_master_known(watching))
        yield watching
    finally:
        for server in servers:
            server.terminate()
            server.wait(60)


def test_members_run_over_a_broker_that_sentinel_names(no_workers: LocalCluster, sentinel: int) -> None:
    config: dict[str, Any] = {
        **no_workers.backend_config,
        "broker_url": f"sentinel://127.0.0.1:{sentinel}/0?master_name=mine",
    }
    with TaskWorker(config, imports=[MEMBERS]):
        handle = submit(members.double.map(range(20)), backend_config=config, then=members.total)
        assert handle.results(timeout=120) == [2 * x for x in range(20)]
        assert handle.continuation().results(timeout=120) == [380]


def test_the_record_may_be_on_a_server_that_sentinel_names(no_workers: LocalCluster, sentinel: int) -> None:
    config = {
        "url": f"sentinel://127.0.0.1:{sentinel}/2?master_name=mine",
        "signing_key": no_workers.backend_config["signing_key"],
    }
    with TaskWorker(config, imports=[MEMBERS]):
        handle = submit(members.double.map([3, 4]), backend_config=config, then=members.total)
        assert handle.results(timeout=120) == [6, 8]
        assert attach(handle.run_id, config).continuation().results(timeout=120) == [14]
        assert submit([members.nested(1, 3, config)], backend_config=config).results(timeout=120) == [None]


def test_outcomes_that_a_failover_lost_are_entered_again(no_workers: LocalCluster) -> None:
    config = no_workers.backend_config
    handle = submit(members.double.map(range(4)), backend_config=config)
    record = deployment_of(config).record
    record.claim(handle.run_id, range(4), "someone")
    keys = [*record.keys.of_run(handle.run_id), record.keys.deployment("runs")]
    before = {key: record.client.dump(key) for key in keys if record.client.exists(key)}

    report(config, handle.run_id, [2, 0])
    reading = handle.as_completed(timeout=120)
    assert [next(reading).index, next(reading).index] == [2, 0]

    # The server that takes over has not heard of these outcomes.
    record.client.delete(*keys)
    for key, value in before.items():
        record.client.restore(key, 0, value, replace=True)
    report(config, handle.run_id, [1])
    assert next(reading).index == 1
    assert {outcome.index for outcome in record.outcomes(handle.run_id)} == {0, 1, 2}, "nothing runs a second time"
    report(config, handle.run_id, [3])
    assert handle.results(timeout=120) == [0, 2, 4, 6]


def test_outcomes_that_came_again_in_another_order_are_read(no_workers: LocalCluster) -> None:
    config = no_workers.backend_config
    handle = submit(members.double.map(range(4)), backend_config=config)
    record = deployment_of(config).record
    record.claim(handle.run_id, range(4), "someone")
    report(config, handle.run_id, [0, 1])
    reading = handle.as_completed(timeout=120)
    assert [next(reading).index, next(reading).index] == [0, 1]

    # As if the first two had been lost, and had run again after the others.
    order = record.keys.run(handle.run_id, "order")
    record.client.delete(order)
    record.client.rpush(order, 2, 3)
    report(config, handle.run_id, [2, 3])
    record.client.ltrim(order, 0, 1)
    record.client.rpush(order, 0, 1)
    assert handle.results(timeout=120) == [0, 2, 4, 6]


def report(config: dict[str, Any], run_id: str, indices: Sequence[int]) -> None:
    """Record members of `double` as the worker that claimed them does."""
    deployment = deployment_of(config)
    seal = RunSeal(deployment.keys, deployment.record.header(run_id).spec)
    for index in indices:
        packed = pack_outcome(BranchOutcome(task_id=f"double[{index}]", success=True, value=2 * index))
        done = report_of(seal, GrantedMember(index, 1, 0, 0, b""), MemberState.SUCCEEDED, packed)
        deployment.record.complete(run_id, "someone", [done])


def test_several_sentinels_cost_a_broker_neither_its_login_nor_its_priorities(config: dict[str, Any]) -> None:
    url = "sentinel://:between-us@one:1/4;sentinel://two:2?master_name=mine"
    app = build_app(Settings.load({**config, "broker_url": url}))
    with app.connection_for_write() as connection:
        for _ in range(2):
            assert isinstance(connection.transport, SentinelTransport)
            assert (connection.password, connection.virtual_host) == ("between-us", "4")
            connection.maybe_switch_next()
    assert app.conf.broker_transport_options["sentinels"] == ["one:1", "two:2"]


def test_the_name_of_the_master_may_stand_in_celeryconfig(
    no_workers: LocalCluster, sentinel: int, tmp_path: Path
) -> None:
    lines = ["broker_transport_options = {'master_name': 'mine'}", f"broker_url = 'sentinel://127.0.0.1:{sentinel}/0'"]
    (tmp_path / "celeryconfig.py").write_text("\n".join(lines), encoding="utf-8")
    code = "from graflow_celery import app; print(app.conf.broker_transport_options, app.conf.broker_url)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "'master_name': 'mine'" in done.stdout
    assert "global_keyprefix" in done.stdout


def test_sentinel_without_the_name_of_its_master_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="master_name=mymaster"):
        submit(members.noop.map([1]), backend_config={**config, "broker_url": "sentinel://127.0.0.1:26379/0"})


def test_a_sentinel_that_refuses_its_password_is_named(no_workers: LocalCluster, sentinel: int) -> None:
    with redis.Redis(port=sentinel) as client:
        client.execute_command("ACL", "SETUSER", "default", "resetpass", ">between-us")
    named = f"Sentinel 127.0.0.1:{sentinel} refuses the username or password"
    for password in ("", "&sentinel_password=hunter2"):
        url = f"sentinel://127.0.0.1:{sentinel}/0?master_name=mine{password}"
        with pytest.raises(RecordUnreachableError, match=named) as record:
            submit(members.noop.map([1]), {"url": url})
        with pytest.raises(BrokerUnreachableError, match=named) as broker:
            submit(members.noop.map([1]), {**no_workers.backend_config, "broker_url": url})
        assert "hunter2" not in f"{record.value} {broker.value}"
    url = f"sentinel://127.0.0.1:{sentinel}/0?master_name=another&sentinel_password=between-us"
    with pytest.raises(RecordUnreachableError, match="MasterNotFoundError"):
        submit(members.noop.map([1]), {"url": url})
