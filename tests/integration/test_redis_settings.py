from __future__ import annotations

import asyncio
import os
import pickle
import shutil
import subprocess
import time
import warnings

import pytest
import redis
import redis.asyncio

from graflow.exceptions import ConfigError
from graflow.redis.config import (
    create_redis_client,
    extract_redis_config,
    normalize_redis_config,
    redis_url,
    shared_client,
)
from tests.support import free_port, private_redis

pytestmark = pytest.mark.redis

PASSWORD = "hunter2 / @:#"


@pytest.fixture(scope="module")
def protected():
    with private_redis(password=PASSWORD) as server:
        yield server


def _forms(server, parameters):
    """The ways to name one server."""
    client = redis.Redis(**parameters)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return [
            parameters,
            extract_redis_config(client),
            normalize_redis_config({"redis_client": client}),
            {"url": redis_url(parameters)},
        ]


def test_every_form_of_settings_reaches_a_server_with_a_password(protected):
    parameters = {**protected.connection, "db": 3}
    protected.client(db=3).set("place", "here")
    for form in _forms(protected, parameters):
        with create_redis_client(form) as client:
            assert client.get("place") == b"here"
        assert shared_client(form, decode_responses=True).get("place") == "here"


def test_a_user_of_the_access_list_keeps_exactly_its_rights(protected):
    protected.client().acl_setuser("reader", enabled=True, passwords=["+" + PASSWORD], commands=["+get"], keys=["*"])
    parameters = {**protected.connection, "username": "reader"}
    for form in _forms(protected, parameters):
        with create_redis_client(form) as client:
            assert client.get("missing") is None
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.set("k", 1)


def test_every_form_of_settings_reaches_a_unix_socket():
    with private_redis(password=PASSWORD, unix_socket=True) as server:
        for form in _forms(server, server.connection):
            with create_redis_client(form) as client:
                assert client.ping()


def test_an_asyncio_client_and_a_valkey_client_lead_to_the_same_server(protected):
    valkey = pytest.importorskip("valkey")
    run_id = protected.client().info("server")["run_id"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        asynchronous = redis.asyncio.Redis(**protected.connection)
        found = [extract_redis_config(asynchronous), extract_redis_config(valkey.Valkey(**protected.connection))]
        asyncio.run(asynchronous.aclose())
    for config in found:
        with create_redis_client(config) as client:
            assert client.info("server")["run_id"] == run_id


def test_a_wrong_password_fails_quickly_and_is_not_shown(protected):
    for config in (
        {**protected.connection, "password": "hunter2 wrong"},
        {"url": f"redis://:hunter2wrong@127.0.0.1:{protected.port}"},
    ):
        started = time.monotonic()
        with pytest.raises(redis.exceptions.AuthenticationError) as caught:
            create_redis_client(config).ping()
        assert time.monotonic() - started < 20
        assert "hunter2" not in repr(caught.value)


def test_settings_from_a_pickle_reach_the_server_with_the_password_of_the_environment(protected, monkeypatch):
    monkeypatch.delenv("GRAFLOW_REDIS_PASSWORD", raising=False)
    data = pickle.dumps(normalize_redis_config(protected.connection))
    assert b"hunter2" not in data
    with pytest.raises(ConfigError, match="GRAFLOW_REDIS_PASSWORD"):
        create_redis_client(pickle.loads(data))
    monkeypatch.setenv("GRAFLOW_REDIS_PASSWORD", PASSWORD)
    assert create_redis_client(pickle.loads(data)).ping()


def test_a_forked_child_talks_over_a_connection_of_its_own(protected):
    client = shared_client(protected.connection)
    own = client.client_id()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, str(shared_client(protected.connection).client_id()).encode())
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert int(os.read(reading, 100)) != own
    assert client.client_id() == own
    os.close(reading)
    os.close(writing)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed, so there is no certificate to serve")
    place = tmp_path_factory.mktemp("tls")
    key, cert = place / "key.pem", place / "cert.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(key), "-out", str(cert)]
    subprocess.run([*command, "-days", "2", *subject], check=True, capture_output=True)
    return str(key), str(cert)


@pytest.fixture(scope="module")
def tls_port(certificate):
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("redis-server is not installed; the embedded server has no TLS")
    key, cert = certificate
    port = free_port()
    files = ["--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", cert, "--tls-auth-clients", "no"]
    try:
        with private_redis(password=PASSWORD, binary=binary, options=["--tls-port", str(port), *files]):
            yield port
    except RuntimeError:
        pytest.skip("redis-server here was built without TLS")


def test_every_form_of_settings_reaches_a_server_with_tls(tls_port, certificate):
    parameters = {
        "host": "localhost",
        "port": tls_port,
        "password": PASSWORD,
        "ssl": True,
        "ssl_ca_certs": certificate[1],
    }
    for form in _forms(None, parameters):
        with create_redis_client(form) as client:
            assert client.ping()


def test_a_certificate_that_nobody_vouches_for_is_refused_unless_checks_are_off(tls_port):
    unchecked = {"host": "localhost", "port": tls_port, "password": PASSWORD, "ssl": True, "ssl_cert_reqs": "none"}
    checked = {**unchecked, "ssl_cert_reqs": "required"}
    with pytest.raises(redis.exceptions.ConnectionError, match="certificate"):
        create_redis_client({**checked, "socket_timeout": 1}).ping()
    for form in _forms(None, {**unchecked, "ssl_check_hostname": False}):
        with create_redis_client(form) as client:
            assert client.ping()
