"""What is said of a Redis that cannot be reached: what is wrong with it, then which option of the caller to correct."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import CliRunner

from graflow.channels.factory import ChannelFactory
from graflow.channels.redis_channel import RedisChannel
from graflow.cli.main import graflow
from graflow_celery import BrokerUnreachableError, RecordUnreachableError, RedisTaskQueue, submit
from tests.integration import members
from tests.support import PrivateRedis, free_port

pytestmark = pytest.mark.redis

PASSWORD = "hunter2"
GIVEN = "backend_config['url']"
OPENSSL = shutil.which("openssl")


@pytest.fixture(scope="module")
def guarded() -> Iterator[PrivateRedis]:
    server = PrivateRedis(password=True)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a certificate that nobody signed, and its key."""
    if OPENSSL is None:
        pytest.skip("openssl is not installed, so there is no certificate to serve")
    folder = tmp_path_factory.mktemp("tls")
    request = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "cert.pem", "-days", "2")
    subprocess.run(
        [OPENSSL, *request, "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    return folder


@contextmanager
def answering(serve: Callable[[socket.socket], object]) -> Iterator[int]:
    """The port of a server that does this with every line that is opened to it."""

    def accept() -> None:
        while True:
            with suppress(OSError, ssl.SSLError):
                line, _ = listener.accept()
                with line:
                    serve(line)
            if listener.fileno() < 0:
                return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(60)


@pytest.fixture
def over_tls(certificate: Path) -> Iterator[int]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")

    def serve(line: socket.socket) -> None:
        with context.wrap_socket(line, server_side=True) as inner:
            inner.recv(1024)

    with answering(serve) as port:
        yield port


def refused(config: dict[str, Any], error: type[Exception] = RecordUnreachableError) -> str:
    """What a submitter is told; the password is nowhere in it."""
    with pytest.raises(error) as caught:
        submit(members.noop.map([1]), backend_config=config)
    assert PASSWORD not in str(caught.value)
    assert PASSWORD not in str(caught.getrepr(style="long"))
    return str(caught.value)


def test_nothing_listens() -> None:
    port = free_port()
    begin = f"The Redis of record at 127.0.0.1:{port}/0 does not answer: nothing listens there; start it, or correct "
    assert refused({"url": f"redis://:{PASSWORD}@127.0.0.1:{port}/0"}) == begin + GIVEN
    said = refused({"host": "127.0.0.1", "port": port})
    assert said == f"{begin}backend_config['host'] or backend_config['port']"


def test_no_such_socket(tmp_path: Path) -> None:
    assert refused({"unix_socket_path": str(tmp_path / "none.sock")}) == (
        f"The Redis of record at {tmp_path}/none.sock does not answer: there is no such socket; "
        "start it, or correct backend_config['unix_socket_path']"
    )


def test_an_unknown_host() -> None:
    begin = "The Redis of record at redis.invalid:6379/0 does not answer: there is no host of that name; correct "
    assert refused({"url": f"redis://:{PASSWORD}@redis.invalid/0"}) == begin + GIVEN
    assert refused({"host": "redis.invalid"}) == f"{begin}backend_config['host']"


def test_a_wrong_password_and_none(guarded: PrivateRedis) -> None:
    begin = f"The Redis of record at 127.0.0.1:{guarded.port}/0 refuses the username or password"
    place = {"host": "127.0.0.1", "port": guarded.port}
    assert refused({"url": f"redis://:{PASSWORD}@127.0.0.1:{guarded.port}/0"}) == f"{begin}; correct {GIVEN}"
    assert refused({**place, "password": PASSWORD}) == f"{begin}; correct backend_config['password']"
    assert refused(place) == f"{begin}, and none is given; correct backend_config['password']"


def test_tls_for_a_server_without_it(redis_server: PrivateRedis) -> None:
    begin = f"The Redis of record at 127.0.0.1:{redis_server.port}/0 does not answer: it speaks no TLS; "
    said = refused({"url": f"rediss://:{PASSWORD}@127.0.0.1:{redis_server.port}/0"})
    assert said == f"{begin}write redis:// for rediss:// in {GIVEN}"
    said = refused({"host": "127.0.0.1", "port": redis_server.port, "ssl": True})
    assert said == f"{begin}leave backend_config['ssl'] out"


def test_a_server_that_speaks_tls_only(over_tls: int) -> None:
    begin = f"The Redis of record at 127.0.0.1:{over_tls}/0 does not answer: it speaks TLS only; "
    said = refused({"url": f"redis://:{PASSWORD}@127.0.0.1:{over_tls}/0"})
    assert said == f"{begin}write rediss:// for redis:// in {GIVEN}"
    assert refused({"host": "127.0.0.1", "port": over_tls}) == f"{begin}set backend_config['ssl'] to True"


def test_a_certificate_that_nobody_signed(over_tls: int) -> None:
    said = refused({"url": f"rediss://:{PASSWORD}@127.0.0.1:{over_tls}/0"})
    assert said.replace("self signed", "self-signed") == (
        f"The Redis of record at 127.0.0.1:{over_tls}/0 does not answer: its certificate is not accepted "
        f"(self-signed certificate); name its authority by backend_config['ssl_ca_certs'], or correct {GIVEN}"
    )


def test_a_silent_server_and_one_that_is_no_redis() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        assert refused({"url": f"redis://127.0.0.1:{port}/0"}) == (
            f"The Redis of record at 127.0.0.1:{port}/0 does not answer: it is silent; "
            f"look for a firewall on the way, or correct {GIVEN}"
        )
    with answering(lambda line: line.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as port:
        said = refused({"url": f"redis://127.0.0.1:{port}/0"})
    assert said == f"What answers at 127.0.0.1:{port}/0 is no Redis (InvalidResponse); correct {GIVEN}"


def test_the_option_is_named_as_the_caller_gave_it(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    begin = f"The Redis of record at 127.0.0.1:{port}/0 does not answer: nothing listens there; start it, or correct "
    shown = CliRunner().invoke(graflow, ["runs", "--url", f"redis://127.0.0.1:{port}/0"])
    assert shown.output == f"Error: {begin}--url\n"
    monkeypatch.setenv("GRAFLOW_HOST", "127.0.0.1")
    monkeypatch.setenv("GRAFLOW_PORT", str(port := free_port()))
    begin = f"The Redis of record at 127.0.0.1:{port}/0 does not answer: nothing listens there; start it, or correct "
    assert refused({}) == f"{begin}GRAFLOW_HOST or GRAFLOW_PORT"
    monkeypatch.setenv("GRAFLOW_REDIS_URL", f"redis://127.0.0.1:{(port := free_port())}/0")
    begin = f"The Redis of record at 127.0.0.1:{port}/0 does not answer: nothing listens there; start it, or correct "
    assert refused({}) == f"{begin}GRAFLOW_REDIS_URL"


def test_a_broker_is_named_with_its_own_option(config: dict[str, Any], guarded: PrivateRedis) -> None:
    port = free_port()
    dead = {**config, "broker_url": f"redis://:{PASSWORD}@127.0.0.1:{port}/3"}
    with pytest.raises(BrokerUnreachableError) as caught:
        RedisTaskQueue(backend_config={**dead, "queue": "q"}).size()
    assert str(caught.value) == (
        f"The broker of queue 'q' at 127.0.0.1:{port}/3 does not answer: nothing listens there; "
        "start it, or correct backend_config['broker_url']"
    )
    closed = {**config, "broker_url": f"redis://:{PASSWORD}@127.0.0.1:{guarded.port}/3"}
    assert refused(closed, BrokerUnreachableError) == (
        f"The broker at 127.0.0.1:{guarded.port}/3 refuses the username or password; "
        "correct backend_config['broker_url']"
    )
    with pytest.raises(BrokerUnreachableError) as caught:
        RedisTaskQueue(backend_config={**config, "broker_url": f"amqp://guest:{PASSWORD}@127.0.0.1:{port}//"}).size()
    assert str(caught.value) == (
        f"The broker of queue '{config.get('queue', 'graflow')}' at amqp://guest:**@127.0.0.1:{port}// "
        "does not answer: nothing listens there; start it, or correct backend_config['broker_url']"
    )


def test_a_channel_says_the_same_by_errors_of_the_types_of_its_client(
    guarded: PrivateRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    begin = f"The Redis at 127.0.0.1:{port}/0 does not answer: nothing listens there; start it, or correct "
    for operation in (
        lambda channel: channel.set("k", 1),
        lambda channel: channel.set_many({"k": 1}),
        lambda channel: channel.keys(),
        lambda channel: channel.ping(),
    ):
        with pytest.raises(redis.exceptions.ConnectionError) as caught:
            operation(RedisChannel("c", url=f"redis://:{PASSWORD}@127.0.0.1:{port}/0"))
        assert str(caught.value) == f"{begin}its url"
    with pytest.raises(redis.exceptions.AuthenticationError) as caught:
        RedisChannel("c", host="127.0.0.1", port=guarded.port, password=PASSWORD).get("k")
    assert str(caught.value) == (
        f"The Redis at 127.0.0.1:{guarded.port}/0 refuses the username or password; correct its password"
    )
    monkeypatch.setenv("GRAFLOW_REDIS_URL", f"redis://127.0.0.1:{port}/0")
    with pytest.raises(redis.exceptions.ConnectionError) as caught:
        ChannelFactory.create_channel("redis", "c").get("k")
    assert str(caught.value) == f"{begin}GRAFLOW_REDIS_URL"
