"""Servers with TLS, behind a Unix socket, and with users: real workers reach broker and record, and show no secret."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import redis

from graflow.redis.config import create_redis_client, redis_url
from graflow_celery import submit
from tests.cluster_support import MEMBERS
from tests.faults.harness import Cluster, cluster
from tests.integration import members
from tests.support import PrivateRedis, free_port, private_redis, wait_until

pytestmark = pytest.mark.redis

PASSWORD = "hunter2 / @:#"
OPENSSL = shutil.which("openssl")
SERVER_FILES = {"cert-file": "server.pem", "key-file": "server.key", "ca-cert-file": "ca.pem"}
SERVER = shutil.which("redis-server")


def works(running: Cluster, connection: dict[str, Any]) -> str:
    """Submit over a connection, have a worker of that URL run it; returns what the worker logged, at DEBUG."""
    running.worker_url = redis_url(connection).reveal()
    worker = running.start(1, concurrency=1, imports=[MEMBERS], options=["--loglevel", "DEBUG"])[0]
    config = {**connection, "signing_key": running.key}
    handle = submit(members.double.map(range(6)), backend_config=config, then=members.total)
    assert handle.results(timeout=120) == [0, 2, 4, 6, 8, 10]
    assert handle.continuation().results(timeout=120) == [30]
    assert submit([members.nested(1, 2, config)], backend_config=config).results(timeout=120) == [None]

    mark = running.folder / "end"
    blocking = submit(members.held.map([str(mark)]), backend_config=config)
    wait_until(lambda: blocking.status().running)
    late = submit(members.stamp.map(range(3)), backend_config={**config, "batch_size": 1})
    soon = submit(members.urgent.map(range(3)), backend_config=config)
    mark.touch()
    assert max(soon.results(timeout=120)) < min(late.results(timeout=120)), "higher priorities first, as with any Redis"
    running.stop()
    return worker.log


@pytest.mark.slow
def test_a_worker_reaches_a_server_over_a_unix_socket(tmp_path: Path) -> None:
    with (
        private_redis(password=PASSWORD, unix_socket=True) as server,
        cluster(tmp_path, workers=0, server=server) as running,
    ):
        assert "hunter2" not in works(running, server.connection)


@pytest.mark.slow
def test_a_worker_and_a_submitter_log_in_as_a_user_of_the_access_list(tmp_path: Path) -> None:
    with (
        private_redis(password="of-the-default-user") as server,
        cluster(tmp_path, workers=0, server=server) as running,
    ):
        server.client().acl_setuser(
            "graflow", enabled=True, passwords=["+" + PASSWORD], categories=["+@all"], keys=["*"], channels=["*"]
        )
        log = works(running, {**server.connection, "username": "graflow", "password": PASSWORD})
        users = {client["user"] for client in server.client().client_list()} - {"default"}
    assert users <= {"graflow"}
    assert "hunter2" not in log


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an authority, a server's certificate, and a client's with an encrypted key."""
    if OPENSSL is None:
        pytest.skip("openssl is not installed, so there is no certificate to serve")
    folder = tmp_path_factory.mktemp("tls")

    def run(*arguments: str) -> None:
        subprocess.run([str(OPENSSL), *arguments], cwd=folder, check=True, capture_output=True)

    days = ("-days", "2")
    run(
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ca", *days
    )
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n", encoding="utf-8")
    for name, encryption in (("server", ["-nodes"]), ("client", ["-passout", "pass:of-the-key"])):
        request = ("-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        run("req", "-newkey", "rsa:2048", *encryption, *request)
        signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names")
        run("x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", *signed, *days)
    return folder


@pytest.fixture(scope="module")
def tls_server(certificates: Path) -> Iterator[tuple[PrivateRedis, int]]:
    """A server that wants a certificate of each client, and its port for TLS."""
    if SERVER is None:
        pytest.skip("redis-server is not installed; the embedded server has no TLS")
    port = free_port()
    options = [part for name, file in SERVER_FILES.items() for part in (f"--tls-{name}", str(certificates / file))]
    try:
        with private_redis(
            password=PASSWORD, binary=SERVER, options=["--tls-port", str(port), *options, "--tls-auth-clients", "yes"]
        ) as server:
            yield server, port
    except RuntimeError:
        pytest.skip("redis-server here was built without TLS")


def tls_of(certificates: Path) -> dict[str, Any]:
    """How to reach a server with TLS that wants both a certificate and a password."""
    return {
        "password": PASSWORD,
        "ssl": True,
        "ssl_ca_certs": str(certificates / "ca.pem"),
        "ssl_certfile": str(certificates / "client.pem"),
        "ssl_keyfile": str(certificates / "client.key"),
        "ssl_password": "of-the-key",
    }


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"ssl_min_version": 772},
        {"ssl_ciphers": "ECDHE+AESGCM", "ssl_check_hostname": True},
        {"ssl_cert_reqs": "none", "ssl_check_hostname": False, "ssl_ca_certs": None},
    ],
    ids=lambda more: ", ".join(more) or "plain",
)
def test_tls_settings_reach_the_record_and_the_broker_of_both_sides(
    tmp_path: Path, certificates: Path, tls_server: tuple[PrivateRedis, int], more: dict[str, Any]
) -> None:
    server, port = tls_server
    connection = {"host": "localhost", "port": port, **tls_of(certificates), **more}
    with cluster(tmp_path, workers=0, server=server) as running:
        log = works(running, {name: value for name, value in connection.items() if value is not None})
    assert "hunter2" not in log
    assert "of-the-key" not in log


def test_a_worker_reaches_servers_with_tls_that_a_sentinel_with_tls_and_a_password_names(
    tmp_path: Path, certificates: Path, tls_server: tuple[PrivateRedis, int]
) -> None:
    server, port = tls_server
    watching = free_port()
    lines = [
        *("port 0", f"tls-port {watching}", "bind 127.0.0.1", f"dir {tmp_path}", "tls-replication yes"),
        *(f"tls-{name} {certificates / file}" for name, file in SERVER_FILES.items()),
        *("requirepass of-the-sentinel", f"sentinel monitor mine 127.0.0.1 {port} 1"),
        f'sentinel auth-pass mine "{PASSWORD}"',
    ]
    (tmp_path / "sentinel.conf").write_text("\n".join(lines), encoding="utf-8")
    connection = {
        **tls_of(certificates),
        "sentinels": [f"127.0.0.1:{watching}"],
        "master_name": "mine",
        "sentinel_password": "of-the-sentinel",
    }
    process = subprocess.Popen([str(SERVER), str(tmp_path / "sentinel.conf"), "--sentinel"], stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: answers(connection), message="the Sentinel knows the master")
        with cluster(tmp_path, workers=0, server=server) as running:
            log = works(running, connection)
    finally:
        process.kill()
        process.wait(60)
    assert not any(secret in log for secret in ("hunter2", "of-the-key", "of-the-sentinel"))


def answers(connection: dict[str, Any]) -> bool:
    with suppress(redis.exceptions.RedisError), create_redis_client(connection) as client:
        return bool(client.ping())
    return False
