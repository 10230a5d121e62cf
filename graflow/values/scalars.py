"""Values without values inside: numbers, bytes, moments, paths and the like."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from graflow.values import moments
from graflow.values.base import Codec, Make, Reading, Writing


def _take_bytes(value: bytes | bytearray, _writing: Writing) -> str:
    return base64.b64encode(value).decode("ascii")


def _take_text(value: object, _writing: Writing) -> str:
    return str(value)


def _take_range(value: range, writing: Writing) -> Any:
    return [writing.write(part, "") for part in (value.start, value.stop, value.step)]


def _make_bytes(data: Any, _reading: Reading) -> bytes:
    return base64.b64decode(data, validate=True)


def _make_int(data: Any, _reading: Reading) -> int:
    return int(data, 16)


def _make_float(data: Any, _reading: Reading) -> float:
    return {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}[data]


def _make_timedelta(data: Any, _reading: Reading) -> timedelta:
    days, seconds, microseconds = data
    return timedelta(days, seconds, microseconds)


def _make_complex(data: Any, _reading: Reading) -> complex:
    real, imaginary = data
    return complex(float(real), float(imaginary))


# Of integers and floats only those that JSON cannot hold.
CODECS: Final[Mapping[type, Codec]] = {
    int: Codec("int", lambda value, _: hex(value)),
    float: Codec("float", lambda value, _: repr(value)),
    bytes: Codec("bytes", _take_bytes),
    bytearray: Codec("bytearray", _take_bytes),
    datetime: Codec("datetime", moments.take_datetime),
    date: Codec("date", lambda value, _: value.isoformat()),
    time: Codec("time", moments.take_time),
    timedelta: Codec("timedelta", lambda value, _: [value.days, value.seconds, value.microseconds]),
    timezone: Codec("timezone", moments.take_timezone),
    ZoneInfo: Codec("zone", moments.take_zone),
    Decimal: Codec("decimal", _take_text),
    UUID: Codec("uuid", lambda value, _: value.hex),
    complex: Codec("complex", lambda value, _: [repr(value.real), repr(value.imag)]),
    range: Codec("range", _take_range),
    type(Path()): Codec("path", _take_text),
    PurePosixPath: Codec("posixpath", _take_text),
    PureWindowsPath: Codec("windowspath", _take_text),
}
READERS: Final[Mapping[str, Make]] = {
    "bytearray": lambda data, reading: bytearray(_make_bytes(data, reading)),
    "bytes": _make_bytes,
    "complex": _make_complex,
    "date": lambda data, _: date.fromisoformat(data),
    "datetime": moments.make_datetime,
    "decimal": lambda data, _: Decimal(data),
    "float": _make_float,
    "int": _make_int,
    "path": lambda data, _: Path(data),
    "posixpath": lambda data, _: PurePosixPath(data),
    "range": lambda data, reading: range(*map(reading.read, data)),
    "time": moments.make_time,
    "timedelta": _make_timedelta,
    "timezone": moments.make_timezone,
    "uuid": lambda data, _: UUID(hex=data),
    "windowspath": lambda data, _: PureWindowsPath(data),
    "zone": moments.make_zone,
}
