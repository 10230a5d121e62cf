"""Redis URLs taken apart.

No error text holds a part of one, since a malformed URL may have its password in any place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from graflow.exceptions import ConfigError

_SCHEMES: Final[Mapping[str, bool]] = {  # name -> TLS
    "redis": False,
    "rediss": True,
    "valkey": False,
    "valkeys": True,
    "unix": False,
    "redis+socket": False,
}
_SOCKET_SCHEMES: Final = frozenset({"unix", "redis+socket"})


def _truth(text: str) -> bool:
    if text.lower() in {"true", "1", "yes", "on", "t", "y"}:
        return True
    if text.lower() in {"false", "0", "no", "off", "f", "n"}:
        return False
    raise ValueError("neither true nor false")


_OPTIONS: Final[Mapping[str, Callable[[str], Any]]] = {
    "client_name": str,
    "db": int,
    "decode_responses": _truth,
    "encoding": str,
    "encoding_errors": str,
    "health_check_interval": int,
    "max_connections": int,
    "password": str,
    "protocol": int,
    "socket_connect_timeout": float,
    "socket_keepalive": _truth,
    "socket_timeout": float,
    "ssl_ca_certs": str,
    "ssl_ca_data": str,
    "ssl_ca_path": str,
    "ssl_cert_reqs": lambda text: text.removeprefix("CERT_").lower(),
    "ssl_certfile": str,
    "ssl_check_hostname": _truth,
    "ssl_ciphers": str,
    "ssl_keyfile": str,
    "ssl_min_version": int,
    "ssl_password": str,
    "username": str,
}
_IGNORED: Final = frozenset({"retry_on_error", "retry_on_timeout", "socket_read_size", "timeout", "legacy_responses"})


def has_credentials(url: str) -> bool:
    """Whether a URL holds, or when malformed might hold, a user name or password."""
    return "@" in url or "password=" in url


def parse_redis_url(url: str) -> dict[str, Any]:
    """The connection keys that a URL names.

    Args:
        url: `redis://`, `rediss://` (TLS) or `unix://`; also `valkey://`, `valkeys://` and Celery's `redis+socket://`.

    Raises:
        ConfigError: When it is malformed, names no server, or has an option that is not known.
    """
    parsed = _split(url)
    if parsed is None:
        raise ConfigError("The Redis URL is malformed; percent-encode special characters of user name and password")
    scheme = parsed.scheme.lower()
    if scheme not in _SCHEMES:
        raise ConfigError("A Redis URL must begin with redis://, rediss:// or unix://")
    parts = _options(parsed.query)
    if parsed.username:
        parts["username"] = unquote(parsed.username)
    if parsed.password:
        parts["password"] = unquote(parsed.password)
    if scheme in _SOCKET_SCHEMES:
        path = unquote(parsed.path)
        if not path.startswith("/") or path == "/" or parsed.hostname:
            raise ConfigError("A Redis URL for a Unix socket must name its absolute path: unix:///path/to/socket")
        return {**parts, "unix_socket_path": path}
    if not parsed.hostname:
        raise ConfigError("The Redis URL names no host")
    parts.update(host=unquote(parsed.hostname), port=parsed.port or 6379)
    if _SCHEMES[scheme]:
        parts["ssl"] = True
    database = unquote(parsed.path).strip("/")
    if database and "db" not in parts:
        if not database.isdecimal():
            raise ConfigError("The path of a Redis URL must be the number of a database")
        parts["db"] = int(database)
    return parts


def _split(url: str) -> SplitResult | None:
    try:
        parsed = urlsplit(url)
        _ = parsed.port
    except ValueError:
        return None
    # An unescaped # or ? in a password ends up here; to guess a server from the rest would be worse than to refuse.
    return None if parsed.fragment or "@" in parsed.path + parsed.query else parsed


def _options(query: str) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name, values in parse_qs(query).items():
        key = "db" if name == "virtual_host" else name
        if key in _IGNORED:
            continue
        if key not in _OPTIONS:
            raise ConfigError(f"Unknown option in the Redis URL; known are {', '.join(sorted(_OPTIONS))}")
        value = _converted(key, values[0])
        if value is None:
            raise ConfigError(f"The option '{key}' of the Redis URL has a value of the wrong type")
        options[key] = value
    return options


def _converted(key: str, text: str) -> Any:
    try:
        return _OPTIONS[key](text.strip("/") if key == "db" else text)
    except ValueError:
        return None
