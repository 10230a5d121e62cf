"""A Redis that is found through Sentinel, as broker."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import redis

from graflow.exceptions import ConfigError
from graflow_celery import LocalCluster, TaskWorker, submit
from tests.cluster_support import MEMBERS
from tests.integration import members
from tests.support import wait_until

SERVER = shutil.which("redis-server") or shutil.which("valkey-server")
pytestmark = [pytest.mark.redis, pytest.mark.skipif(SERVER is None, reason="no redis-server that knows --sentinel")]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


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
            server.wait(10)


def test_members_run_over_a_broker_that_sentinel_names(no_workers: LocalCluster, sentinel: int) -> None:
    config: dict[str, Any] = {
        **no_workers.backend_config,
        "broker_url": f"sentinel://127.0.0.1:{sentinel}/0?master_name=mine",
    }
    with TaskWorker(config, imports=[MEMBERS]):
        handle = submit(members.double.map(range(20)), backend_config=config, then=members.total)
        assert handle.results(timeout=30) == [2 * x for x in range(20)]
        assert handle.continuation().results(timeout=30) == [380]


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
