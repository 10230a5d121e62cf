"""pandas frames, series, indexes and moments, column by column: npy bytes, or lists of values."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import pandas as pd

from graflow.exceptions import PayloadError
from graflow.values.base import Codec, Make, NoCodecError, Reading, Writing, parts_of

_MASKED: Final = frozenset({
    "Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64", "Float32", "Float64", "boolean",
})  # fmt: skip


def codec_of(kind: type) -> Codec | None:
    """How pandas' own values are taken apart; None for subclasses of frames, which hold more."""
    if kind in _KINDS:
        return Codec(*_KINDS[kind])
    return Codec("pandas.index", _take_index) if issubclass(kind, pd.Index) and _is_own(kind) else None


def _is_own(kind: type) -> bool:
    return kind.__module__.partition(".")[0] == "pandas"


# -- out ---------------------------------------------------------------------------------------------------------------


def _take_frame(value: Any, writing: Writing) -> Any:
    _refuse_flags(value)
    columns = [
        _written(value.iloc[:, index].array, writing, (name,)) for index, name in enumerate(value.columns.tolist())
    ]
    return [
        _take_index(value.columns, writing),
        _take_index(value.index, writing),
        columns,
        _attributes(value, writing),
    ]


def _take_series(value: Any, writing: Writing) -> Any:
    _refuse_flags(value)
    content = _written(value.array, writing, "")
    name = writing.write(value.name, ".name")
    return [name, _take_index(value.index, writing), content, _attributes(value, writing)]


def _refuse_flags(value: Any) -> None:
    if not value.flags.allows_duplicate_labels:
        raise NoCodecError("a frame or series that allows no duplicate labels")


def _attributes(value: Any, writing: Writing) -> Any:
    return writing.write(dict(value.attrs), ".attrs") if value.attrs else None


def _take_index(value: Any, writing: Writing) -> Any:
    names = [writing.write(name, ".names") for name in value.names]
    if isinstance(value, pd.RangeIndex):
        return ["range", names, [value.start, value.stop, value.step]]
    if isinstance(value, pd.MultiIndex):
        levels = [_take_index(level, writing) for level in value.levels]
        return ["multi", names, [levels, [writing.write(np.asarray(codes), "") for codes in value.codes]]]
    return ["plain", names, [_written(value.array, writing, ".index"), _frequency(value)]]


def _frequency(index: Any) -> str | None:
    """The name of an index's frequency, from which it can be made again; one with holidays of its own has none."""
    name: str | None = getattr(index, "freqstr", None)
    if name is None:
        return None
    try:
        same = pd.tseries.frequencies.to_offset(name) == index.freq
    except ValueError:
        same = False
    if not same:
        raise NoCodecError(f"an index with the frequency {index.freq}")
    return name


def _written(array: Any, writing: Writing, step: str | tuple[Any]) -> Any:
    """One column, as its form and content."""
    dtype = array.dtype
    if isinstance(dtype, pd.StringDtype):
        is_nan = isinstance(dtype.na_value, float)
        texts = [None if pd.isna(item) else str(item) for item in array]
        return ["text", [dtype.storage, is_nan, texts]]
    if isinstance(dtype, np.dtype) or isinstance(array, pd.arrays.NumpyExtensionArray):
        return ["numpy", writing.write(np.asarray(array), step)]
    if isinstance(dtype, pd.CategoricalDtype):
        codes = writing.write(np.asarray(array.codes), step)
        return ["categories", [codes, _take_index(array.categories, writing), bool(array.ordered)]]
    if isinstance(dtype, pd.DatetimeTZDtype):
        moments = np.asarray(array.tz_convert("UTC").tz_localize(None))
        return ["zoned", [writing.write(moments, step), writing.write(dtype.tz, step)]]
    if str(dtype) in _MASKED:
        mask = np.asarray(array.isna())
        plain = array.to_numpy(dtype=dtype.numpy_dtype, na_value=dtype.numpy_dtype.type(0))
        return ["masked", [str(dtype), writing.write(plain, step), writing.write(mask, step)]]
    raise NoCodecError(f"a column of type {dtype}")


def _take_timestamp(value: Any, writing: Writing) -> Any:
    zone = None if value.tzinfo is None else writing.write(value.tzinfo, "")
    return [writing.write(value.asm8, ""), zone]


# -- back --------------------------------------------------------------------------------------------------------------


def _make_frame(content: object, reading: Reading) -> Any:
    columns, index, arrays, attributes = parts_of(content, 4)
    rows = _make_index(index, reading)
    held = [_column(array, rows, None, reading) for array in _list_of(arrays)]
    frame = pd.DataFrame(dict(enumerate(held)), index=rows, copy=False)
    frame.columns = _make_index(columns, reading)
    frame.attrs = reading.read(attributes) or {}
    return frame


