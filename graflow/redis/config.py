"""Redis settings in and out: what goes into a task, graph or context is data, never a live client.

A configuration names its server by `url`, by `host` (with `port`, `db`, `username`, `password`, `ssl`) or by
`unix_socket_path`; what a URL names wins over the other keys. Only one without any of these keys means the default:
`GRAFLOW_REDIS_URL`, else the section `redis` of `config.yaml`, else localhost:6379/0. A server that Sentinel watches is
named by a URL `sentinel://…`, or by `sentinels` and `master_name`; its clients follow the master.
"""

from __future__ import annotations

import atexit
import sys
import warnings
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NoReturn
from urllib.parse import quote, urlencode

from graflow.exceptions import ConfigError
from graflow.foreign import attempt
from graflow.processes.per_process import PerProcess
from graflow.redis.clients import OPTION_KEYS, SENTINEL_KEYS, SERVER_KEYS, TLS_KEYS, load_redis, parameters_of
from graflow.redis.kept_connections import kept_connection
from graflow.redis.named import CONNECTION_KEYS, DEFAULT_URL, NAMES_OF_SERVERS, URL_VARIABLE, usual_connection
from graflow.redis.numbers import check_numbers, check_words
from graflow.redis.places import wait_for_places
from graflow.redis.refusals import parser
from graflow.redis.sentinels import sentinel_client, settle_sentinels
from graflow.redis.urls import has_credentials, parse_redis_url
from graflow.secret import Secret, provide_secret, revealed

if TYPE_CHECKING:
    import redis

__all__ = [
    "CONNECTION_KEYS",
    "DEFAULT_URL",
    "URL_VARIABLE",
    "Secret",
    "concerns_server",
    "connection_of",
    "create_redis_client",
    "describe_server",
    "extract_redis_config",
    "laid_over",
    "normalize_redis_config",
    "provide_secret",
    "redis_url",
    "shared_client",
]

_SECRET_NAMES: Final = {
    "password": "GRAFLOW_REDIS_PASSWORD",
    "sentinel_password": "GRAFLOW_SENTINEL_PASSWORD",
    "ssl_password": "GRAFLOW_REDIS_SSL_PASSWORD",
    "signing_key": "GRAFLOW_SIGNING_KEY",
}
_SECRET_URLS: Final = {"url": URL_VARIABLE, "broker_url": "GRAFLOW_BROKER_URL"}
_FAILED: Final = "Failed to extract Redis connection parameters from redis_client"


def extract_redis_config(redis_client: object) -> dict[str, Any]:
    """The parameters with which a client reaches its server, read from its pool.

    Takes clients of redis-py and of compatible packages (Valkey), and their asyncio twins.

    Returns:
        `host` and `port` or `unix_socket_path`, `db`, `decode_responses`, and what differs from redis-py's defaults:
        `username`, `password` (a `Secret`), `ssl` and `ssl_*`, timeouts, `protocol`, `client_name`.

    Raises:
        AttributeError: When the object has no connection pool.
        ConfigError: When parameters cannot stand for it: Sentinel, a credential provider, or no server named.
    """
    return _with_secrets(parameters_of(redis_client))


# -- normal form -------------------------------------------------------------------------------------------------------


def normalize_redis_config(config: Mapping[str, Any] | None) -> dict[str, Any]:
    """The configuration as data: a live client replaced by its parameters, secrets marked; the input is not changed.

    Raises:
        ValueError: When `redis_client` is no client or one whose parameters cannot stand for it, and when the
            configuration is no mapping.
    """
    if config is not None and not isinstance(config, Mapping):
        # Not shown: it may be a URL with a password.
        raise ConfigError(f"Settings come as a mapping, such as {{'url': ...}}, not as a {type(config).__name__}")
    normal = dict(config or {})
    client = normal.pop("redis_client", None)
    if client is None:
        return _with_secrets(normal)
    extracted = attempt(lambda: extract_redis_config(client), _refuse_client)
    for name in SERVER_KEYS:
        normal.pop(name, None)
    _warn_of_client(extracted)
    return _with_secrets({**normal, **extracted})


def _refuse_client(error: Exception) -> NoReturn:
    raise ValueError(f"{_FAILED}: {error}") from error


def _warn_of_client(extracted: Mapping[str, Any]) -> None:
    level = 2
    while (name := _module_at(level)) is not None and name.partition(".")[0] in {"graflow", "graflow_celery"}:
        level += 1
    warnings.warn(
        f"A live redis_client in a configuration is deprecated; write its parameters instead: {dict(extracted)!r}",
        DeprecationWarning,
        stacklevel=level,
    )


def _module_at(level: int) -> str | None:
    """Name of the module that called, `level` frames above the caller of this function, as warnings count them."""
    try:
        return str(sys._getframe(level).f_globals.get("__name__", ""))
    except ValueError:
        return None


