"""What a server refuses for a while is one kind of error, whoever meets it, and is waited for."""

from __future__ import annotations

import pickle
from collections.abc import Iterator

import pytest
import redis
from kombu import Connection

from graflow.exceptions import StoreUnavailableError
from graflow.redis.config import create_redis_client
from graflow.redis.refusals import REFUSALS, RefusedForNowError, for_now, in_a_word, refused
from graflow.redis.scripts import Script
from graflow.runtime import Runtime, persistently
from graflow.state.redis.keys import Keys
from graflow.state.redis.server import Server
from graflow_celery.broker.app import build_app
from graflow_celery.deployment import Deployment
from graflow_celery.errors import TRY_AGAIN, RecordUnreachableError
from graflow_celery.settings import Settings
from tests.refusing_server import RefusingServer, refusing_server

CODES = sorted(REFUSALS)


@pytest.fixture
def server() -> Iterator[RefusingServer]:
    with refusing_server() as made:
        yield made


class NoTime(Runtime):
    """Sleeping takes no time, and is counted."""

    def __init__(self) -> None:
        super().__init__()
        self.slept = 0.0

    def monotonic(self) -> float:
        return self.slept

    def sleep(self, seconds: float) -> None:
        self.slept += seconds


@pytest.mark.parametrize("code", CODES)
def test_our_clients_raise_one_kind_of_error_for_every_code(code: str, server: RefusingServer) -> None:
    with create_redis_client({"url": server.url}) as client:
        server.errors = [f"{code} for a reason"] * 5  # redis-py itself asks again when a server is loading
        with pytest.raises(RefusedForNowError) as caught:
            client.set("key", "value")
    assert caught.value.code == code
    assert isinstance(caught.value, redis.exceptions.RedisError)
    assert isinstance(caught.value, TRY_AGAIN)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("OOM", redis.exceptions.OutOfMemoryError),
        ("READONLY", redis.exceptions.ReadOnlyError),
        ("LOADING", redis.exceptions.BusyLoadingError),
        ("MASTERDOWN", redis.exceptions.MasterDownError),
        ("NOREPLICAS", redis.exceptions.ResponseError),
    ],
)
def test_it_is_also_what_redis_py_calls_it(code: str, kind: type[Exception]) -> None:
    error = refused(code)
    assert isinstance(error, kind)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.code) == (type(error), str(error), code)


@pytest.mark.parametrize(
    "text", ["ERR unknown command", "BUSYKEY Target key name already exists.", "BUSYGROUP exists", "OOMPH", "NOPERM no"]
)
def test_every_other_error_stays_what_it_is(text: str, server: RefusingServer) -> None:
    with create_redis_client({"url": server.url}) as client:
        server.errors = [text]
        with pytest.raises(redis.exceptions.ResponseError) as caught:
            client.set("key", "value")
    assert not isinstance(caught.value, RefusedForNowError)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("OOM command not allowed when used memory > 'maxmemory'. script: 1, on @user_script:9.", "OOM"),
        (
            "ERR Error running script (call to f_1): @user_script:1: -READONLY You can't write against a replica.",
            "READONLY",
        ),
        ("MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.", "MISCONF"),
        ("BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.", "BUSY"),
    ],
)
def test_a_script_on_anybodys_client_tells_the_same(answer: str, code: str, server: RefusingServer) -> None:
    with redis.Redis.from_url(server.url) as client:
        server.errors = [answer]
        with pytest.raises(RefusedForNowError) as caught:
            Script(lambda: "return 1").run(client.execute_command, ["key"])
    assert caught.value.code == code


def test_an_error_of_redis_py_whose_code_is_gone_is_known_by_its_type() -> None:
    found = for_now(redis.exceptions.TryAgainError("Multiple keys request during rehashing of slot"))
    assert found is not None
    assert (found.code, in_a_word(found)) == ("TRYAGAIN", "TRYAGAIN")
    assert for_now(redis.exceptions.NoPermissionError("no")) is None


@pytest.mark.parametrize("code", CODES)
def test_what_is_refused_is_asked_again_until_it_is_granted(code: str, server: RefusingServer) -> None:
    runtime = NoTime()
    with create_redis_client({"url": server.url}) as client:
        server.errors = [f"{code} for a reason"] * 9
        assert persistently(runtime, lambda: client.set("key", "value"))
    assert runtime.slept > 0


def test_patience_ends(server: RefusingServer) -> None:
    with create_redis_client({"url": server.url}) as client:
        server.errors = ["NOREPLICAS Not enough good replicas to write."] * 100
        with pytest.raises(RefusedForNowError):
            persistently(NoTime(), lambda: client.set("key", "value"), patience=5.0)


def test_a_process_that_stands_still_in_one_try_makes_others() -> None:
    # Given a call in which this process is stopped for longer than it is patient, and whose answer is lost then
    runtime = NoTime()
    seconds = iter([60.0, 0.0, 0.0, 0.0])

    def call() -> str:
        if (taken := next(seconds, None)) is None:
            return "answer"
        runtime.sleep(taken)
        raise redis.exceptions.ConnectionError

    assert persistently(runtime, call, patience=30.0) == "answer"


@pytest.mark.parametrize("code", CODES)
def test_a_store_of_flows_that_is_refused_is_unavailable_not_broken(code: str, server: RefusingServer) -> None:
    store = Server({"url": server.url}, Keys("flows"))
    store._is_checked = True
    server.errors = [f"{code} for a reason"] * 5
    with pytest.raises(StoreUnavailableError, match=REFUSALS[code][0]):
        store.call("SET", "key", "value")
    store.close()


@pytest.mark.parametrize("code", CODES)
def test_a_submitter_is_told_what_is_the_matter_with_the_server(code: str) -> None:
    deployment = Deployment(Settings.load({"url": "redis://127.0.0.1:1/0"}))
    fault, remedy = REFUSALS[code]
    with pytest.raises(RecordUnreachableError) as caught, deployment.errors():
        raise refused(code)
    assert str(caught.value) == f"The Redis of record at 127.0.0.1:1/0 {fault}; {remedy}"


@pytest.mark.parametrize("code", CODES)
def test_the_transport_of_workers_connects_again_over_it(code: str, server: RefusingServer) -> None:
    """Celery ends a worker over what is no connection error, and keeps one that is deaf over less."""
    app = build_app(Settings.load({"url": server.url}))
    with app.connection_for_read() as connection:
        assert isinstance(connection, Connection)
        channel = connection.default_channel
        server.errors = [f"{code} for a reason"] * 5
        with pytest.raises(connection.connection_errors) as caught:
            channel.client.llen("queue")
        assert isinstance(caught.value, RefusedForNowError)
