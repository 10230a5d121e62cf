"""A store by its address."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from graflow.configuration.finding import project_folder
from graflow.configuration.project import project_settings
from graflow.exceptions import StoreConfigError
from graflow.state.memory import MemoryStore
from graflow.state.redis import RedisStore
from graflow.state.sqlite import SqliteStore
from graflow.state.store import StateStore

DEFAULT_FILE: Final = Path(".graflow") / "flows.db"

_REDIS_SCHEMES: Final = frozenset({"redis", "rediss", "unix", "redis+socket", "sentinel"})
_KINDS: Final = "sqlite:///path, redis://host:port/db (also rediss:// and unix://), and memory://"


def open_store(address: str | Path | StateStore | None = None) -> StateStore:
    """The store at an address; nothing is connected or made before it is used.

    Args:
        address: A URL; a path, which is that of an SQLite file; a store, which is returned; or None for what
            `GRAFLOW_FLOW_STORE` or `config.yaml` says, else the file `.graflow/flows.db` in the folder of the project:
            the nearest one, from the working directory upwards, that has a `.graflow`, a `pyproject.toml` or a `.git`.

    Raises:
        StoreConfigError: No store has such an address.
        ConfigError: For a `config.yaml` that cannot be used.
    """
    if isinstance(address, StateStore):
        return address
    if address is None:
        return named_store() or SqliteStore(project_folder() / DEFAULT_FILE)
    if isinstance(address, Path):
        return SqliteStore(address)
    if not isinstance(address, str):
        raise StoreConfigError(
            f"A store is given as an address, a path or a store itself, not as {address!r}; known are {_KINDS}"
        )
    return _opened(address)


def named_store() -> StateStore | None:
    """The store that `GRAFLOW_FLOW_STORE` or `config.yaml` names; None where neither does.

    Raises:
        StoreConfigError: No store has such an address.
        ConfigError: For a `config.yaml` that cannot be used.
    """
    settings = project_settings()
    address = settings.persistence.store
    if address is None:
        return None
    origin = settings.origin("persistence", "store")
    try:
        return _opened(address, origin.folder)
    except StoreConfigError as error:
        raise StoreConfigError(f"{origin.place}: {error.message}") from None


def _opened(address: str, folder: Path | None = None) -> StateStore:
    """The store at a URL; the path of a file starts from the folder."""
    scheme = urlsplit(address).scheme
    if scheme == "sqlite":
        return _sqlite_store(address, folder or Path())
    if scheme == "memory":
        return MemoryStore()
    if scheme in _REDIS_SCHEMES:
        return _redis_store(address)
    raise StoreConfigError(f"No store has an address like {_shown(scheme)}; known are {_KINDS}")


def _shown(scheme: str) -> str:
    # The rest may hold a password.
    return f"'{scheme}://…'" if scheme else "this one, which has no scheme"


def _sqlite_store(url: str, folder: Path) -> SqliteStore:
    parts = urlsplit(url)
    path = unquote(parts.path).removeprefix("/")
    if parts.netloc or not path:
        raise StoreConfigError(
            "The address of an SQLite file is sqlite:///relative/path or sqlite:////absolute/path, with three or four "
            f"slashes; {url!r} names none. For a store in memory write memory://"
        )
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    synchronous = options.pop("synchronous", "normal").upper()
    if synchronous not in {"NORMAL", "FULL"}:
        raise StoreConfigError(f"synchronous of an SQLite store is 'normal' or 'full', not {synchronous.lower()!r}")
    timeout = _seconds("timeout", options.pop("timeout", "30"))
    if options:
        raise StoreConfigError(f"Unknown option of an SQLite store: {', '.join(options)}; known: synchronous, timeout")
    return SqliteStore(folder / path, synchronous=synchronous, timeout=timeout)


def _redis_store(url: str) -> StateStore:
    address, _, query = url.partition("?")
    own: dict[str, str] = {}
    others: list[tuple[str, str]] = []
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in {"key_prefix", "retention"}:
            own[name] = value
        else:
            others.append((name, value))
    settings: dict[str, Any] = {}
    if "key_prefix" in own:
        settings["key_prefix"] = own["key_prefix"]
    if "retention" in own:
        settings["retention"] = _seconds("retention", own["retention"])
    else:
        settings["retention"] = project_settings().persistence.retention
    return RedisStore({"url": f"{address}?{urlencode(others)}" if others else address}, **settings)


def _seconds(name: str, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 1e10:
        raise StoreConfigError(f"{name} of a store is a number of seconds, not {text!r}")
    return seconds
