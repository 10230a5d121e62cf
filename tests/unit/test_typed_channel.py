from __future__ import annotations

import pickle
from typing import Any, NotRequired, Required, TypedDict

import pytest

from graflow.channels import schemas
from graflow.channels.memory_channel import MemoryChannel
from graflow.channels.typed import ChannelTypeRegistry, TypedChannel, _is_typed_dict, _validate_typed_dict
from graflow.exceptions import ConfigError


class Order(TypedDict):
    number: int
    customer: str
    items: list
    extra: dict
    price: float
    paid: bool
    tags: list[str]
    note: str | None
    anything: Any


class Partial(TypedDict, total=False):
    needed: Required[int]
    size: int


ORDER = {
    "number": 1,
    "customer": "Ada",
    "items": [1],
    "extra": {},
    "price": 1.5,
    "paid": False,
    "tags": "not checked",
    "note": 5,
    "anything": object,
}


@pytest.fixture
def channel() -> MemoryChannel:
    return MemoryChannel("orders")


@pytest.fixture
def typed(channel: MemoryChannel) -> TypedChannel:
    return TypedChannel(channel, Order)


@pytest.fixture(autouse=True)
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ChannelTypeRegistry, "_types", dict(ChannelTypeRegistry._types))


# -- messages ----------------------------------------------------------------------------------------------------------


def test_a_conforming_message_is_sent_and_received(typed: TypedChannel, channel: MemoryChannel) -> None:
    assert (typed.name, typed.message_type) == ("orders", Order)
    typed.send("one", ORDER)
    assert typed.receive("one") == typed.get("one") == channel.get("one") == ORDER
    typed.set("two", ORDER, ttl=100)
    assert typed.get("two") == ORDER


def test_an_int_will_do_for_a_float_as_type_checkers_say(typed: TypedChannel) -> None:
    typed.send("k", {**ORDER, "price": 1})
    assert typed.receive("k") == {**ORDER, "price": 1}


@pytest.mark.parametrize(
    "message",
    [
        {**ORDER, "number": "1"},
        {**ORDER, "customer": None},
        {**ORDER, "items": (1,)},
        {**ORDER, "extra": []},
        {**ORDER, "price": "1"},
        {**ORDER, "paid": 1},
        {**ORDER, "unknown": 1},
        {key: value for key, value in ORDER.items() if key != "anything"},
        {},
        None,
        "text",
        [ORDER],
    ],
)
def test_another_message_is_refused_and_not_received(typed: TypedChannel, channel: MemoryChannel, message: Any) -> None:
    with pytest.raises(TypeError, match="Message does not conform to Order"):
        typed.send("key", message)
    with pytest.raises(TypeError, match="Value does not conform to Order"):
        typed.set("key", message)
    assert channel.keys() == []
    channel.set("key", message)
    assert typed.receive("key") is None
    assert typed.get("key") is None
    assert typed.receive("key", default="other") == "other"


def test_what_is_missing_gives_the_default(typed: TypedChannel) -> None:
    assert typed.receive("absent") is None
    assert typed.get("absent") is None
    assert typed.receive("absent", {"a": 1}) == {"a": 1}


def test_a_class_that_is_no_typed_dict_is_refused(channel: MemoryChannel) -> None:
    class Ordinary:
        pass

    for wrong in (dict, str, Ordinary, "Order", None, dict[str, int]):
        with pytest.raises(ValueError, match="message_type must be a TypedDict"):
            TypedChannel(channel, wrong)
        with pytest.raises(ValueError, match="message_type must be a TypedDict"):
            ChannelTypeRegistry.register("wrong", wrong)


def test_other_operations_go_to_the_channel(typed: TypedChannel, channel: MemoryChannel) -> None:
    assert typed.append("list", "anything") == 1
    assert typed.prepend("list", 5) == 2
    assert typed.get("list") is None
    assert typed.atomic_add("n", 2) == 2
    assert typed.exists("n") is True
    assert sorted(typed.keys()) == ["list", "n"]
    assert typed.delete("n") is True
    with typed.lock("n"):
        pass
    typed.clear()
    assert channel.keys() == []


def test_a_typed_channel_pickles(typed: TypedChannel) -> None:
    typed.send("one", ORDER)
    copy = pickle.loads(pickle.dumps(typed))
    assert copy.receive("one") == ORDER
    assert copy.message_type is Order


# -- conformance -------------------------------------------------------------------------------------------------------


def test_typed_dicts_are_told_from_other_classes() -> None:
    class Ordinary:
        number: int

    class OwnDict(dict):
        number: int

    assert _is_typed_dict(Order) is True
    assert [_is_typed_dict(other) for other in (dict, Ordinary, OwnDict, int, ORDER, None)] == [False] * 6


