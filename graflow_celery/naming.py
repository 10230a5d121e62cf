"""What may name a deployment: its broker, the prefix of its keys and queues, its queue, its signing key."""

from __future__ import annotations

from typing import Any, Final

from kombu.transport import TRANSPORT_ALIASES

from graflow.coordination.backend_keys import QUEUE_NAME, is_queue_name
from graflow.exceptions import ConfigError
from graflow.secret import revealed

_LONGEST_PREFIX: Final = 128
_INNER_NAMES: Final = frozenset({"broker", "celery", "channel", "lock", "operation", "published"})
"""What stands behind a prefix in keys that belong to no run."""


def check_broker(url: Any) -> None:
    """Raise `ConfigError` for a broker that Celery has no transport for."""
    if url is not None and not isinstance(url, str):
        raise ConfigError(f"a broker is named by its URL, not by a {type(url).__name__}")
    scheme = str(revealed(url) or "redis").partition("://")[0]
    if scheme.partition("+")[0] not in TRANSPORT_ALIASES and not {":", "."} & set(scheme):
        raise ConfigError(f"Celery knows no broker of the kind '{scheme}://'")


def check_prefix(prefix: str) -> None:
    """Raise `ConfigError` for a prefix that does not name the same keys and queues everywhere, and those alone."""
    # kombu cuts a prefix off names by its length in characters, where names are bytes; a queue may be called like it.
    unfit = sorted({char for char in prefix if not "!" <= char <= "~" or char in "{}*?[]\\,"})
    if unfit:
        raise ConfigError(
            f"{prefix!r} holds {', '.join(map(repr, unfit))}; a prefix is made of ASCII letters, digits and marks such "
            "as - _ . : /"
        )
    if len(prefix) > _LONGEST_PREFIX:
        raise ConfigError(
            f"it has {len(prefix)} characters, more than the {_LONGEST_PREFIX} that names of queues leave it"
        )
    if prefix.partition(".")[0] == "amq":
        raise ConfigError(f"{prefix!r} begins with amq, which RabbitMQ keeps for itself")
    taken = _INNER_NAMES.intersection(prefix.split(":")[1:])
    if taken:
        raise ConfigError(f"{prefix!r} has {min(taken)!r} behind a colon, where keys of another deployment are")


def check_queue(queue: str | None) -> None:
    """Raise `ConfigError` for a queue that no worker could be told to consume."""
    if queue is not None and not is_queue_name(queue):
        raise ConfigError(f"{queue!r:.300} is not {QUEUE_NAME}")


def check_key(key: Any) -> None:
    """Raise `ConfigError` for a signing key that is given and is none."""
    if key is not None and not isinstance(key, str):
        raise ConfigError(f"it must be text, not a {type(key).__name__}")
