"""pyarrow tables, batches and arrays, as an Arrow IPC stream."""

from __future__ import annotations

import base64
from typing import Any, Final

import pyarrow as pa

from graflow.exceptions import PayloadError
from graflow.values.base import Codec, Make, NoCodecError, Reading, Writing


def codec_of(kind: type) -> Codec | None:
    """How pyarrow's own values are taken apart."""
    if kind is pa.Table:
        return Codec("pyarrow.table", lambda value, _writing: _stream(value))
    if kind is pa.RecordBatch:
        return Codec("pyarrow.batch", lambda value, _writing: _stream(pa.Table.from_batches([value])))
    if kind is pa.ChunkedArray:
        return Codec("pyarrow.chunks", lambda value, _writing: _stream(pa.table({"": value})))
    if issubclass(kind, pa.Array):
        return Codec("pyarrow.array", _take_array)
    return None


def _take_array(value: object, _writing: Writing) -> str:
    return _stream(pa.Table.from_batches([pa.record_batch({"": value})]))


def _stream(table: Any) -> str:
    sink = pa.BufferOutputStream()
    try:
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    except pa.ArrowException as error:
        raise NoCodecError(str(error)) from error
    return base64.b64encode(sink.getvalue()).decode("ascii")


def _table(content: Any, _reading: Reading) -> Any:
    try:
        with pa.ipc.open_stream(base64.b64decode(content, validate=True)) as reader:
            table = reader.read_all()
        table.validate(full=True)
    except pa.ArrowException as error:
        raise PayloadError(f"Arrow data cannot be read: {type(error).__name__}") from None
    return table


def _batch(content: object, reading: Reading) -> Any:
    table = _table(content, reading)
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)


def _array(content: object, reading: Reading) -> Any:
    chunks = _table(content, reading).column(0)
    return chunks.chunk(0) if chunks.num_chunks == 1 else pa.concat_arrays(chunks.chunks or [_nothing(chunks)])


def _nothing(chunks: Any) -> Any:
    return pa.array([], type=chunks.type)


READERS: Final[dict[str, Make]] = {
    "pyarrow.table": _table,
    "pyarrow.batch": _batch,
    "pyarrow.chunks": lambda content, reading: _table(content, reading).column(0),
    "pyarrow.array": _array,
}
