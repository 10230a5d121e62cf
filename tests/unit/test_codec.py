from __future__ import annotations

import json
import math
import sys
import zoneinfo
from collections import Counter, OrderedDict, deque
from dataclasses import FrozenInstanceError
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, Flag, IntEnum, StrEnum
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graflow.codec import (
    MAX_DEPTH,
    MAX_TEXT,
    ErrorData,
    SerializedTask,
    decode,
    describe_error,
    encode,
    from_jsonable,
    parse_json,
    rebuild_error,
    register_error,
    to_jsonable,
)
from graflow.exceptions import (
    CycleLimitExceededError,
    GraflowError,
    ParallelGroupError,
    PayloadError,
    RemoteTaskError,
    RetryLimitExceededError,
    TaskError,
    TaskResolutionError,
    TaskTimeoutError,
)
from graflow.secret import Secret


class Color(Enum):
    RED = "r"
    __hidden = 3


class Level(IntEnum):
    LOW = 1


class Word(StrEnum):
    YES = "yes"


class Access(Flag):
    READ = 1
    WRITE = 2


class Plain:
    x = 1


VALUES = [
    None,
    True,
    0,
    -5,
    1.5,
    "text \ud800 ü \x00",
    [],
    {},
    [1, [2, {"a": None}]],
    (1, (2,)),
    {1, "a", None},
    frozenset({(1, 2)}),
    b"\x00\xff",
    bytearray(b"ab"),
    datetime(2024, 2, 29, 12, 30, 1, 5),  # noqa: DTZ001
    datetime(2024, 2, 29, tzinfo=UTC),
    datetime(2024, 2, 29, tzinfo=timezone(timedelta(hours=5, minutes=30))),
    datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")),
    date(2024, 2, 29),
    time(1, 2, 3, 4),
    time(1, 2, tzinfo=UTC),
    timedelta(days=-1, seconds=5, microseconds=7),
    Decimal("1.10"),
    Decimal("-Infinity"),
    UUID(int=5),
    Color.RED,
    Level.LOW,
    Word.YES,
    Access.READ | Access.WRITE,
    {1: "int", (2, 3): "tuple", None: b"x"},
    {"$t": "not a tag"},
    {"a": {"$t": 1, "v": 2}},
    math.inf,
    -math.inf,
    10**6000,
    -(10**6000),
    complex(1, -0.0),
    range(1, 10, 3),
    deque([1, (2,)], maxlen=5),
    OrderedDict(b=1, a=(2,)),
    Counter("abca"),
    Path("a") / "b",
    ErrorData("m.E", "text", "trace", ErrorData("m.F", "cause")),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_value_comes_back_equal_and_of_the_same_type(value):
    for back in (decode(encode(value)), decode(encode(value).encode()), from_jsonable(to_jsonable(value))):
        assert back == value
        assert type(back) is type(value)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_value_comes_back_inside_of_containers(value):
    outer = {"deep": [value, (value, {"x": [value]})]}
    assert decode(encode(outer)) == outer


def test_plain_values_are_plain_json():
    value = {"a": [1, 2.5, None, True, "ü"], "b": {"c": []}}
    assert json.loads(encode(value)) == value
    assert to_jsonable(value) is value


def test_types_that_are_equal_stay_apart():
    back = decode(encode([1, 1.0, True, (1,), [1]]))
    assert [type(item) for item in back] == [int, float, bool, tuple, list]


def test_not_a_number_survives():
    assert math.isnan(decode(encode([math.nan]))[0])
    assert "NaN" not in encode(math.nan)


def test_sets_are_written_in_an_order_that_does_not_depend_on_hashes():
    assert encode({"b", "a", "c"}) == encode({"c", "b", "a"}) == '{"$t":"set","v":["a","b","c"]}'


def test_a_maxlen_and_an_empty_deque_survive():
    assert decode(encode(deque(maxlen=3))).maxlen == 3


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.decimals(allow_nan=False),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text() | st.just("$t"), inner, max_size=4)
        | st.dictionaries(st.integers() | st.tuples(st.text()), inner, max_size=3)
        | st.tuples(inner, inner)
        | st.frozensets(st.integers() | st.text())
    ),
    max_leaves=20,
)


