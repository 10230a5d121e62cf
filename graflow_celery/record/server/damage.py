"""Telling a record that is damaged, or of another format, from a server that does not answer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import redis

from graflow.exceptions import GraflowError, PayloadError
from graflow.redis.refusals import RefusedForNowError
from graflow_celery.errors import RecordDamagedError, RecordVersionError

_OF_VERSION: Final = re.compile(r"GRAFLOW-VERSION (\S+)")
_TOLD: Final = re.compile(r"GRAFLOW-DAMAGED ([\w ]+?)(?: script:|$)")
# What scripts and commands say of values that nobody here has written.
_ODD: Final = re.compile(
    r"(WRONGTYPE|attempt to [\w ]+|bad argument #\d+ to '\w+'|(?:hash )?value is not an? (?:integer|valid float|float))"
)


@contextmanager
def naming_damage(run_id: str) -> Iterator[None]:
    """Errors that come from the record of a run itself, with its name.

    Raises:
        RecordDamagedError: When something in it is not what it should be.
        RecordVersionError: When it has another format.
    """
    try:
        yield
    except (RefusedForNowError, redis.exceptions.NoPermissionError):
        raise
    except redis.exceptions.ResponseError as error:
        told = _told(run_id, str(error))
        if told is None:
            raise
        raise told from error
    except PayloadError as error:
        raise RecordDamagedError(run_id, str(error)) from error
    except GraflowError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        raise RecordDamagedError(run_id, f"something in it cannot be read ({type(error).__name__}: {error})") from error


def _told(run_id: str, text: str) -> RecordDamagedError | RecordVersionError | None:
    if found := _OF_VERSION.search(text):
        version = found[1]
        if version.isdecimal():
            return RecordVersionError(run_id, version)
        return RecordDamagedError(run_id, "it says of no format that it has it")
    if found := _TOLD.search(text):
        return RecordDamagedError(run_id, found[1])
    if found := _ODD.search(text):
        what = "a key of it has another type" if found[1] == "WRONGTYPE" else f"a value in it is odd ({found[1]})"
        return RecordDamagedError(run_id, what)
    return None
