"""Values that may not survive pickling or copying, each on its own beside a text that can stand for it."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, NamedTuple

from graflow.foreign import attempt

_PLAIN: Final = (str, int, float, bool, type(None))


class Packed(NamedTuple):
    """A value pickled on its own, beside the text that replaces it where it cannot be loaded."""

    content: bytes | None
    text: str
    is_error: bool

    def value(self, as_error: Callable[[str], BaseException]) -> Any:
        if self.content is not None:
            with suppress(Exception):  # its class may be missing here, or refuse its own state
                return pickle.loads(self.content)
        return as_error(self.text) if self.is_error else self.text


def packed(value: Any) -> Any:
    """The value if it is plain, else its pickle, made once at each level: a chain of errors stays linear in size."""
    if type(value) in _PLAIN:
        return value
    content = attempt(lambda: pickle.dumps(value), lambda _: None)
    if content is None:
        if type(value) is dict:
            return {key if type(key) in _PLAIN else repr(key): packed(item) for key, item in value.items()}
        if type(value) in (list, tuple):
            return [packed(item) for item in value]
    is_error = isinstance(value, BaseException)
    text = attempt(
        lambda: f"{type(value).__qualname__}: {value}" if is_error else repr(value),
        lambda _: f"<{type(value).__qualname__} object>",
    )
    return Packed(content, text[:1000], is_error)


def unpacked(value: object, as_error: Callable[[str], BaseException]) -> Any:
    """What `packed` was given, with `as_error` of its text in the place of an error that cannot be loaded."""
    if isinstance(value, Packed):
        return value.value(as_error)
    if isinstance(value, dict):
        return {key: unpacked(item, as_error) for key, item in value.items()}
    return [unpacked(item, as_error) for item in value] if isinstance(value, list) else value


def deep_copied(value: object, memo: dict[int, Any]) -> Any:
    """A deep copy, or the value itself when it cannot be copied."""
    return attempt(lambda: copy.deepcopy(value, memo), lambda _: value)
