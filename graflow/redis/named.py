"""The Redis that is meant where none is named: that of the environment, else of `config.yaml`, else the local one."""

from __future__ import annotations

import os
from functools import cache
from importlib.metadata import entry_points
from typing import Any, Final

from graflow.configuration.document import Document
from graflow.configuration.finding import document
from graflow.redis.clients import OPTION_KEYS, SERVER_KEYS, TLS_KEYS

URL_VARIABLE: Final = "GRAFLOW_REDIS_URL"
PREFIX_VARIABLE: Final = "GRAFLOW_KEY_PREFIX"
DEFAULT_URL: Final = "redis://localhost:6379/0"
SECTION: Final = "redis"
CONNECTION_KEYS: Final = frozenset((*SERVER_KEYS, *TLS_KEYS, *OPTION_KEYS))
NAMES_OF_SERVERS: Final = ("url", "host", "unix_socket_path", "sentinels")

OWN_KEYS: Final = CONNECTION_KEYS | {"timeout", "thread_count", "redis_client"}
"""The keys of the backends that are here."""

_PLUG_INS: Final = "graflow.backend_keys"


@cache
def backend_keys() -> frozenset[str]:
    """The keys of the backends that are here, with those of plug-ins, which are imported for it."""
    return OWN_KEYS.union(*(plug_in.load() for plug_in in entry_points(group=_PLUG_INS)))


def in_file() -> tuple[Document, dict[str, Any]] | None:
    """What the section `redis` of `config.yaml` says, and where; None where there is none.

    Raises:
        ConfigError: For a file that cannot be read, and for an unknown key.
    """
    found = document()
    if found is None or SECTION not in found.sections:
        return None
    said = found.section(SECTION, backend_keys() - {"redis_client"})
    return found, {key: each.value for key, each in said.items()}


def usual_connection() -> dict[str, Any]:
    """The connection keys that hold where none names a server."""
    from graflow.configuration.variables import warn_of_unknown_variables  # noqa: PLC0415 - only this needs pydantic

    warn_of_unknown_variables()  # one of which may have been meant to name it
    if url := os.environ.get(URL_VARIABLE):
        return {"url": url}
    found = in_file()
    said = {} if found is None else {key: value for key, value in found[1].items() if key in CONNECTION_KEYS}
    return said if any(said.get(name) for name in NAMES_OF_SERVERS) else {**said, "url": DEFAULT_URL}


def usual_place() -> str | None:
    """What names the server that holds where no key does: a variable, or a line of a file; None where nothing does."""
    if os.environ.get(URL_VARIABLE):
        return URL_VARIABLE
    found = in_file()
    named = [] if found is None else [key for key in NAMES_OF_SERVERS if found[1].get(key)]
    return found[0].place(SECTION, named[0]) if found is not None and named else None


def usual_prefix() -> str | None:
    """The namespace that holds where none is given."""
    if prefix := os.environ.get(PREFIX_VARIABLE):
        return prefix
    found = in_file()
    return None if found is None else found[1].get("key_prefix")
