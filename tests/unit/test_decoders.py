"""Whatever arrives where data of ours is expected: errors of ours, soon, in little memory."""

from __future__ import annotations

import hashlib
import json
import sys
import tracemalloc
import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from graflow.codec import SerializedTask, decode, encode, parse_json
from graflow.core.branches.outcome_data import outcome_from_data
from graflow.encoding.compression import deflated, inflated
from graflow.encoding.errors_as_data import ErrorData, rebuild_error
from graflow.exceptions import GraflowError, PayloadError
from graflow.signing import SigningKeys, generate_key
from graflow.state import encoding
from graflow_celery.broker.entries import task_spec
from graflow_celery.broker.messages import indices_of
from graflow_celery.client.outcomes import branch_outcome
from graflow_celery.record import GroupSpec, RecordedBlock, replies
from graflow_celery.record.data.specs import Known, Specs
from graflow_celery.wire.chunks import Chunk
from graflow_celery.wire.envelope import Envelope, SharedPayload
from graflow_celery.wire.outcomes import remote_error_of, unpack_outcome
from graflow_celery.wire.pages import Page
from graflow_celery.wire.payload import pack, parse, unpack
from graflow_celery.wire.seal import RunSeal

MIB = 1 << 20
KEYS = SigningKeys.parse(generate_key())
SPEC = GroupSpec("r", "g", 4, "d", stride=2)
PLACE = {"run_id": "r", "group_id": "g", "index": 0, "keys": None}
TAGS = [
    "blob", "bytearray", "bytes", "complex", "counter", "date", "datetime", "decimal", "deque", "dict", "enum", "error",
    "float", "frozenset", "int", "model", "namedtuple", "numpy.array", "numpy.dtype", "numpy.scalar", "ordered", "own",
    "pandas.frame", "pandas.index", "pandas.series", "path", "pickle", "polars.frame", "pyarrow.table", "range",
    "record", "remote", "set", "time", "timedelta", "timezone", "tuple", "uuid", "zone", "nonsense",
]  # fmt: skip
NAMES = ["value", "error", "type", "message", "cause", "state", "args", "items", "tuple", "$t", "v", "common", "own"]

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.sampled_from([0, 1, 2, -1, 10**400, 2**64, 1e308, -0.0, 1.5]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.sampled_from(["r", "g", "1", "2020-01-01", "Europe/Berlin", "AAAA", "0x10", "ValueError", "reference", "str"]),
)
json_data = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(st.sampled_from(NAMES), st.text(max_size=4)), inner, max_size=6),
        st.builds(lambda tag, value: {"$t": tag, "v": value}, st.sampled_from(TAGS), inner),
    ),
    max_leaves=20,
)


def marked(body: object) -> bytes:
    """A body as it travels."""
    return b"J" + json.dumps({"version": 1, **body} if isinstance(body, dict) else body).encode()


def shared(content: bytes) -> SharedPayload:
    return SharedPayload.unpack(hashlib.sha256(content).hexdigest(), content)


def page(content: bytes) -> Any:
    block = RecordedBlock(0, range(2), 1, "w:1", 1.0, content)
    found = Page(block, RunSeal(None, SPEC))
    return (
        found.values,
        found.failures,
        [branch_outcome(each, "t", SPEC, RunSeal(None, SPEC)) for each in found.outcomes()],
    )


def resolve(_: str) -> Any:
    raise PayloadError("nothing is known here")


