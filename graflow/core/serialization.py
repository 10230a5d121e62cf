"""Pickles of graphs, contexts and tasks, lambdas and closures included (cloudpickle).

`loads` and `load` run code that the bytes ask for: only for data that you trust, or whose signature was checked.
"""

from __future__ import annotations

import io
import pickle
import sys
from collections.abc import Callable
from contextvars import ContextVar
from typing import IO, Any, Final

import cloudpickle

from graflow.debug.find_locks import find_thread_locks
from graflow.encoding.errors_as_data import ErrorData, describe_error
from graflow.exceptions import GraflowError, RemoteTaskError
from graflow.foreign import attempt
from graflow.signing import SigningKeys
from graflow.text.shown import get_logger
from graflow.values.pickles import Pickles

_log = get_logger(__name__)
_SPAWNED: Final = "__mp_main__"
SCRIPTS: Final = frozenset({"__main__", _SPAWNED})
"""What the program itself is called as a module, here and in children that `multiprocessing` spawned."""
_dumping: ContextVar[bool] = ContextVar("graflow_dumping", default=False)


def dumps(obj: object) -> bytes:
    """Pickle an object.

    Raises:
        TypeError: When something in it cannot be pickled; where locks are the reason, the log says in which places.
    """
    token = _dumping.set(True)
    try:
        data = _dumped(obj)
    except TypeError as error:
        _log_locks(obj, error)
        raise
    finally:
        _dumping.reset(token)
    return data


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    """Keeps an error that would not come back as a description of itself, so that one bad class spoils nothing else."""

    def reducer_override(self, obj: object) -> Any:
        if isinstance(obj, BaseException) and not isinstance(obj, GraflowError) and not _comes_back(obj):
            return _described_error, (describe_error(obj).to_dict(),)
        return super().reducer_override(obj)


def _dumped(obj: object) -> bytes:
    spawned = sys.modules.get(_SPAWNED)
    if spawned is not None:
        cloudpickle.register_pickle_by_value(spawned)  # as it does by itself for a script under its usual name
    buffer = io.BytesIO()
    _Pickler(buffer).dump(obj)
    return buffer.getvalue()


def _comes_back(error: BaseException) -> bool:
    # Its class decides what happens when it is pickled and made again.
    return isinstance(attempt(lambda: pickle.loads(cloudpickle.dumps(error)), lambda _: None), BaseException)


def _described_error(data: dict[str, Any]) -> RemoteTaskError:
    return RemoteTaskError(ErrorData.from_dict(data))


def loads(data: bytes) -> Any:
    """Unpickle what `dumps` made. Only for trusted data."""
    return pickle.loads(data)


def signed_pickles(
    keys: SigningKeys | None, *bound_to: str, fingerprint: Callable[[object], str] | None = None
) -> Pickles:
    """Pickles of single values that belong to one place; none at all without keys."""
    return Pickles(keys, bound_to, dumps, loads, fingerprint)


def dump(obj: object, file: IO[bytes]) -> None:
    """Pickle into a binary file; nothing is written when the object cannot be pickled."""
    file.write(dumps(obj))


def load(file: IO[bytes]) -> Any:
    """Unpickle from a file. Only for trusted files."""
    return loads(file.read())


def pickles_by_value(module_name: str) -> bool:
    """Whether functions of this module travel as code, inside `dumps`.

    Those of a script or notebook do, and those of modules that were registered with cloudpickle for it.
    """
    if not _dumping.get():
        return False
    registered = cloudpickle.list_registry_pickle_by_value()
    return module_name in SCRIPTS or any(f"{module_name}.".startswith(f"{name}.") for name in registered)


def _log_locks(obj: object, error: TypeError) -> None:
    kind = type(obj).__qualname__
    _log.error("A %s cannot be pickled: %s", kind, error)
    for path, lock in find_thread_locks(obj):
        _log.error("In that %s, a %s is at %s", kind, type(lock).__qualname__, path)
