"""A store by its address."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from graflow.state.errors import StoreConfigError
from graflow.state.memory import MemoryStore
from graflow.state.store import StateStore

_KINDS = "sqlite:///path, redis://host:port/db (also rediss://, unix://), or memory://"


def open_store(address: str | Path | StateStore | None = None) -> StateStore:
    """The store at an address; nothing is connected or made before it is used.

    Args:
        address: A URL (`memory://`), or a store, which is returned.

    Raises:
        StoreConfigError: No store is found at such an address.
    """
    if isinstance(address, StateStore):
        return address
    scheme = urlsplit(str(address)).scheme
    if scheme == "memory":
        return MemoryStore()
    raise StoreConfigError(f"No store has the scheme '{scheme}'; known are {_KINDS}")