OUTCOME: dict[str, Any] = {
    "duration": 0.5, "timestamp": 2.0, "value": 1, "results": [["t", {"value": 1}]], "completed": ["t"], "steps": 1,
    "cycle_counts": {"t": 1}, "retry_counts": {}, "losses": 0, "writes": [["k", 1, None, False]], "nodes": [["n", []]],
    "passes": {}, "exits": [["t", "n"]], "jumps": ["j"], "canceled": False, "cancel_message": None, "terminated": "x",
    "checkpoint": {"metadata": {}, "path": None},
}  # fmt: skip
ERROR: dict[str, Any] = {
    "type": "ValueError", "message": "m", "traceback": "", "cause": None, "state": {"args": ["m"], "fields": {}},
}  # fmt: skip
MEMBER = {
    "run_id": "r",
    "group_id": "g",
    "index": 0,
    "task_id": "t",
    "shared": "s",
    "tasks": [],
    "edges": [],
    "cycle_counts": {},
}
CHUNK = {
    "run_id": "r",
    "group_id": "g",
    "first": 0,
    "shared": "s",
    "task": {},
    "parameter": "x",
    "items": [1, 2],
    "keys": None,
}
ALL = {
    "group_id": "g", "session_id": "s", "trace_id": "t", "outside": [], "known_by_name": {}, "returned_errors": [],
    "max_steps": 1, "channel": "", "unsendable": {}, "overlay": {}, "seeds": {}, "limits": {}, "config": {}, "flow": {},
}  # fmt: skip
COLUMNS = {"base": 1.0, "durations": [1, 2], "ended": [0, 1], "values": [1, 2], "others": {"1": ["FAILED", OUTCOME]}}
ENTRY = {"version": 1, "run_id": "r", "index": 0, "serialized_task": {"strategy": "reference", "payload": {}}}
TASK = {"version": 1, "strategy": "reference", "payload": {}, "resolver_id": "default"}

DECODERS: dict[str, tuple[dict[str, Any], Callable[[Any], object]]] = {
    "outcome": (OUTCOME, lambda body: unpack_outcome(marked(body), "t")),
    "failure": ({"error": ERROR}, lambda body: unpack_outcome(marked(body), "t")),
    "error of an outcome": ({"error": ERROR}, lambda body: remote_error_of(marked(body))),
    "recorded outcome": (OUTCOME, lambda body: outcome_from_data(body, "t")),
    "envelope": (MEMBER, lambda body: Envelope.unpack(b"-\n" + marked(body), **PLACE)),
    "chunk": (CHUNK, lambda body: Chunk.unpack(b"#0,2 -\n" + marked(body), **PLACE)),
    "shared": (ALL, lambda body: shared(marked(body))),
    "page": (COLUMNS, lambda body: page(marked(body))),
    "specification": (
        json.loads(SPEC.to_json()),
        lambda body: Specs(None).read(json.dumps(body).encode(), "r"),
    ),
    "entry": (ENTRY, lambda body: task_spec(body, resolve)),
    "signed entry": ({**ENTRY, "signature": "k:x", "sent_at": 0.0}, lambda body: task_spec(body, resolve, KEYS)),
    "task": (TASK, SerializedTask.from_dict),
    "error": (ERROR, lambda body: rebuild_error(ErrorData.from_dict(body))),
    "value": ({"$t": "tuple", "v": []}, lambda body: decode(json.dumps(body))),
    "ranges": ({"ranges": [[0, 1]]}, lambda body: indices_of(body["ranges"])),
    "row": ({"a": 1, "@": {}}, lambda body: encoding.decode_fields(json.dumps(body) * 2)),
}


@pytest.mark.parametrize("name", DECODERS)
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(data=st.data())
def test_data_of_another_shape_is_an_error_of_ours(name: str, data: st.DataObject) -> None:
    usual, read = DECODERS[name]
    changed = dict(usual)
    for part in data.draw(st.lists(st.sampled_from([*usual]), min_size=1, max_size=2)):
        changed[part] = data.draw(json_data)
    with suppress(GraflowError):
        read(changed)


@pytest.mark.parametrize("name", DECODERS)
def test_every_part_of_every_wrong_kind_is_an_error_of_ours(name: str) -> None:
    usual, read = DECODERS[name]
    wrong = [
        None,
        True,
        -1,
        1.5,
        "text",
        [],
        {},
        [1],
        [[1, 2, 3]],
        {"a": 1},
        10**400,
        [[]],
        [None],
        {"$t": "?", "v": 1},
    ]
    for part in usual:
        for value in wrong:
            with suppress(GraflowError):
                read({**usual, part: value})
        with suppress(GraflowError, *([KeyError] if name == "ranges" else [])):
            read({key: value for key, value in usual.items() if key != part})


