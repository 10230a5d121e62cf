"""Broker and Redis of record in Celery's own terms: URLs, transports, transport options, TLS."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from celery.app.amqp import AMQP
from kombu.connection import Connection
from kombu.utils.url import sanitize_url

from graflow.exceptions import ConfigError
from graflow.redis.clients import SENTINEL_KEYS, TLS_KEYS
from graflow.redis.config import CONNECTION_KEYS, Secret, connection_of, describe_server, redis_url
from graflow.redis.sentinels import asking
from graflow.secret import masked, revealed
from graflow_celery.celeryconfig import celeryconfig

CLUSTER_REFUSED: Final = "A Redis Cluster cannot be a Celery broker; use one Redis server, Sentinel or RabbitMQ"
REDIS_SCHEMES: Final = frozenset({"redis", "rediss", "redis+socket", "sentinel"})
_REFUSED_SCHEMES: Final = frozenset({"redis+cluster", "rediscluster"})
_PLAIN: Final = "graflow_celery.broker.transport:Transport"
_SENTINEL: Final = "graflow_celery.broker.transport:SentinelTransport"
_TRANSPORTS: Final[Mapping[str, str]] = {"redis": _PLAIN, "rediss": _PLAIN, "sentinel": _SENTINEL}


class BrokerConnection(Connection):
    """A connection that calls a transport of ours by its scheme, by which monitors know what kind of broker it is."""

    resolve_aliases = {**Connection.resolve_aliases, _PLAIN: "redis", _SENTINEL: "sentinel"}  # noqa: RUF012 - as kombu has it

    def get_transport_cls(self) -> Any:
        if self.transport_cls == "redis":  # of a Unix socket, whose URL kombu believes more than what it is told
            self.transport_cls = _PLAIN
        found: Any = super()
        return found.get_transport_cls()

    def info(self) -> dict[str, Any]:
        """What monitors are told of this connection, `celery inspect stats` and Flower among them: no password."""
        of_kombu: Any = super()
        given = of_kombu.info()
        found: dict[str, Any] = masked(given)
        for name in ("hostname", "alternates"):
            found[name] = _without_passwords(given[name])
        if isinstance(given["password"], str):
            found["password"] = Secret(given["password"])  # of which kombu makes URLs
        return found


def _without_passwords(address: Any) -> Any:
    """Addresses of brokers, or one, or several in a text."""
    if isinstance(address, list):
        return [_without_passwords(each) for each in address]
    return ";".join(map(sanitize_url, address.split(";"))) if isinstance(address, str) and "://" in address else address


class BrokerAccess(AMQP):
    """How an application of ours reaches its broker."""

    Connection = BrokerConnection


def broker_settings(broker: str) -> dict[str, Any]:
    """What Celery is told of a broker; transport options of `celeryconfig.py` are kept.

    Raises:
        ConfigError: For a Redis Cluster, for a Redis URL that cannot be used, and when Sentinel is not told the name of
            the master.
    """
    scheme = urlsplit(broker).scheme
    if scheme in _REFUSED_SCHEMES:
        raise ConfigError(CLUSTER_REFUSED)
    options = _operators_options()
    made: dict[str, Any] = {"broker_url": broker, "broker_transport_options": options}
    if scheme in _TRANSPORTS:
        made["broker_transport"] = _TRANSPORTS[scheme]
    if scheme == "sentinel":
        parts = _behind_sentinels(broker, options)
        # kombu would change over to its own transport when it went from one address of several to the next.
        made["broker_url"] = _bare(redis_url({**parts, "sentinels": parts["sentinels"][:1]}))
        options.update(sentinels=parts["sentinels"], sentinel_kwargs=_asking(parts, options))
        made.update(_tls("broker_use_ssl", parts))
    elif scheme == "rediss":
        parts = connection_of({"url": broker})
        made["broker_url"] = _bare(redis_url(parts))
        made.update(_tls("broker_use_ssl", parts))
    return made


def broker_connection(broker: str) -> dict[str, Any]:
    """The connection keys of a broker that is a Redis.

    Raises:
        ConfigError: When they cannot be read from its URL.
    """
    if urlsplit(broker).scheme == "sentinel":
        return _behind_sentinels(broker, _operators_options())
    return connection_of({"url": broker})


def given_broker(broker: str) -> dict[str, Any]:
    """A broker that is a Redis as the caller named it: by its URL, or by what stands around that of its Sentinels.

    Raises:
        ConfigError: When it cannot be read.
    """
    return broker_connection(broker) if urlsplit(broker).scheme == "sentinel" else {"url": broker}


def describe_broker(broker: str) -> str:
    """Where a broker is, without secrets."""
    with suppress(ConfigError):
        if urlsplit(broker).scheme in REDIS_SCHEMES:
            return describe_server(broker_connection(broker))
    return ";".join(sanitize_url(address) for address in broker.split(";"))


def _operators_options() -> dict[str, Any]:
    return dict(getattr(celeryconfig(), "broker_transport_options", None) or {})


def result_backend_settings(connection: Mapping[str, Any]) -> dict[str, Any]:
    """What Celery is told of the Redis of record as its result backend, which chords need."""
    parts, options = connection_of(connection), {}
    url = redis_url(parts, for_celery=True)
    if "sentinels" in parts:
        options = {"master_name": parts["master_name"], "sentinel_kwargs": _asking(parts, {})}
    return {
        "result_backend": _bare(url) if "sentinels" in parts or parts.get("ssl") else url.reveal(),
        "result_backend_transport_options": options,
        **_tls("redis_backend_use_ssl", parts),
    }


def _behind_sentinels(broker: str, options: dict[str, Any]) -> dict[str, Any]:
    """The connection keys of a Sentinel broker; what else its URL says after the `?` becomes a transport option."""
    addresses, _, query = broker.partition("?")
    named = dict(parse_qsl(query))
    options.update({name: text for name, text in named.items() if name not in CONNECTION_KEYS - set(SENTINEL_KEYS)})
    if "master_name" not in options:
        raise ConfigError(
            "A Sentinel broker needs the name of its master: sentinel://host:26379/0?master_name=mymaster, or "
            "broker_transport_options = {'master_name': 'mymaster'} in celeryconfig.py"
        )
    known = {name: text for name, text in named.items() if name in CONNECTION_KEYS}
    return connection_of({"url": f"{addresses}?{urlencode(known)}", "master_name": options["master_name"]})


def _asking(parts: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """How the Sentinels themselves are reached; `sentinel_kwargs` among transport options decides."""
    return {**asking(_plain_parts(parts)), **(options.get("sentinel_kwargs") or {})}


def _tls(setting: str, parts: Mapping[str, Any]) -> dict[str, Any]:
    """The TLS options under the name of one of Celery's settings; in a URL all of them would become text."""
    if not parts.get("ssl"):
        return {}
    return {setting: {"ssl_cert_reqs": "required", **_plain_parts({k: parts[k] for k in TLS_KEYS if k in parts})}}


def _plain_parts(parts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: revealed(value) for name, value in parts.items()}


def _bare(url: Secret) -> str:
    return url.reveal().partition("?")[0]