@given(json_values)
def test_any_nesting_of_kinds_comes_back(value):
    assert decode(encode(value)) == value
    assert decode(json.dumps(to_jsonable(value))) == value


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad",
    [object(), lambda: 0, Plain(), Secret("hunter2"), type("Text", (str,), {})("x"), sys, int, iter([])],
    ids=lambda bad: type(bad).__name__,
)
def test_what_has_no_kind_is_refused_by_place_and_type(bad):
    with pytest.raises(TypeError) as caught:
        encode({"rows": [1, {"cell": bad}]}, where="result")
    assert "result['rows'][1]['cell']" in str(caught.value)
    assert type(bad).__qualname__ in str(caught.value)
    assert "hunter2" not in str(caught.value)
    with pytest.raises(TypeError, match="value of type"):
        to_jsonable(bad)


def test_a_key_that_cannot_be_kept_is_refused():
    with pytest.raises(TypeError, match=r"key of value\['a'\]"):
        encode({"a": {Plain: 1}})


def test_a_value_that_contains_itself_is_refused():
    loop: list[object] = []
    loop.extend([loop, loop, (1,)])
    with pytest.raises(TypeError, match="contains itself"):
        encode(loop)
    table: dict[str, object] = {}
    table["self"] = table
    with pytest.raises(TypeError, match="contains itself"):
        to_jsonable(table)


def _nested(depth, inner=1):
    value = inner
    for _ in range(depth):
        value = [value]
    return value


def test_the_deepest_value_passes_and_a_deeper_one_is_refused_on_both_sides():
    for leaf in (1, b"tagged"):
        value = _nested(MAX_DEPTH, leaf)
        assert decode(encode(value)) == value
        with pytest.raises(TypeError, match="deeper than 64"):
            encode(_nested(MAX_DEPTH + 1, leaf))
    with pytest.raises(PayloadError, match="deeper than 64"):
        decode(json.dumps(_nested(MAX_DEPTH + 1)))
    with pytest.raises(PayloadError, match="deeper than 64"):
        decode(json.dumps(_nested(MAX_DEPTH + 1, {"$t": "bytes", "v": ""})))
    with pytest.raises(PayloadError, match="deeper than"):
        from_jsonable(_nested(500))
    deepest = {(1,): 1}
    for _ in range(MAX_DEPTH - 2):
        deepest = {1: deepest}
    assert decode(encode(deepest)) == deepest


@pytest.mark.parametrize(
    "bomb",
    [
        "[" * 10**6,
        "[" * 10**6 + "]" * 10**6,
        '{"a":' * 10**6 + "1" + "}" * 10**6,
        '["]",' * 10**5 + "1" + "]" * 10**5,
        '["\\"]",' * 10**5 + "1" + "]" * 10**5,
        '{"$t":"tuple","v":[' * 10**5 + "]}" * 10**5,
        b"[" * 10**6,
    ],
    ids=["open", "lists", "objects", "brackets in strings", "escaped quotes", "tags", "bytes"],
)
def test_a_depth_bomb_is_refused_before_recursion(bomb, monkeypatch):
    monkeypatch.setattr("graflow.codec._from_text", lambda text: pytest.fail("the parser was reached"))
    read = SerializedTask.from_json if isinstance(bomb, bytes) else decode
    with pytest.raises((PayloadError, TaskResolutionError), match="deeper than"):
        read(bomb)


def test_wide_data_and_brackets_in_strings_are_not_deep():
    wide = [{"a": [index], "b": ']]}}[[{{\\"'} for index in range(2000)]
    assert parse_json(json.dumps(wide)) == wide


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[1",
        "NaN",
        "[Infinity]",
        "-Infinity",
        b"\xff\xfe",
        "1 2",
        "9" * 5000,
        '{"$t":"os.system","v":"ls"}',
        '{"$t":["list"],"v":1}',
        '{"$t":"tuple"}',
        '{"$t":"tuple","v":[],"x":1}',
        '{"$t":"tuple","v":"ab"}',
        '{"$t":"set","v":[[1]]}',
        '{"$t":"dict","v":[[1]]}',
        '{"$t":"dict","v":5}',
        '{"$t":"bytes","v":"*"}',
        '{"$t":"datetime","v":"yesterday"}',
        '{"$t":"datetime","v":7}',
        '{"$t":"decimal","v":"ten"}',
        '{"$t":"uuid","v":"x"}',
        '{"$t":"float","v":"1"}',
        '{"$t":"int","v":"zz"}',
        '{"$t":"timedelta","v":[1]}',
        '{"$t":"enum","v":["os:environ","x"]}',
        '{"$t":"enum","v":["tests.unit.test_codec:Color","BLUE"]}',
        '{"$t":"enum","v":["tests.unit.test_codec:Color","__class__"]}',
        '{"$t":"enum","v":[["x"],"x"]}',
        '{"$t":"error","v":"boom"}',
        '{"$t":"error","v":{"type":"","message":"x"}}',
        '{"$t":"error","v":{"type":"ValueError","message":"x","state":[]}}',
        '{"$t":"range","v":[1,2,3,4]}',
    ],
)
def test_text_that_cannot_be_read_is_a_payload_error(text):
    with pytest.raises(PayloadError):
        decode(text)