def _with_secrets(config: dict[str, Any]) -> dict[str, Any]:
    for key in _SECRET_NAMES.keys() & config.keys():
        value, name = config[key], _SECRET_NAMES[key]
        if value and isinstance(value, str | bytes) and not isinstance(value, Secret):
            config[key] = Secret(value.decode() if isinstance(value, bytes) else value, name)
    for key in _SECRET_URLS.keys() & config.keys():
        value, name = config[key], _SECRET_URLS[key]
        if isinstance(value, str) and not isinstance(value, Secret) and has_credentials(value):
            config[key] = Secret(value, name)
    return config


def laid_over(said: Mapping[str, Any], given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Settings over others; a server that the nearer ones name stands for itself, without what others say of one."""
    if given == {}:
        return dict(said)
    nearer = normalize_redis_config(given)
    if any(nearer.get(name) is not None for name in NAMES_OF_SERVERS):
        said = {name: value for name, value in said.items() if name not in {*CONNECTION_KEYS, "redis_client"}}
    return {**said, **nearer}


def concerns_server(config: Mapping[str, Any]) -> bool:
    """Whether any key says which server is meant; where none does, the default is."""
    return "host" in config or any(config.get(key) is not None for key in (*SERVER_KEYS, "redis_client"))


def connection_of(config: Mapping[str, Any] | None) -> dict[str, Any]:
    """The connection part of a configuration, a URL taken apart.

    Returns:
        `host` and `port`, or `unix_socket_path`, or `sentinels` and `master_name`; `db`, and the other connection keys
        that are given.

    Raises:
        ConfigError: When connection keys are given and none of them names a server, or the URL is malformed.
    """
    config = normalize_redis_config(config)
    given: dict[str, Any] = {key: config[key] for key in (*SERVER_KEYS, *TLS_KEYS, *OPTION_KEYS) if key in config}
    if not concerns_server(given):
        given = {**usual_connection(), **{key: given[key] for key in given if key not in SERVER_KEYS}}
    url = given.pop("url", None)
    if url is not None and not isinstance(url, str):
        raise ConfigError(f"The URL of a Redis must be text, not a {type(url).__name__}")
    parts = {key: value for key, value in given.items() if value is not None or key.endswith("timeout")}
    if url:
        found = parse_redis_url(revealed(url))
        for key in ("host", "port", "unix_socket_path", "sentinels", *(() if "sentinels" in found else ("ssl",))):
            parts.pop(key, None)
        parts.update(found)
    _settle_server(parts, is_empty=url == "" or parts.get("unix_socket_path") == "")
    parts["db"] = parts.get("db") or 0
    check_numbers(parts)
    check_words(parts)
    password = parts.get("password")
    if isinstance(password, Secret) and not password.is_known():
        parts["password"] = _usual_password(parts) or password
    return _with_secrets(parts)


def _settle_server(parts: dict[str, Any], *, is_empty: bool) -> None:
    """Leave one of Sentinels, a socket path, or host and port, and give what is missing its default."""
    if parts.get("sentinels"):
        settle_sentinels(parts)
        return
    for name in SENTINEL_KEYS:
        parts.pop(name, None)
    if parts.get("unix_socket_path"):
        parts.pop("host", None)
        parts.pop("port", None)
    elif is_empty or not parts.get("host"):
        raise ConfigError(
            "The Redis settings name no server: give url, host or unix_socket_path, or no connection key at all for "
            f"{URL_VARIABLE} or {DEFAULT_URL}"
        )
    elif not isinstance(parts["host"], str):
        raise ConfigError(f"The host of a Redis must be text, not a {type(parts['host']).__name__}")
    else:
        parts.setdefault("port", 6379)


def _usual_password(parts: Mapping[str, Any]) -> str | None:
    """The password of the server that is meant where none is named, if it is this one."""
    known = connection_of(None)
    same = all(known.get(key) == parts.get(key) for key in ("host", "port", "unix_socket_path", "sentinels"))
    return known.get("password") if same else None


# -- clients -----------------------------------------------------------------------------------------------------------


def create_redis_client(config: Mapping[str, Any] | None = None) -> redis.Redis:
    """A client for a configuration; `redis_client` itself when there is one.

    Raises:
        ConfigError: When the server is not named or a secret is not known here; nothing is connected before.
        ImportError: When redis-py is absent.
    """
    given = _given_client(config)
    return _client(connection_of(config)) if given is None else given


def _given_client(config: Mapping[str, Any] | None) -> redis.Redis | None:
    return (config or {}).get("redis_client")


def _client(parts: Mapping[str, Any]) -> redis.Redis:
    module = load_redis()
    plain = {key: revealed(value) for key, value in parts.items()}
    # The package's own default tries for several seconds, also when the password is wrong. A server that is silent for
    # the whole socket timeout is not asked again: whoever waits has a time of his own.
    retry = module.retry.Retry(
        module.backoff.ExponentialBackoff(cap=0.4, base=0.05),
        retries=3,
        supported_errors=(module.exceptions.ConnectionError,),
    )
    made: redis.Redis = sentinel_client(plain, retry) if "sentinels" in plain else module.Redis(**plain, retry=retry)
    made.connection_pool.connection_kwargs["parser_class"] = parser()
    wait_for_places(made.connection_pool)
    return made


_clients: Final[PerProcess[tuple[Any, ...], redis.Redis]] = PerProcess()
_AWAKE: Final = 16  # clients; a process that has more, one per tenant, closes what older ones have open and do not use
_awake: Final[deque[redis.Redis]] = deque()


def _close_clients() -> None:
    for client in _clients.take_all():
        client.close()


atexit.register(_close_clients)


def rest_shared_clients(*, kept: bool = True) -> None:
    """Close what this process's clients have open and do not use; the next command opens a connection again.

    Args:
        kept: Also the connection of each that is kept for commands one by one.
    """
    for client in _clients.all():
        _rest(client, kept=kept)


def shared_client(config: Mapping[str, Any] | None = None, *, decode_responses: bool | None = None) -> redis.Redis:
    """This process's client for a configuration; opened again after a fork, closed at exit.

    Args:
        config: As for `create_redis_client`.
        decode_responses: Overrides the configuration's own.
    """
    given = _given_client(config)
    if given is not None:
        return given
    parts = connection_of(config)
    if decode_responses is not None:
        parts["decode_responses"] = decode_responses
    key = tuple(sorted((name, repr(revealed(value))) for name, value in parts.items()))

    def make() -> redis.Redis:
        made = _client(parts)
        _awake.append(made)
        return made

    found = _clients.get(key, make)
    while len(_awake) > _AWAKE:
        _rest(_awake.popleft())
    return found


def _rest(client: redis.Redis, *, kept: bool = True) -> None:
    if kept:
        kept_connection(client).rest()
    client.connection_pool.disconnect(inuse_connections=False)


# -- in words ----------------------------------------------------------------------------------------------------------


def redis_url(config: Mapping[str, Any] | None, *, for_celery: bool = False) -> Secret:
    """A configuration as one URL.

    Args:
        config: As for `create_redis_client`.
        for_celery: Write a Unix socket as kombu understands it, and always say how certificates are checked.
    """
    parts = connection_of(config)
    user, password = (quote(revealed(parts.get(name)) or "", safe="") for name in ("username", "password"))
    login = f"{user}:{password}@" if user or password else ""
    query = {key: value for key, value in parts.items() if key in TLS_KEYS and isinstance(value, str | bool | int)}
    path = parts.get("unix_socket_path")
    if path is not None:
        scheme, database = ("redis+socket", "virtual_host") if for_celery else ("unix", "db")
        return Secret(f"{scheme}://{login}{quote(path)}?{database}={parts['db']}", URL_VARIABLE)
    tls = bool(parts.get("ssl"))
    if "sentinels" in parts:
        return Secret(_sentinel_url(parts, login, {"ssl": True, **query} if tls else {}), URL_VARIABLE)
    if tls and for_celery:
        query.setdefault("ssl_cert_reqs", "required")
    host = f"[{parts['host']}]" if ":" in parts["host"] else parts["host"]
    options = "?" + urlencode({key: revealed(value) for key, value in query.items()}) if tls and query else ""
    return Secret(
        f"{'rediss' if tls else 'redis'}://{login}{host}:{parts['port']}/{parts['db']}{options}", URL_VARIABLE
    )


def _sentinel_url(parts: Mapping[str, Any], login: str, query: Mapping[str, Any]) -> str:
    """Each Sentinel in full, since whoever reads such a URL may take any of them apart alone."""
    named = {name: revealed(parts[name]) for name in SENTINEL_KEYS if name != "sentinels" and parts.get(name)}
    urls = ";".join(f"sentinel://{login}{address}/{parts['db']}" for address in parts["sentinels"])
    return f"{urls}?{urlencode({**named, **{name: revealed(value) for name, value in query.items()}})}"


def describe_server(config: Mapping[str, Any] | None) -> str:
    """Where a configuration points to, without secrets: `host:port/db`, a socket's path, or master and Sentinels."""
    parts = connection_of(config)
    if "sentinels" in parts:
        return f"{parts['master_name']}/{parts['db']} of Sentinel {', '.join(parts['sentinels'])}"
    path = parts.get("unix_socket_path")
    if path is None:
        return f"{parts['host']}:{parts['port']}/{parts['db']}"
    return f"{path} db {parts['db']}" if parts["db"] else str(path)
