"""numpy arrays as npy bytes, and numpy scalars; arrays of objects as lists of values."""

from __future__ import annotations

import base64
import io
import math
import re
from typing import Any, Final

import numpy as np
from numpy.lib import format as npy

from graflow.exceptions import PayloadError
from graflow.values.base import Codec, Make, NoCodecError, Reading, Writing, parts_of, text_of

_MAX_HEADER: Final = 64 * 1024
_SCALAR: Final = re.compile(r"[<>|=]?[biufcmM]\d{1,2}(\[\d*[A-Za-zμ]{1,2}\])?")
_TEXTS: Final = {"str": np.str_, "bytes": np.bytes_}


def codec_of(kind: type) -> Codec | None:
    """How numpy's own values are taken apart; None for subclasses of arrays, which hold more."""
    if kind is np.ndarray:
        return Codec("numpy.array", take_array)
    if issubclass(kind, np.generic) and kind.__module__ == "numpy":
        return Codec("numpy.scalar", _take_scalar)
    return Codec("numpy.dtype", _take_dtype) if issubclass(kind, np.dtype) else None


def take_array(value: Any, writing: Writing) -> Any:
    """Npy bytes; `[shape, items]` for an array of objects."""
    if value.dtype == object:
        return [list(value.shape), [writing.write(item, (index,)) for index, item in enumerate(value.flat)]]
    if value.dtype.hasobject:
        raise NoCodecError(f"an array of {value.dtype}, which holds objects")
    return base64.b64encode(npy_bytes(value)).decode("ascii")


def npy_bytes(value: Any) -> bytes:
    stream = io.BytesIO()
    try:
        npy.write_array(stream, value, version=(1, 0), allow_pickle=False)
    except (ValueError, UnicodeError) as error:  # a header of thousands of names, or with other letters
        raise NoCodecError(str(error)) from error
    return stream.getvalue()


def make_array(content: Any, reading: Reading) -> Any:
    if type(content) is not list:
        return read_npy(base64.b64decode(content, validate=True))
    shape, items = parts_of(content, 2)
    found = np.empty(len(items), dtype=object)
    for index, item in enumerate(items):
        found[index] = reading.read(item)
    return found.reshape(shape)


def read_npy(content: bytes) -> Any:
    """The array in npy bytes; as many bytes as it says must be there before any memory is taken for it."""
    stream = io.BytesIO(content)
    if npy.read_magic(stream) != (1, 0):
        raise PayloadError("An array has an unknown version of npy")
    shape, _, dtype = npy.read_array_header_1_0(stream, max_header_size=_MAX_HEADER)
    if dtype.hasobject or math.prod(shape) * dtype.itemsize != len(content) - stream.tell():
        raise PayloadError("An array does not hold the bytes that it says")
    stream.seek(0)
    return npy.read_array(stream, allow_pickle=False, max_header_size=_MAX_HEADER)


def _take_scalar(value: Any, _writing: Writing) -> Any:
    if isinstance(value, np.str_):
        return ["str", str(value)]
    if isinstance(value, np.bytes_):
        return ["bytes", bytes(value).hex()]
    if isinstance(value, np.void):
        if type(value) is not np.void or value.dtype.hasobject:
            raise NoCodecError("a record, or a structured scalar that holds objects")
        return ["npy", base64.b64encode(npy_bytes(np.array(value))).decode("ascii")]
    return [value.dtype.str, value.tobytes().hex()]


def _make_scalar(content: object, _reading: Reading) -> Any:
    name, text = map(text_of, parts_of(content, 2))
    if name == "npy":
        return read_npy(base64.b64decode(text, validate=True))[()]
    if name in _TEXTS:
        return np.str_(text) if name == "str" else np.bytes_(bytes.fromhex(text))
    if not _SCALAR.fullmatch(name):
        raise PayloadError("A numpy scalar has an unknown type")
    dtype, data = np.dtype(name), bytes.fromhex(text)
    if len(data) != dtype.itemsize:
        raise PayloadError("A numpy scalar does not hold the bytes of its type")
    return np.frombuffer(data, dtype)[0]


def _take_dtype(value: Any, _writing: Writing) -> Any:
    if value.hasobject or value.names or value.subdtype:
        raise NoCodecError("a dtype of objects or of several parts")
    return value.str


def _make_dtype(content: Any, _reading: Reading) -> Any:
    if not re.fullmatch(r"[<>|=]?[biufcmMSUV]\d{0,9}(\[\d*[A-Za-zμ]{1,2}\])?", text_of(content)):
        raise PayloadError("A numpy dtype has an unknown form")
    return np.dtype(content)


READERS: Final[dict[str, Make]] = {
    "numpy.array": make_array,
    "numpy.scalar": _make_scalar,
    "numpy.dtype": _make_dtype,
}