def test_the_error_of_unreadable_text_holds_nothing_of_the_text():
    with pytest.raises(PayloadError) as caught:
        decode('{"password": "hunter2" oops')
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_text_over_the_limit_is_refused_before_it_is_parsed(monkeypatch):
    monkeypatch.setattr("graflow.codec.MAX_TEXT", 100)
    with pytest.raises(PayloadError, match="longer than 100"):
        decode("[" + "1," * 100 + "1]")
    with pytest.raises(PayloadError, match="more than 100"):
        encode("x" * 200)
    assert MAX_TEXT == 128 * 1024 * 1024


def test_data_that_is_not_json_data_is_refused():
    with pytest.raises(PayloadError, match="tuple"):
        from_jsonable([(1, 2)])


def test_a_time_of_day_or_moment_without_an_offset_is_refused():
    class Lost(zoneinfo.ZoneInfo):
        key = ""

        def utcoffset(self, _moment):
            return None

    with pytest.raises(TypeError, match="offset"):
        encode(time(1, tzinfo=Lost("Europe/Berlin")))
    with pytest.raises(TypeError, match="offset"):
        encode(datetime(2024, 1, 1, tzinfo=Lost("Europe/Berlin")))


def test_a_zone_that_is_unknown_here_keeps_the_moment():
    back = decode('{"$t":"datetime","v":["2024-01-01T00:00:00+05:00","os/../path"]}')
    assert back == datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=5)))


def test_an_enum_that_is_not_loaded_is_named_and_never_imported():
    with pytest.raises(PayloadError, match="ensurepip"):
        decode('{"$t":"enum","v":["ensurepip._uninstall:Color","RED"]}')
    assert "ensurepip._uninstall" not in sys.modules


def test_plain_values_go_straight_to_the_json_encoder(monkeypatch):
    monkeypatch.setattr("graflow.codec.to_jsonable", lambda *_args, **_options: pytest.fail("walked value by value"))
    rows = [{"id": index, "name": "n", "tags": ["a", "b"], "ok": True, "x": 1.5, "none": None} for index in range(10)]
    assert decode(encode(rows)) == rows


# -- errors as data ----------------------------------------------------------------------------------------------------


def _raised(error, cause=None):
    try:
        raise error from cause
    except BaseException as caught:
        return caught


class ShopError(Exception):
    def __init__(self, what, left=0):
        super().__init__(f"{left} {what} left")
        self.what = what
        self.left = left


def test_an_error_keeps_type_message_traceback_and_causes():
    try:
        try:
            raise ShopError("apples")
        except ShopError as error:
            raise KeyError("basket") from error
    except KeyError as error:
        remote = describe_error(error)
    assert (remote.type, remote.message) == ("KeyError", "'basket'")
    assert "test_codec.py" in remote.traceback
    assert "0 apples left" in remote.traceback
    assert "direct cause" in remote.traceback
    assert [link.type for link in remote.chain()] == ["KeyError", f"{__name__}.ShopError"]
    assert ErrorData.from_dict(json.loads(json.dumps(remote.to_dict()))) == remote


def test_an_error_during_another_keeps_it_unless_it_was_suppressed():
    def failing(suppress):
        try:
            try:
                raise ShopError("apples")
            except ShopError:
                if suppress:
                    raise KeyError("k") from None
                raise KeyError("k")  # noqa: B904
        except KeyError as error:
            return describe_error(error)

    assert failing(suppress=False).cause.type.endswith("ShopError")
    assert "During handling" in failing(suppress=False).traceback
    assert failing(suppress=True).cause is None