def _make_series(content: object, reading: Reading) -> Any:
    name, index, array, attributes = parts_of(content, 4)
    rows = _make_index(index, reading)
    series = _column(array, rows, reading.read(name), reading)
    series.attrs = reading.read(attributes) or {}
    return series


def _column(content: Any, rows: Any, name: Any, reading: Reading) -> Any:
    array = _made(content, reading)
    if len(array) != len(rows):
        raise PayloadError("The columns of a frame differ in length")
    return pd.Series(array, index=rows, name=name, dtype=array.dtype, copy=False)  # as it is, nothing inferred


def _make_index(content: object, reading: Reading) -> Any:
    form, names, parts = parts_of(content, 3)
    held = [reading.read(name) for name in _list_of(names)]
    if form == "range":
        return pd.RangeIndex(*parts_of(parts, 3), name=held[0])
    if form == "multi":
        levels, codes = parts_of(parts, 2)
        return pd.MultiIndex(
            [_make_index(level, reading) for level in levels], [reading.read(code) for code in codes], names=held
        )
    if form != "plain":
        raise PayloadError("An index has an unknown form")
    array, frequency = parts_of(parts, 2)
    made = _made(array, reading)
    index = pd.Index(made, dtype=made.dtype, name=held[0])
    return index if frequency is None else type(index)(index, freq=frequency)


def _made(content: object, reading: Reading) -> Any:
    form, parts = parts_of(content, 2)
    maker = _COLUMNS.get(form)
    if maker is None:
        raise PayloadError("A column has an unknown form")
    return maker(parts, reading)


def _plain(data: object, reading: Reading) -> Any:
    array = reading.read(data)
    if type(array) is not np.ndarray or array.ndim != 1:
        raise PayloadError("A column must be an array of one dimension")
    return array


def _text(parts: object, _reading: Reading) -> Any:
    storage, is_nan, texts = parts_of(parts, 3)
    if not all(text is None or type(text) is str for text in texts):
        raise PayloadError("A column of text holds something else")
    if storage == "pyarrow" and not _has_pyarrow():
        storage = "python"
    return pd.array(texts, dtype=pd.StringDtype(storage, na_value=math.nan if is_nan else pd.NA))


def _has_pyarrow() -> bool:
    try:
        import pyarrow as pa  # noqa: F401, PLC0415 - asked for only where a column of its kind has come
    except ImportError:
        return False
    return True


def _categories(parts: object, reading: Reading) -> Any:
    codes, categories, ordered = parts_of(parts, 3)
    return pd.Categorical.from_codes(
        _plain(codes, reading), categories=_make_index(categories, reading), ordered=bool(ordered)
    )


def _zoned(parts: object, reading: Reading) -> Any:
    moments, zone = parts_of(parts, 2)
    index = pd.DatetimeIndex(_plain(moments, reading))
    return index.tz_localize("UTC").tz_convert(reading.read(zone)).array


def _masked(parts: object, reading: Reading) -> Any:
    name, values, mask = parts_of(parts, 3)
    if name not in _MASKED:
        raise PayloadError("A column has an unknown type")
    kind = type(pd.array([], dtype=name))
    return kind(_plain(values, reading), _plain(mask, reading))


def _list_of(data: object) -> list[Any]:
    if type(data) is not list:
        raise PayloadError("A part of a frame must be a list")
    return data


def _make_timestamp(content: object, reading: Reading) -> Any:
    moment, zone = parts_of(content, 2)
    made = pd.Timestamp(reading.read(moment))
    return made if zone is None else made.tz_localize("UTC").tz_convert(reading.read(zone))


_COLUMNS: Final[dict[str, Callable[[Any, Reading], Any]]] = {
    "numpy": _plain,
    "text": _text,
    "categories": _categories,
    "zoned": _zoned,
    "masked": _masked,
}
_KINDS: Final[dict[type, tuple[str, Callable[[Any, Writing], Any]]]] = {
    pd.DataFrame: ("pandas.frame", _take_frame),
    pd.Series: ("pandas.series", _take_series),
    pd.Timestamp: ("pandas.timestamp", _take_timestamp),
    pd.Timedelta: ("pandas.timedelta", lambda value, writing: writing.write(value.asm8, "")),
    type(pd.NaT): ("pandas.missing", lambda _value, _writing: "NaT"),
    type(pd.NA): ("pandas.missing", lambda _value, _writing: "NA"),
}
READERS: Final[dict[str, Make]] = {
    "pandas.frame": _make_frame,
    "pandas.series": _make_series,
    "pandas.index": _make_index,
    "pandas.timestamp": _make_timestamp,
    "pandas.timedelta": lambda content, reading: pd.Timedelta(reading.read(content)),
    "pandas.missing": lambda content, _reading: {"NaT": pd.NaT, "NA": pd.NA}[content],
}
