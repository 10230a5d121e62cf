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
SENTINEL_SCHEME: Final = "sentinel://"
SENTINEL_PORT: Final = 26379
_SOCKET_SCHEMES: Final = frozenset({"unix", "redis+socket"})


def truth_of(text: str) -> bool:
    """What a word for true or false means.

    Raises:
        ValueError: When it is neither.
    """
    if text.lower() in {"true", "1", "yes", "on", "t", "y"}:
        return True
    if text.lower() in {"false", "0", "no", "off", "f", "n"}:
        return False
    raise ValueError("neither true nor false")


_OPTIONS: Final[Mapping[str, Callable[[str], Any]]] = {
    "client_name": str,
    "db": int,
    "decode_responses": truth_of,
    "encoding": str,
    "encoding_errors": str,
    "health_check_interval": int,
    "max_connections": int,
    "password": str,
    "protocol": int,
    "socket_connect_timeout": float,
    "socket_keepalive": truth_of,
    "socket_timeout": float,
    "ssl_ca_certs": str,
    "ssl_ca_data": str,
    "ssl_ca_path": str,
    "ssl_cert_reqs": str,
    "ssl_certfile": str,
    "ssl_check_hostname": truth_of,
    "ssl_ciphers": str,
    "ssl_keyfile": str,
    "ssl_min_version": int,
    "ssl_password": str,
    "username": str,
}
_SENTINEL_OPTIONS: Final[Mapping[str, Callable[[str], Any]]] = {
    "master_name": str,
    "sentinel_password": str,
    "sentinel_username": str,
    "ssl": truth_of,
}
_IGNORED: Final = frozenset({"retry_on_error", "retry_on_timeout", "socket_read_size", "timeout", "legacy_responses"})


def has_credentials(url: str) -> bool:
    """Whether a URL holds, or when malformed might hold, a user name or password."""
    return "@" in url or "password=" in url


def parse_redis_url(url: str) -> dict[str, Any]:
    """The connection keys that a URL names.

    Args:
        url: `redis://`, `rediss://` (TLS) or `unix://`; also `valkey://`, `valkeys://`, Celery's `redis+socket://`, and
            `sentinel://one:26379/0;sentinel://two:26379?master_name=mymaster`.

    Raises:
        ConfigError: When it is malformed, names no server, or has an option that is not known.
    """
    if url.lower().startswith(SENTINEL_SCHEME):
        return _sentinel_parts(url)
    parsed = _split(url)
    scheme = parsed.scheme.lower()
    if scheme not in _SCHEMES:
        raise ConfigError("A Redis URL must begin with redis://, rediss://, unix:// or sentinel://")
    parts = {**_options(parsed.query), **_login(parsed)}
    if scheme in _SOCKET_SCHEMES:
        path = unquote(parsed.path)
        if not path.startswith("/") or path == "/" or parsed.hostname:
            raise ConfigError("A Redis URL for a Unix socket must name its absolute path: unix:///path/to/socket")
        return {**parts, "unix_socket_path": path}
    if not parsed.hostname:
        raise ConfigError("The Redis URL names no host")
    parts.update(host=unquote(parsed.hostname), port=6379 if parsed.port is None else parsed.port)
    if _SCHEMES[scheme]:
        parts["ssl"] = True
    if "db" not in parts:
        parts.update(_database(parsed))
    return parts


def _sentinel_parts(url: str) -> dict[str, Any]:
    """The keys of a Redis behind several Sentinels; login and database stand in front of any of them."""
    addresses, _, query = url.partition("?")
    # Each part is looked at as a URL of its own, the options with the last one.
    *several, last = addresses.split(";")
    parsed = [_split(each) for each in (*several, f"{last}?{query}")]
    if any(each.scheme.lower() != "sentinel" or not each.hostname for each in parsed):
        raise ConfigError(
            "A Sentinel URL names each Sentinel in full: sentinel://one:26379/0;sentinel://two:26379/0"
            "?master_name=mymaster"
        )
    parts: dict[str, Any] = {}
    for each in reversed(parsed):
        parts.update({**_login(each), **_database(each)})
    parts.update(_options(query, {**_OPTIONS, **_SENTINEL_OPTIONS}))
    hosts = [(unquote(each.hostname or ""), each.port or SENTINEL_PORT) for each in parsed]
    return {**parts, "sentinels": [address_text(host, port) for host, port in hosts]}


def address_of(text: str) -> tuple[str, int]:
    """Host and port of a Sentinel: `host`, `host:port` or `[v6]:port`.

    Raises:
        ConfigError: When it is malformed.
    """
    parsed = _split(f"sentinel://{text.strip()}")
    if not parsed.hostname or parsed.path or parsed.query or parsed.username or parsed.password:
        raise ConfigError("Each Sentinel is named by its address, host:port")
    return parsed.hostname, parsed.port or SENTINEL_PORT


def address_text(host: str, port: int) -> str:
    """The reverse of `address_of`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _login(parsed: SplitResult) -> dict[str, str]:
    named = {"username": parsed.username, "password": parsed.password}
    return {name: unquote(text) for name, text in named.items() if text}


def _database(parsed: SplitResult) -> dict[str, int]:
    database = unquote(parsed.path).strip("/")
    if database and not database.isdecimal():
        raise ConfigError("The path of a Redis URL must be the number of a database")
    return {"db": int(database)} if database else {}


def _split(url: str) -> SplitResult:
    parsed = _as_url(url)
    # An unescaped # or ? in a password ends up here; to guess a server from the rest would be worse than to refuse.
    if parsed is None or parsed.fragment or "@" in parsed.path + parsed.query:
        raise ConfigError("The Redis URL is malformed; percent-encode special characters of user name and password")
    return parsed


def _as_url(text: str) -> SplitResult | None:
    try:
        parsed = urlsplit(text)
        _ = parsed.port
    except ValueError:
        return None
    return parsed


def _options(query: str, known: Mapping[str, Callable[[str], Any]] = _OPTIONS) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name, values in parse_qs(query).items():
        key = "db" if name == "virtual_host" else name
        if key in _IGNORED:
            continue
        if key not in known:
            raise ConfigError(f"Unknown option in the Redis URL; known are {', '.join(sorted(known))}")
        value = _converted(known[key], values[0].strip("/") if key == "db" else values[0])
        if value is None:
            raise ConfigError(f"The option '{key}' of the Redis URL has a value of the wrong type")
        options[key] = value
    return options


def _converted(convert: Callable[[str], Any], text: str) -> Any:
    try:
        return convert(text)
    except ValueError:
        return None