@pytest.mark.parametrize(
    "error",
    [
        ValueError("bad"),
        KeyError("k"),
        KeyError(("a pair", 1)),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        OSError(2, "no such file"),
        FileNotFoundError(2, "no such file", "a.txt"),
        ZeroDivisionError(),
        CycleLimitExceededError("t", 3, 2),
        TaskTimeoutError("t", 1.5),
        GraflowError("msg", ValueError("why")),
        TaskError("t", "msg", KeyError("k")),
        RetryLimitExceededError("t", 3, 2, ValueError("last")),
        ParallelGroupError("m", "g", [("a", "x")], ["b"], {"a": ShopError("pears")}),
    ],
    ids=lambda error: type(error).__name__,
)
def test_known_errors_come_back_as_themselves_with_the_remote_traceback(error):
    back = decode(encode(_raised(error)))
    assert type(back) is type(error)
    assert str(back) == str(error) or isinstance(error, ParallelGroupError)
    assert back.remote.type.endswith(type(error).__name__)
    assert isinstance(back.__cause__, RemoteTaskError)
    assert "test_codec.py" in str(back.__cause__)


def test_fields_of_known_errors_come_back():
    group = ParallelGroupError("m", "g", [("a", "x")], ["b"], {"a": ShopError("pears"), "c": ValueError("v")})
    back = rebuild_error(describe_error(group))
    assert (back.group_id, back.failed_tasks, back.successful_tasks) == ("g", [("a", "x")], ["b"])
    assert isinstance(back.errors["a"], RemoteTaskError)
    assert "pears" in str(back.errors["a"])
    assert type(back.errors["c"]) is ValueError
    retry = rebuild_error(describe_error(RetryLimitExceededError("t", 3, 2, OSError(5, "io"))))
    assert (retry.retry_count, retry.max_retries, retry.last_error.errno) == (3, 2, 5)


def test_unknown_errors_come_back_as_remote_task_errors_that_name_them():
    back = rebuild_error(describe_error(_raised(ShopError("apples"), ValueError("why"))), "buy")
    assert type(back) is RemoteTaskError
    assert back.task_id == "buy"
    assert str(back).startswith(f"{__name__}.ShopError: 0 apples left\n\n")
    assert "Traceback" in str(back)
    assert back.error.cause.type == "ValueError"
    assert back.remote is back.error


def test_an_error_from_another_process_is_described_as_it_was_there():
    first = describe_error(_raised(ShopError("apples")))
    again = describe_error(_raised(rebuild_error(first)))
    assert again == first
    wrapped = describe_error(_raised(TaskError("t", "failed"), rebuild_error(first)))
    assert wrapped.cause == first


def test_registered_errors_come_back_as_themselves(monkeypatch):
    monkeypatch.setattr("graflow.encoding.errors_as_data._known_errors", dict(_known()))

    @register_error
    class StockError(Exception):
        def __init__(self, what, left=0):
            super().__init__(f"{left} {what} left")
            self.what = what
            self.left = left

    @register_error
    class PlainError(Exception):
        pass

    back = rebuild_error(describe_error(StockError("apples", 3)))
    assert (type(back), back.what, back.left, str(back)) == (StockError, "apples", 3, "3 apples left")
    assert rebuild_error(describe_error(PlainError("a", 1))).args == ("a", 1)
    odd = object()
    assert rebuild_error(describe_error(PlainError(odd))).args == (str(odd),)
    with pytest.raises(TypeError, match="Exception"):
        register_error(KeyboardInterrupt)


def _known():
    from graflow.encoding import errors_as_data

    return errors_as_data._known_errors


def test_errors_that_would_end_the_process_never_come_back_as_themselves():
    for error in (KeyboardInterrupt("x"), SystemExit(3), GeneratorExit()):
        assert type(rebuild_error(describe_error(error))) is RemoteTaskError


