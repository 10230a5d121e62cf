"""Pickles of graphs, contexts and tasks, lambdas and closures included (cloudpickle).

`loads` and `load` run code that the bytes ask for: only for data that you trust, or whose signature was checked.
"""

from __future__ import annotations

import logging
import pickle
from contextvars import ContextVar
from typing import IO, Any

import cloudpickle

from graflow.debug.find_locks import find_thread_locks

_log = logging.getLogger(__name__)
_dumping: ContextVar[bool] = ContextVar("graflow_dumping", default=False)


def dumps(obj: Any) -> bytes:
    """Pickle an object.

    Raises:
        TypeError: When something in it cannot be pickled; where locks are the reason, the log says in which places.
    """
    token = _dumping.set(True)
    try:
        data: bytes = cloudpickle.dumps(obj)
    except TypeError as error:
        _log_locks(obj, error)
        raise
    finally:
        _dumping.reset(token)
    return data


def loads(data: bytes) -> Any:
    """Unpickle what `dumps` made. Only for trusted data."""
    return pickle.loads(data)


def dump(obj: Any, file: IO[bytes]) -> None:
    """Pickle into a binary file; nothing is written when the object cannot be pickled."""
    file.write(dumps(obj))


def load(file: IO[bytes]) -> Any:
    """Unpickle from a file. Only for trusted files."""
    return loads(file.read())


def pickles_by_value(module_name: str) -> bool:
    """Whether functions of this module travel as code: those of a script or notebook, inside `dumps`."""
    return module_name == "__main__" and _dumping.get()


def _log_locks(obj: Any, error: TypeError) -> None:
    kind = type(obj).__qualname__
    _log.error("A %s cannot be pickled: %s", kind, error)
    for path, lock in find_thread_locks(obj):
        _log.error("In that %s, a %s is at %s", kind, type(lock).__qualname__, path)