def test_validation_answers_with_a_bool() -> None:
    assert _validate_typed_dict(ORDER, Order) is True
    for data in ({}, None, 5, "text", [], {1: 2}):
        assert _validate_typed_dict(data, Order) is False


def test_optional_fields_may_be_missing_but_not_of_another_type() -> None:
    class Local(TypedDict, total=False):
        size: int
        name: str

    assert _validate_typed_dict({}, Local) is True
    assert _validate_typed_dict({"size": 1}, Local) is True
    assert _validate_typed_dict({"size": "1"}, Local) is False
    assert _validate_typed_dict({"other": 1}, Local) is False


def test_required_and_optional_marks_are_understood() -> None:
    made = TypedDict("made", {"a": int, "b": NotRequired[int]})  # noqa: UP013 - marks as types, not as text
    assert _validate_typed_dict({"a": 1}, made) is True
    assert _validate_typed_dict({"a": 1, "b": 2}, made) is True
    assert _validate_typed_dict({"a": 1, "b": "2"}, made) is False
    assert _validate_typed_dict({"b": 2}, made) is False
    assert _validate_typed_dict({"needed": 1, "size": 2}, Partial) is True
    assert _validate_typed_dict({"needed": 1, "size": "2"}, Partial) is False


def test_a_typed_dict_may_name_types_local_to_a_function() -> None:
    class Inner:
        pass

    class Local(TypedDict):
        inner: Inner
        count: int

    assert _validate_typed_dict({"inner": "not checked", "count": 1}, Local) is True
    assert _validate_typed_dict({"inner": "not checked", "count": "1"}, Local) is False
    assert _validate_typed_dict({"count": 1}, Local) is False


def test_an_annotation_that_cannot_be_read_is_not_checked() -> None:
    class Odd(TypedDict):
        kind: str
        clock: pickle.nothing

    assert _validate_typed_dict({"kind": "x", "clock": 1}, Odd) is True
    assert _validate_typed_dict({"kind": 1, "clock": 1}, Odd) is False


def test_fields_of_a_base_count() -> None:
    class Derived(Partial):
        more: str

    assert _validate_typed_dict({"needed": 1, "more": "x"}, Derived) is True
    assert _validate_typed_dict({"needed": "1", "more": "x"}, Derived) is False


# -- registry and schemas ----------------------------------------------------------------------------------------------


def test_a_registered_type_makes_typed_channels(channel: MemoryChannel) -> None:
    ChannelTypeRegistry.register("order", Order)
    assert ChannelTypeRegistry.get("order") is Order
    typed = ChannelTypeRegistry.create_channel(channel, "order")
    assert isinstance(typed, TypedChannel)
    assert typed.message_type is Order
    ChannelTypeRegistry.register("order", Partial)
    assert ChannelTypeRegistry.get("order") is Partial


def test_an_unknown_type_is_refused(channel: MemoryChannel) -> None:
    assert ChannelTypeRegistry.get("unknown") is None
    with pytest.raises(ConfigError, match="Message type 'unknown' not registered"):
        ChannelTypeRegistry.create_channel(channel, "unknown")


@pytest.mark.parametrize(
    ("name", "schema", "message"),
    [
        ("task_result", "TaskResultMessage", {"task_id": "t", "result": 1, "timestamp": 1.0, "status": "ok"}),
        ("task_progress", "TaskProgressMessage", {"task_id": "t", "progress": 0.5, "message": "", "timestamp": 1.0}),
        (
            "task_error",
            "TaskErrorMessage",
            {"task_id": "t", "error_type": "E", "error_message": "m", "timestamp": 1.0},
        ),
        (
            "workflow_state",
            "WorkflowStateMessage",
            {"workflow_id": "w", "state": "s", "current_task": "t", "completed_tasks": ["t"], "timestamp": 1.0},
        ),
        (
            "data_transfer",
            "DataTransferMessage",
            {"from_task": "a", "to_task": "b", "data": None, "data_type": "none", "timestamp": 1.0},
        ),
        (
            "cycle_notification",
            "CycleNotificationMessage",
            {"task_id": "t", "cycle_count": 1, "max_cycles": 2, "data": None},
        ),
    ],
)
def test_the_common_messages_are_registered(channel: MemoryChannel, name: str, schema: str, message: dict) -> None:
    assert ChannelTypeRegistry.get(name) is getattr(schemas, schema)
    typed = ChannelTypeRegistry.create_channel(channel, name)
    typed.send("key", message)
    assert typed.receive("key") == message
    for field in message:
        with pytest.raises(TypeError):
            typed.send("key", {other: value for other, value in message.items() if other != field})