RAW: dict[str, Callable[[bytes], object]] = {
    "outcome": lambda raw: unpack_outcome(raw, "t"),
    "envelope": lambda raw: Envelope.unpack(raw, **PLACE),
    "envelope with keys": lambda raw: Envelope.unpack(raw, **{**PLACE, "keys": KEYS}),
    "chunk": lambda raw: Chunk.unpack(raw, **PLACE),
    "shared": shared,
    "page": page,
    "sealed": lambda raw: RunSeal(KEYS, SPEC).open(raw, "outcome", "0"),
    "specification": lambda raw: Specs(None).read(raw, "r"),
    "specification with keys": lambda raw: Specs(KEYS).read(raw, "r"),
    "value in JSON": decode,
    "compressed": lambda raw: parse(unpack(b"Z" + raw), "it"),
    "stored outcome": lambda raw: replies.outcome_of(0, raw),
    "stored block": lambda raw: replies.block_of(0, raw, 2, 4),
    "claim": lambda raw: replies.claim_of([raw, b"{}", []], [0], "r", Specs(KEYS), Known(b"", None)),
    "completion": lambda raw: replies.completion_of(raw, [0]),
    "status": lambda raw: replies.status_of(raw, [raw] * 13),
    "page of outcomes": lambda raw: replies.page_of([raw] * 8, 0),
    "stored value": lambda raw: encoding.decode(raw, lambda _: raw),
    "stored fields": encoding.decode_fields,
    "stored text": encoding.from_text,
}


@pytest.mark.parametrize("name", RAW)
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(raw=st.one_of(st.binary(max_size=60), st.text(alphabet='SUCED FAILJZ#{}[]":,-\n0129é', max_size=60)))
@example(raw="SUCCEEDED 1 99999999999999999999 0 o\nJ{}")
@example(raw="SUCCEEDED 1 2 0 o")
@example(raw="NOPE 1 2 0 o\nJ{}")
@example(raw="e SUCCEEDED 1 2 o\n")
@example(raw="[" * 100_000)
@example(raw="J" + "[" * 100_000)
@example(raw="#0,2 -\nJ{}")
@example(raw="9" * 5000)
def test_bytes_of_any_kind_are_an_error_of_ours(name: str, raw: bytes | str) -> None:
    with suppress(GraflowError):
        RAW[name](raw if isinstance(raw, bytes) else raw.encode())


@given(st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
def test_a_value_of_which_anything_was_changed_is_another_value_or_an_error_of_ours(data: st.DataObject) -> None:
    value = [(1, {2, 3}), {b"a": 1.5}, {"k": [None, "text", 2**80]}, {(1, 2): frozenset({"x"})}]
    text = bytearray(encode(value).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text) - 1))
        text[at] = data.draw(st.integers(0, 255))
    with suppress(GraflowError):
        decode(bytes(text))


# -- size and time -----------------------------------------------------------------------------------------------------

PRIME = (1 << 61) - 1  # numbers that differ by it have the same hash


def bomb(content: bytes) -> bytes:
    return b"Z" + zlib.compress(content, 1)


def outcome_with(value: object) -> bytes:
    return marked({"duration": 0, "timestamp": 0, "value": value})


