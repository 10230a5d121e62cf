"""What is said of a Redis that cannot be reached, from the error alone; with servers: `test_unreachable_servers.py`."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from graflow.redis.diagnosis import told, why_unreachable
from graflow_celery.settings import backend_config_key

URL = {"url": "redis://127.0.0.1:1/0"}
SENTINEL = {"sentinels": ["127.0.0.1:1"], "master_name": "main"}


def raised(error: Exception, by: Exception) -> Exception:
    """An error as its client raises it: while another one is handled."""
    try:
        try:
            raise by
        except Exception:
            raise error  # noqa: B904 - as redis-py does
    except Exception as caught:
        return caught


@pytest.mark.parametrize(
    ("connection", "error", "words"),
    [
        (
            {},
            raised(redis.ConnectionError(), ConnectionRefusedError()),
            (
                "R at localhost:6379/0 does not answer: nothing listens there; start it, or set GRAFLOW_REDIS_URL, "
                "without which redis://localhost:6379/0 is taken"
            ),
        ),
        (
            SENTINEL,
            redis.sentinel.MasterNotFoundError("No master found for 'main'"),
            (
                "R at main/0 of Sentinel 127.0.0.1:1 does not answer: no Sentinel that answers knows this master; "
                "start them, or correct backend_config['sentinels'] or backend_config['master_name']"
            ),
        ),
        (
            {"unix_socket_path": "/run/redis.sock"},
            raised(redis.ConnectionError(), PermissionError()),
            (
                "R at /run/redis.sock does not answer: this user may not open its socket; change its permissions, or "
                "correct backend_config['unix_socket_path']"
            ),
        ),
        (
            {"url": "rediss://127.0.0.1:1/0?ssl_ca_certs=/gone/ca.pem"},
            raised(redis.ConnectionError(), FileNotFoundError()),
            (
                "R at 127.0.0.1:1/0 does not answer: the file of its ssl_ca_certs, '/gone/ca.pem', cannot be read "
                "here; correct that name"
            ),
        ),
        (
            URL,
            redis.BusyLoadingError("loading"),
            "R at 127.0.0.1:1/0 is still loading its data; wait until it has",
        ),
        (
            URL,
            redis.ConnectionError("Connection closed by server."),
            (
                "R at 127.0.0.1:1/0 does not answer: it closes the connection; see in its log why, or correct "
                "backend_config['url']"
            ),
        ),
    ],
    ids=["default", "sentinel", "permission", "authority", "loading", "closed"],
)
def test_fault_and_remedy_follow_from_the_error(
    connection: dict[str, Any], error: Exception, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GRAFLOW_REDIS_URL", raising=False)
    assert why_unreachable("R", connection, error, backend_config_key) == words


def test_a_channel_keeps_the_type_of_the_error() -> None:
    error = told(redis.exceptions.AuthenticationError("WRONGPASS hunter2"), {**URL, "password": "hunter2"})
    assert type(error) is redis.exceptions.AuthenticationError
    assert str(error) == "The Redis at 127.0.0.1:1/0 refuses the username or password; correct its password"
