"""Calls of code that is not ours: methods of users' values, listeners, constructors of their errors."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeVar

_T = TypeVar("_T")
_U = TypeVar("_U")

_SHOWN: Final = 5  # errors of a group that its text names


def attempt(call: Callable[[], _T], otherwise: Callable[[Exception], _U]) -> _T | _U:
    """What a call gives, or what `otherwise` makes of the error that it raises; it may raise one of ours.

    For calls that may raise anything; not for our own code, whose errors have names.
    """
    try:
        return call()
    except Exception as error:  # noqa: BLE001 - code of others may raise anything
        return otherwise(error)


def text_of(error: BaseException) -> str:
    """The text of an error, also of one that cannot print itself; of a group, with the errors in it."""
    text = attempt(lambda: str(error), lambda failure: f"<no text: {type(failure).__name__} while printing it>")
    if isinstance(error, BaseExceptionGroup) and type(error).__str__ is BaseExceptionGroup.__str__:
        leaves = list(_leaves(error))
        more = [f"and {len(leaves) - _SHOWN} more"] if len(leaves) > _SHOWN else []
        text = f"{text}: {'; '.join([*map(_in_words, leaves[:_SHOWN]), *more])}"
    return text


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def _in_words(error: BaseException) -> str:
    text = text_of(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def attempt_import(call: Callable[[], _T], otherwise: Callable[[Exception | SystemExit], _U]) -> _T | _U:
    """The same for a call that imports a module of others, which may also end the program."""
    try:
        return attempt(call, otherwise)
    except SystemExit as error:
        return otherwise(error)


def import_failure(module: str, error: BaseException) -> str:
    """Why a module of others could not be imported, then what to do about it."""
    parts = module.replace("\\", "/").removesuffix(".py").strip("./").replace("/", ".")
    if not all(part.isidentifier() for part in module.split(".")) or module.endswith(".py"):
        return f"a module is named as in an import statement; give {parts!r}"
    if isinstance(error, SystemExit):
        return f"it ends the program, with sys.exit({error.code!r}); keep that below `if __name__ == '__main__':`"
    if isinstance(error, ModuleNotFoundError) and error.name:
        if f"{module}.".startswith(f"{error.name}."):
            path = os.environ.get("PYTHONPATH")
            return (
                f"there is no {error.name!r} in the current folder ({Path.cwd()}), on PYTHONPATH "
                f"({path or 'not set'}) or installed here; start in the folder that holds it, or add that to PYTHONPATH"
            )
        return f"it imports {error.name!r}, which is not found here; install that, or add its folder to PYTHONPATH"
    why = str(error) if isinstance(error, ImportError) else f"{type(error).__name__}: {error}"
    return f"{why}; mend it until `python -c 'import {module}'` works here"