REFUSED: dict[str, Callable[[], bytes]] = {
    "zeros": lambda: bomb(bytes(128 * MIB)),
    "one long text": lambda: bomb(b'{"version":1,"value":"' + b"0" * (40 * MIB) + b'"}'),
    "one long text with a character of four bytes": lambda: bomb(
        '{"version":1,"value":"🐘'.encode() + b"0" * (20 * MIB)
    ),
    "many lists": lambda: bomb(b'{"version":1,"value":[' + b"[]," * (4 * MIB) + b"0]}"),
    "many objects": lambda: bomb(b'{"version":1,"value":[' + b'{"":0},' * MIB + b"0]}"),
    "many numbers": lambda: bomb(b"[" + b"0," * (20 * MIB) + b"0]"),
    "nested in each other": lambda: b"J" + b"[" * (MIB // 4),
    "nested beside each other": lambda: b"J[" + (b"[" * 260 + b"]" * 260 + b",") * 2000 + b"0]",
    "escapes": lambda: b'J["' + b'\\"' * (MIB // 2) + b'"' + b"[" * 300,
    "brackets in texts": lambda: b"J[" + b'"[",' * (MIB // 4) + b"[" * 300,
    "members with one hash": lambda: outcome_with({"$t": "set", "v": [i * PRIME for i in range(1, 40_000)]}),
    "keys with one hash": lambda: outcome_with({"$t": "dict", "v": [[i * PRIME, 0] for i in range(1, 30_000)]}),
    "counted with one hash": lambda: outcome_with({"$t": "counter", "v": [[i * PRIME, 0] for i in range(1, 30_000)]}),
    "ordered with one hash": lambda: outcome_with({"$t": "ordered", "v": [[i * PRIME, 0] for i in range(1, 30_000)]}),
    "half of them with one hash": lambda: outcome_with(
        {"$t": "frozenset", "v": [*range(20_000), *(i * PRIME for i in range(1, 20_000))]}
    ),
    "a number of a million digits": lambda: b'J{"version":1,"value":' + b"1" * MIB + b"}",
    "a broken stream": lambda: b"Z" + zlib.compress(bytes(1000))[:-3],
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", REFUSED)
def test_an_input_of_a_mebibyte_that_costs_much_is_refused_before_it_does(name: str) -> None:
    content = REFUSED[name]()
    assert len(content) <= 1.2 * MIB
    tracemalloc.start()
    try:
        with pytest.raises(PayloadError):
            unpack_outcome(content, "t")
        assert tracemalloc.get_traced_memory()[1] < 200 * MIB
    finally:
        tracemalloc.stop()


def test_digits_are_limited_also_where_the_interpreter_was_told_not_to() -> None:
    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        assert parse_json("1" * 4300) == int("1" * 4300)
        with pytest.raises(PayloadError, match="4301 digits"):
            parse_json("1" * 4301)
    finally:
        sys.set_int_max_str_digits(limit)


@pytest.mark.parametrize("limit", [1, 7, 8, 9, 64])
def test_the_depth_of_json_is_that_of_its_brackets_outside_texts(limit: int) -> None:
    inside = json.dumps(['[{"\\', '"', '\\"[', "]}"])
    assert parse_json("[" * (limit - 1) + inside + "]" * (limit - 1), max_depth=limit)
    with pytest.raises(PayloadError, match="nested deeper"):
        parse_json("[" * limit + inside + "]" * limit, max_depth=limit)


@pytest.mark.parametrize("content", [b"[" + b"12345," * MIB + b"0]", b'["' + b"0" * (40 * MIB) + b'"]'])
def test_what_shrinks_out_of_proportion_travels_as_it_is_and_comes_back(content: bytes) -> None:
    assert deflated(content) is None
    assert unpack(pack(content, what="it")) == content


def test_what_shrinks_as_data_does_travels_compressed() -> None:
    content = json.dumps([{"id": n, "name": f"item {n * 7919 % 100_003}"} for n in range(60_000)]).encode()
    packed = pack(content, what="it")
    assert len(packed) < len(content) / 2
    assert unpack(packed) == content
    assert inflated(packed[1:], len(content)) == content


def test_many_keys_whose_hashes_tell_them_apart_are_read() -> None:
    value = {**{(n, -n): n for n in range(5000)}, **{n: n for n in range(-5000, 5000)}}
    assert decode(encode(value)) == value
    assert decode(encode({n * 0.5 for n in range(5000)})) == {n * 0.5 for n in range(5000)}


def test_blocks_that_the_record_ended_succeeded_for_nobody() -> None:
    assert replies.block_of(0, b"e CANCELLED 1 2000 w:1\nwhy", 2, 4).state == "CANCELLED"
    with pytest.raises(PayloadError, match="only workers"):
        replies.block_of(0, b"e SUCCEEDED 1 2000 w:1\n", 2, 4)
