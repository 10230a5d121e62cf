"""The keys of a `backend_config`: every backend knows those of all, so that one configuration serves any of them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final

from graflow.exceptions import SettingError
from graflow.redis.named import OWN_KEYS, backend_keys

QUEUE_NAME: Final = (
    "the name of a queue: up to 200 bytes, no comma, nothing unprintable, no space at its ends, no amq. in front"
)
_LONGEST_NAME: Final = 200  # bytes; RabbitMQ takes 255, of which prefixes need some


def is_queue_name(value: object) -> bool:
    """Whether a queue can be called so: `-Q` of workers takes several names with commas between them."""
    return (
        isinstance(value, str)
        and value.isprintable()
        and "," not in value
        and not value.startswith("amq.")  # those of RabbitMQ itself
        and value.strip() == value
        and 0 < len(value.encode()) <= _LONGEST_NAME
    )


def check_keys(config: Iterable[str]) -> None:
    """Refuse keys that mean nothing to any backend.

    Raises:
        ConfigError: Naming the unknown key and the nearest known one.
    """
    for key in config:
        if key not in OWN_KEYS and key not in backend_keys():  # without plug-ins, where they are not needed
            near = difflib.get_close_matches(str(key).lower(), sorted(backend_keys()), n=1, cutoff=0.0)
            raise SettingError(f"Unknown key {key!r} in backend_config; did you mean {near[0]!r}?")
