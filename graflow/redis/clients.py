"""Connection parameters read from live Redis clients."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from contextlib import suppress
from enum import Enum
from typing import Any, Final, NoReturn

from graflow.exceptions import ConfigError
from graflow.foreign import attempt

SENTINEL_KEYS: Final[tuple[str, ...]] = ("sentinels", "master_name", "sentinel_username", "sentinel_password")
SERVER_KEYS: Final[tuple[str, ...]] = (
    *("url", "host", "port", "db", "username", "password", "ssl", "unix_socket_path"),
    *SENTINEL_KEYS,
)
TLS_KEYS: Final[tuple[str, ...]] = (
    "ssl_keyfile",
    "ssl_certfile",
    "ssl_cert_reqs",
    "ssl_include_verify_flags",
    "ssl_exclude_verify_flags",
    "ssl_ca_certs",
    "ssl_ca_path",
    "ssl_ca_data",
    "ssl_check_hostname",
    "ssl_password",
    "ssl_validate_ocsp",
    "ssl_validate_ocsp_stapled",
    "ssl_ocsp_expected_cert",
    "ssl_min_version",
    "ssl_ciphers",
)
OPTION_KEYS: Final[tuple[str, ...]] = (
    "decode_responses",
    "socket_timeout",
    "socket_connect_timeout",
    "socket_keepalive",
    "socket_keepalive_options",
    "health_check_interval",
    "encoding",
    "encoding_errors",
    "max_connections",
    "protocol",
    "client_name",
)
_CARRIED: Final = tuple(name for name in OPTION_KEYS if name not in {"decode_responses", "max_connections"})
_UNCARRIED: Final = {
    "credential_provider": "a credential provider",
    "redis_connect_func": "a connect function",
    "valkey_connect_func": "a connect function",
    "ssl_ocsp_context": "an OCSP context",
}


def load_redis() -> Any:
    """The package redis, imported when it is first needed.

    Raises:
        ImportError: When it is absent or broken; says what to install.
    """

    def refuse(error: Exception) -> NoReturn:
        raise ImportError(
            "Talking to Redis needs the package redis, which cannot be imported here; install it with: "
            "pip install 'redis>=7.4'"
        ) from error

    return attempt(_imported_redis, refuse)


def _imported_redis() -> Any:
    import redis  # noqa: PLC0415 - an optional service; a process without Redis must not pay for it

    return redis


def parameters_of(redis_client: Any) -> dict[str, Any]:
    """What `graflow.redis.config.extract_redis_config` returns, before secrets are marked."""
    pool = redis_client.connection_pool
    found = getattr(pool, "connection_kwargs", None)
    if not isinstance(found, Mapping):
        raise ConfigError(f"The connection pool of {type(redis_client).__name__} shows no connection parameters")
    kind = getattr(pool, "connection_class", None)
    classes = {base.__name__ for base in getattr(kind, "__mro__", ())}
    _refuse_uncarried(pool, found, classes)
    config: dict[str, Any] = _server_of(found, kind, classes)
    config["db"] = int(found.get("db") or 0)
    config["decode_responses"] = bool(found.get("decode_responses", False))
    config.update({name: found[name] for name in ("username", "password") if found.get(name)})
    config.update(_credentials(found.get("credential_provider")))
    defaults = _client_defaults(type(redis_client))
    tls = "SSLConnection" in classes
    if tls:
        config["ssl"] = True
    for name in (*_CARRIED, *(TLS_KEYS if tls else ())):
        if name in found and found[name] != defaults.get(name):
            value = _plain_option(name, found[name])
            if value is not None or name.endswith("timeout"):
                config[name] = value
    return config


def _refuse_uncarried(pool: object, found: Mapping[str, Any], classes: set[str]) -> None:
    if "Sentinel" in type(pool).__name__ or any("Sentinel" in name for name in classes):
        raise ConfigError(
            "A Sentinel client cannot be turned into parameters of one server; name its Sentinels instead: "
            "url='sentinel://host:26379/0?master_name=mymaster'"
        )
    for name, what in _UNCARRIED.items():
        value = found.get(name)
        if value is not None and not (name == "credential_provider" and _credentials(value)):
            raise ConfigError(f"A client with {what} cannot be turned into parameters; give username and password")


def _credentials(provider: object) -> dict[str, Any]:
    """Username and password of a static provider; of no other, whose answers change with time."""
    if type(provider).__name__ != "UsernamePasswordCredentialProvider":
        return {}
    parts = {"username": getattr(provider, "username", None), "password": getattr(provider, "password", None)}
    return {name: value for name, value in parts.items() if value}


def _server_of(found: Mapping[str, Any], kind: object, classes: set[str]) -> dict[str, Any]:
    path = found.get("path") or found.get("unix_socket_path")
    if path or "UnixDomainSocketConnection" in classes:
        if not path:
            raise ConfigError("The client has a Unix socket connection without a path")
        return {"unix_socket_path": str(path)}
    host = found["host"] if "host" in found else _default_of(kind, "host")
    if not isinstance(host, str) or not host:
        raise ConfigError("The client names no server: neither a host nor a Unix socket")
    port = found.get("port") or _default_of(kind, "port") or 6379
    return {"host": host, "port": int(port)}


def _default_of(kind: object, name: str) -> Any:
    """What a connection class itself uses where its pool says nothing."""
    if not isinstance(kind, type):
        return None
    parameter = inspect.signature(kind).parameters.get(name)
    return None if parameter is None or parameter.default is parameter.empty else parameter.default


def _client_defaults(kind: type) -> dict[str, Any]:
    """Defaults of the client that will be made; of the given one's class where redis-py is absent."""
    with suppress(ImportError):
        kind = load_redis().Redis
    return {name: parameter.default for name, parameter in inspect.signature(kind).parameters.items()}


def _plain_option(name: str, value: Any) -> Any:
    if name == "ssl_cert_reqs" and isinstance(value, Enum):
        return value.name.removeprefix("CERT_").lower()
    if name == "ssl_min_version" and value is not None:
        return int(value)
    if name == "socket_keepalive_options":
        return dict(value) if isinstance(value, Mapping) else None
    return value
