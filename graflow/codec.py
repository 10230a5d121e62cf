"""Values and task envelopes as JSON text.

How kinds that JSON does not know are written is in `graflow.encoding.typed_json`, errors are in
`graflow.encoding.errors_as_data`, the classes that values are made of in `graflow.values.classes`; all three are
importable here.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, Final, NoReturn

from graflow.encoding.errors_as_data import ErrorData, describe_error, rebuild_error, register_error
from graflow.encoding.typed_json import from_jsonable, to_jsonable
from graflow.exceptions import PayloadError, TaskResolutionError
from graflow.values.classes import register
from graflow.values.pickles import Pickles
from graflow.values.plain import MAX_DEPTH, SCALARS, is_plain

__all__ = [
    "ENVELOPE_VERSION",
    "MAX_DEPTH",
    "MAX_TEXT",
    "ErrorData",
    "RemoteError",
    "SerializedTask",
    "decode",
    "describe_error",
    "encode",
    "from_jsonable",
    "parse_json",
    "rebuild_error",
    "register",
    "register_error",
    "to_jsonable",
]

RemoteError = ErrorData
"""The name under which the public pages describe `MemberOutcome.error`."""

ENVELOPE_VERSION: Final = 1
MAX_TEXT: Final = 128 * 1024 * 1024  # characters of one text
_LEVELS_PER_VALUE: Final = 3  # a dictionary with other keys is an object, a list of pairs, and a pair


def _refuse_constant(name: str) -> NoReturn:
    raise PayloadError(f"{name} is not JSON")


_to_text: Final = json.JSONEncoder(allow_nan=False, check_circular=False, separators=(",", ":")).encode
_MAX_DIGITS: Final = 4300  # of one integer, whatever limit the interpreter is told


def _short_int(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise PayloadError(f"A number of {len(digits)} digits is refused; {_MAX_DIGITS} are the limit")
    return int(digits)


_from_text: Final = json.JSONDecoder(parse_constant=_refuse_constant).decode
_from_text_slowly: Final = json.JSONDecoder(parse_constant=_refuse_constant, parse_int=_short_int).decode


def _reader() -> Callable[[str], Any]:
    """What parses JSON; the interpreter itself limits digits as fast as can be, unless a program has told it not to."""
    return _from_text if 0 < sys.get_int_max_str_digits() <= _MAX_DIGITS else _from_text_slowly


def encode(value: object, *, where: str = "value", pickles: Pickles | None = None) -> str:
    """The value as JSON text, read by `decode`.

    Args:
        value: What to write.
        where: What the value is called in error messages.
        pickles: Takes what has no other form.

    Raises:
        TypeError: When a part of it cannot be kept; the text names its place and type.
        PayloadError: When the text is longer than 128 Mi characters.
    """
    if type(value) not in SCALARS and not is_plain(value):
        value = to_jsonable(value, where=where, pickles=pickles)
    try:
        text = _to_text(value)
    except ValueError:  # a non-finite float, or an integer beyond the interpreter's limit of digits
        text = _to_text(to_jsonable(value, where=where, pickles=pickles))
    if len(text) > MAX_TEXT:
        raise PayloadError(f"{where} is {len(text)} characters long as JSON, more than {MAX_TEXT}; pass a reference")
    return text


def decode(text: str | bytes, *, pickles: Pickles | None = None) -> Any:
    """The value that `encode` wrote.

    Raises:
        PayloadError: When the text is no JSON, too deep, too long, or holds an unknown kind.
    """
    tagged = b'"$t"' in text if isinstance(text, bytes) else '"$t"' in text
    data = parse_json(text, max_depth=MAX_DEPTH * _LEVELS_PER_VALUE if tagged else MAX_DEPTH)
    return from_jsonable(data, pickles=pickles) if tagged else data


def parse_json(text: str | bytes, *, max_depth: int = MAX_DEPTH) -> Any:
    """Plain JSON from text, its length and depth looked at before the parser starts to recurse.

    Raises:
        PayloadError: When it is no JSON, too deep or too long.
    """
    if len(text) > MAX_TEXT:
        raise PayloadError(f"A text of {len(text)} characters is longer than {MAX_TEXT}")
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8")
        except UnicodeDecodeError:
            raise PayloadError("Not readable as JSON: not UTF-8") from None
    if text.count("[") + text.count("{") > max_depth and _deeper_than(text, max_depth):
        raise PayloadError(f"JSON nested deeper than {max_depth} levels is refused")
    try:
        return _reader()(text)
    except PayloadError:
        raise
    except json.JSONDecodeError as error:
        # Not chained: that error carries the whole text, which may hold what must not be logged.
        raise PayloadError(f"Not readable as JSON: {error.msg} at character {error.pos}") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise PayloadError(f"Not readable as JSON: {type(error).__name__}: {error}") from None


_KEPT: Final = b'"[]{}'
_OTHERS: Final = bytes(code for code in range(256) if code not in _KEPT)
_AS_LISTS: Final = bytes.maketrans(b"{}", b"[]")
_STEPS: Final = {ord("["): 1, ord("]"): -1}
_PASSES: Final = 8


def _deeper_than(text: str, limit: int) -> bool:
    """Whether brackets outside strings nest deeper.

    Each of some passes takes the innermost pairs away, at the speed of C; what is deeper than that is counted through.
    """
    content = text.encode("utf-8", "surrogatepass")
    if b"\\" in content:  # backslashes pair from the left, and what is left of a run escapes what follows it
        content = content.replace(b"\\\\", b"").replace(b'\\"', b"")
    # Strings without brackets vanish; where two become one, brackets stay inside or outside as they were.
    brackets = content.translate(_AS_LISTS, _OTHERS).replace(b'""', b"")
    brackets = b"".join(brackets.split(b'"')[::2])
    passed = 0
    while passed < min(_PASSES, limit) and brackets:
        shorter = brackets.replace(b"[]", b"")
        if len(shorter) == len(brackets):
            break
        brackets, passed = shorter, passed + 1
    return passed + max(accumulate(map(_STEPS.__getitem__, brackets)), default=0) > limit


@dataclass(frozen=True)
class SerializedTask:
    """A task in a form that can be stored and sent; what the payload holds is up to the strategy.

    Attributes:
        strategy: How the payload stands for a task, such as "reference" or "pickle".
        payload: JSON data.
        resolver_id: Which resolver of a registry made it, and must read it.
        version: Version of this form; 1 is the only one.
    """

    strategy: str
    payload: Mapping[str, Any] = field(repr=False)
    resolver_id: str = "default"
    version: int = ENVELOPE_VERSION

    def to_dict(self) -> dict[str, Any]:
        """JSON data, read by `from_dict`."""
        return {
            "version": self.version,
            "strategy": self.strategy,
            "resolver_id": self.resolver_id,
            "payload": dict(self.payload),
        }

    @classmethod
    def from_dict(cls, data: object) -> SerializedTask:
        """The envelope that `to_dict` wrote.

        Raises:
            TaskResolutionError: When its version is unknown or a part is missing or of another type.
        """
        if not isinstance(data, Mapping):
            raise TaskResolutionError("A task envelope must be a JSON object")
        version = data.get("version")
        if type(version) is not int or version != ENVELOPE_VERSION:
            raise TaskResolutionError(
                f"Unknown version {str(version)[:40]!r} of a task envelope; this is version {ENVELOPE_VERSION}"
            )
        strategy, payload, resolver_id = data.get("strategy"), data.get("payload"), data.get("resolver_id", "default")
        if not isinstance(strategy, str) or not strategy or not isinstance(resolver_id, str):
            raise TaskResolutionError("A task envelope must hold 'strategy' and 'resolver_id' as text")
        if not isinstance(payload, Mapping) or not all(isinstance(key, str) for key in payload):
            raise TaskResolutionError("A task envelope must hold 'payload' as a JSON object")
        return cls(strategy, dict(payload), resolver_id, version)

    def to_json(self) -> str:
        """JSON text, read by `from_json`."""
        return _to_text(self.to_dict())

    @classmethod
    def from_json(cls, text: str | bytes) -> SerializedTask:
        """The envelope that `to_json` wrote.

        Raises:
            TaskResolutionError: When the text is no JSON, too deep or no envelope of this version.
        """
        try:
            data = parse_json(text, max_depth=MAX_DEPTH * _LEVELS_PER_VALUE)
        except PayloadError as error:
            raise TaskResolutionError(f"A task envelope cannot be read: {error}", error) from error
        return cls.from_dict(data)