def test_forged_types_and_states_build_nothing_else():
    for kind in (
        "os.system",
        "subprocess.Popen",
        "builtins.eval",
        "eval",
        "graflow.exceptions.pickle",
        "KeyboardInterrupt",
    ):
        back = rebuild_error(ErrorData(kind, "x", state={"args": ["ls"]}))
        assert type(back) is RemoteTaskError
    odd = rebuild_error(ErrorData("ValueError", "x", state={"args": [{"items": 5}]}))
    assert type(odd) is RemoteTaskError
    deep: object = []
    for _ in range(200):
        deep = [deep]
    assert type(rebuild_error(ErrorData("ValueError", "x", state={"args": [deep]}))) is RemoteTaskError
    assert type(rebuild_error(ErrorData("UnicodeDecodeError", "x"))) is RemoteTaskError
    assert type(rebuild_error(ErrorData("graflow.exceptions.TaskError", "x", state={"fields": {}}))).__module__ == (
        "graflow.exceptions"
    )


def test_a_chain_of_causes_is_cut_and_a_deep_one_is_refused():
    error: BaseException = ValueError("first")
    for index in range(100):
        error = _raised(ValueError(str(index)), error)
    assert len(list(describe_error(error).chain())) <= 17
    data: dict[str, object] = {"type": "ValueError", "message": "x"}
    for _ in range(5000):
        data = {"type": "ValueError", "message": "x", "cause": data}
    with pytest.raises(PayloadError):
        ErrorData.from_dict(data)


def test_a_cycle_of_causes_ends():
    one, two = ValueError("1"), ValueError("2")
    one.__cause__, two.__cause__ = two, one
    assert [link.message for link in describe_error(one).chain()] == ["1", "2"]


def test_an_error_that_cannot_print_itself_is_described():
    class MuteError(Exception):
        def __str__(self):
            raise RuntimeError("no")

    assert "RuntimeError" in describe_error(MuteError()).message


def test_long_messages_and_tracebacks_are_cut():
    remote = describe_error(_raised(ValueError("x" * 10**6)))
    assert len(remote.message) < 20_000
    assert "1000000 characters" in remote.message
    assert len(remote.traceback) < 70_000


# -- envelopes ---------------------------------------------------------------------------------------------------------


def test_an_envelope_goes_through_json_both_ways():
    envelope = SerializedTask("reference", {"module": "m", "name": "f", "qualname": "f"})
    assert SerializedTask.from_json(envelope.to_json()) == envelope
    assert SerializedTask.from_dict(envelope.to_dict()) == envelope
    assert json.loads(envelope.to_json()) == {
        "version": 1,
        "strategy": "reference",
        "resolver_id": "default",
        "payload": {"module": "m", "name": "f", "qualname": "f"},
    }
    assert (envelope.resolver_id, envelope.version) == ("default", 1)


def test_an_envelope_is_frozen_and_does_not_print_its_payload():
    envelope = SerializedTask("pickle", {"data": "hunter2"})
    with pytest.raises(FrozenInstanceError):
        envelope.strategy = "x"
    assert "hunter2" not in repr(envelope)


def test_values_in_an_envelope_are_not_read_as_kinds():
    payload = {"bound": {"$t": "bytes", "v": "AA=="}}
    assert SerializedTask.from_json(SerializedTask("reference", payload).to_json()).payload == payload


@pytest.mark.parametrize(
    "data",
    [
        [],
        None,
        {},
        {"strategy": "reference", "payload": {}},
        {"version": 2, "strategy": "reference", "payload": {}},
        {"version": True, "strategy": "reference", "payload": {}},
        {"version": "1", "strategy": "reference", "payload": {}},
        {"version": 1, "payload": {}},
        {"version": 1, "strategy": "", "payload": {}},
        {"version": 1, "strategy": 5, "payload": {}},
        {"version": 1, "strategy": "reference"},
        {"version": 1, "strategy": "reference", "payload": []},
        {"version": 1, "strategy": "reference", "payload": {1: 2}},
        {"version": 1, "strategy": "reference", "payload": {}, "resolver_id": 1},
    ],
)
def test_an_envelope_of_another_shape_or_version_is_refused(data):
    with pytest.raises(TaskResolutionError):
        SerializedTask.from_dict(data)


def test_an_envelope_from_unreadable_text_is_refused():
    for text in ("", "[", b"\xff", "[]"):
        with pytest.raises(TaskResolutionError):
            SerializedTask.from_json(text)
