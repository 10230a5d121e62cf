"""A Redis that is found through Sentinel: its addresses in and out, and a client that follows the master."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from graflow.exceptions import ConfigError
from graflow.redis.clients import SENTINEL_KEYS, TLS_KEYS, load_redis
from graflow.redis.urls import address_of, address_text

_PATIENCE: Final = 1.5  # seconds after which a Sentinel that is silent is passed over for the next one


def addresses_in(value: str | Sequence[str]) -> list[str]:
    """Sentinels as a list of addresses, from a list or from text that separates them by commas or semicolons.

    Raises:
        ConfigError: When there is none, or one is malformed.
    """
    texts = value.replace(";", ",").split(",") if isinstance(value, str) else list(value)
    if not texts:
        raise ConfigError("The Redis settings name no server: sentinels is empty")
    return [address_text(*address_of(str(text))) for text in texts]


def settle_sentinels(parts: dict[str, Any]) -> None:
    """Bring the connection keys of a Redis behind Sentinels into their one form.

    Raises:
        ConfigError: When the name of the master is missing, or an address is malformed.
    """
    for name in ("host", "port", "unix_socket_path"):
        parts.pop(name, None)
    parts["sentinels"] = addresses_in(parts["sentinels"])
    if not parts.get("master_name"):
        raise ConfigError(
            "Sentinel needs the name of its master: sentinel://host:26379/0?master_name=mymaster, or master_name"
        )


def asking(parts: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters with which the Sentinels themselves are reached; no client of theirs tries for long."""
    found: dict[str, Any] = {"socket_timeout": _PATIENCE, "socket_connect_timeout": _PATIENCE}
    named = {"username": parts.get("sentinel_username"), "password": parts.get("sentinel_password")}
    found.update({name: value for name, value in named.items() if value})
    if parts.get("ssl"):
        found.update({name: parts[name] for name in ("ssl", *TLS_KEYS) if name in parts})
    return found


def sentinel_client(parts: Mapping[str, Any], retry: object) -> Any:
    """A client whose every connection goes to whichever server the Sentinels call the master.

    Args:
        parts: Settled connection keys, their secrets revealed.
        retry: What each connection does about errors.
    """
    module = load_redis()
    own = {name: value for name, value in parts.items() if name not in SENTINEL_KEYS}
    # Another Sentinel is asked instead, so one that does not answer is not asked twice.
    once = {"retry": module.retry.Retry(module.backoff.NoBackoff(), 0)}
    manager = module.sentinel.Sentinel(
        [address_of(text) for text in parts["sentinels"]], sentinel_kwargs={**asking(parts), **once}
    )
    pool = module.sentinel.SentinelConnectionPool(parts["master_name"], manager, **own, retry=retry)
    return module.Redis(connection_pool=pool)


def refusing_sentinels(client: Any) -> list[str]:
    """The addresses of those Sentinels of a client that refuse its login; empty when another one lets it in."""
    module = load_redis()
    found = []
    for sentinel in client.connection_pool.sentinel_manager.sentinels:
        place = sentinel.connection_pool.connection_kwargs
        try:
            sentinel.ping()
        except module.exceptions.AuthenticationError:
            found.append(address_text(place["host"], place["port"]))
        except (module.exceptions.RedisError, OSError):
            continue
        else:
            return []
    return found
