"""polars frames and series, as an Arrow IPC stream."""

from __future__ import annotations

import base64
import io
from typing import Any, Final

import polars as pl

from graflow.exceptions import PayloadError
from graflow.values.base import Codec, Make, NoCodecError, Reading, Writing, parts_of


def codec_of(kind: type) -> Codec | None:
    """How polars' frames and series are taken apart; a lazy frame is no value, but a plan."""
    if kind is pl.DataFrame:
        return Codec("polars.frame", lambda value, _writing: _stream(value))
    return Codec("polars.series", _take_series) if kind is pl.Series else None


def _take_series(value: Any, _writing: Writing) -> Any:
    return [value.name, _stream(value.to_frame())]


def _stream(frame: Any) -> str:
    if any("Object" in str(dtype) for dtype in frame.dtypes):
        raise NoCodecError("a column of Python objects")
    sink = io.BytesIO()
    frame.write_ipc_stream(sink)
    return base64.b64encode(sink.getvalue()).decode("ascii")


def _make_frame(content: Any, _reading: Reading) -> Any:
    try:
        return pl.read_ipc_stream(io.BytesIO(base64.b64decode(content, validate=True)))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise PayloadError(f"A polars frame cannot be read: {type(error).__name__}") from None


def _make_series(content: object, reading: Reading) -> Any:
    name, stream = parts_of(content, 2)
    return _make_frame(stream, reading).to_series().rename(name)


READERS: Final[dict[str, Make]] = {"polars.frame": _make_frame, "polars.series": _make_series}
