"""Long texts and bytes travel as they are, each content once, and count only with the hash that names them."""

from __future__ import annotations

import json
import os
import random
import sys
from typing import Any

import pytest

from graflow.channels.branch import ChannelWrite
from graflow.codec import from_jsonable, to_jsonable
from graflow.core.branches.outcome import BranchOutcome
from graflow.core.envelopes.shared_code import GroupCode, ReceivedCode
from graflow.core.task_registry import TaskResolver
from graflow.exceptions import PayloadError
from graflow.runtime import this_runtime
from graflow.values import blobs
from graflow.values.blobs import LONG, GivenBlobs, TakenBlobs, made_of, name_of
from graflow_celery.record.blobs import parted, with_blobs
from graflow_celery.wire import shared_payloads
from graflow_celery.wire.envelope import SharedPayload
from graflow_celery.wire.outcomes import pack_outcome, unpack_outcome, value_of
from graflow_celery.wire.payload import INLINE_LIMIT, pack, unpack
from graflow_celery.wire.shared_payloads import SharedPayloads, forget_shared, memory_of
from tests.unit import registry_tasks

RANDOM = random.Random(7).randbytes(LONG)
TEXT = "é" * LONG
NAMES = ("run", "group", "0")


def given(contents: dict[str, bytes]) -> GivenBlobs:
    return GivenBlobs(lambda kind, name: made_of(kind, name, contents.get(name)))


@pytest.mark.parametrize(
    "value", [RANDOM, TEXT, [RANDOM, {"deep": (RANDOM, b"short")}]], ids=["bytes", "text", "inside"]
)
def test_a_long_value_is_named_in_the_data_and_its_content_is_apart(value: Any) -> None:
    taken = TakenBlobs()
    data = json.loads(json.dumps(to_jsonable(value, blobs=taken)))
    assert len(json.dumps(data)) < 500
    assert len(taken.contents) == 1
    assert from_jsonable(data, blobs=given(taken.contents)) == value


@pytest.mark.parametrize("value", [RANDOM[:-1], "x" * (LONG - 1), "\ud800" * LONG], ids=["bytes", "text", "surrogates"])
def test_what_is_short_or_no_unicode_is_a_part_of_the_data(value: Any) -> None:
    taken = TakenBlobs()
    data = to_jsonable(value, blobs=taken)
    assert taken.contents == {}
    assert from_jsonable(json.loads(json.dumps(data))) == value


def test_bytes_are_not_copied_on_their_way_out_nor_in() -> None:
    taken = TakenBlobs()
    data = to_jsonable(RANDOM, blobs=taken)
    (content,) = taken.contents.values()
    assert content is RANDOM
    assert from_jsonable(data, blobs=given({name_of(content): content})) is RANDOM


def test_a_value_over_the_limit_of_redis_is_refused_with_place_and_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blobs, "MAX_BLOB", 2 << 20)
    with pytest.raises(PayloadError, match=r"result of task 't' is 3 MiB long, over the limit of 2 MiB"):
        to_jsonable(bytes(3 << 20), where="the result of task 't'", blobs=TakenBlobs())
    with pytest.raises(PayloadError, match=r"\['a'\] is 3 MiB long"):
        to_jsonable({"a": bytes(3 << 20)}, blobs=TakenBlobs())
    with pytest.raises(PayloadError, match="is 3 MiB long"):  # fewer characters than bytes
        to_jsonable("é" * (3 << 19), blobs=TakenBlobs())


@pytest.mark.parametrize(
    ("named", "contents", "told"),
    [
        (["bytes", "0" * 64], {}, "gone"),
        (["bytes", "0" * 64], {"0" * 64: RANDOM}, "hash"),
        (["str", name_of(b"\xff" * LONG)], {name_of(b"\xff" * LONG): b"\xff" * LONG}, "UTF-8"),
        (["list", "0" * 64], {"0" * 64: RANDOM}, "unknown kind"),
        (["bytes"], {}, "parts"),
        ([1, 2], {}, "not the text"),
    ],
)
def test_a_content_that_is_not_what_names_it_is_refused(named: Any, contents: dict[str, bytes], told: str) -> None:
    with pytest.raises(PayloadError, match=told):
        from_jsonable({"$t": "blob", "v": named}, blobs=given(contents))


def test_where_nothing_says_where_contents_are_a_name_is_refused() -> None:
    with pytest.raises(PayloadError, match="nothing says where"):
        from_jsonable({"$t": "blob", "v": ["bytes", name_of(RANDOM)]})


def test_a_long_argument_of_many_members_is_taken_once() -> None:
    code, resolver = GroupCode(None, ("run", "group")), TaskResolver()
    tasks = [registry_tasks.with_options(task_id=f"t{n}", number=n, unit=RANDOM) for n in range(20)]
    envelopes = [resolver.serialize_best(one, bound_to=NAMES, code=code).to_dict() for one in tasks]
    assert list(code.blobs.contents.values()) == [RANDOM]
    assert max(len(json.dumps(envelope)) for envelope in envelopes) < 1000
    received = ReceivedCode(None, ("run", "group"), lambda _: b"", given(code.blobs.contents))
    made = [resolver.resolve(envelope, bound_to=NAMES, code=received) for envelope in envelopes]
    assert all(one.bound_arguments["unit"] is RANDOM for one in made)


def an_outcome(value: object) -> BranchOutcome:
    return BranchOutcome(
        "t", success=True, value=value, results=[("t", value)], completed=["t"], steps=1, cycle_counts={"t": 1}
    )


@pytest.mark.parametrize("value", [RANDOM, TEXT, {"part": RANDOM}], ids=["bytes", "text", "inside"])
def test_an_outcome_with_a_long_value_is_short_and_comes_back(value: Any) -> None:
    taken = TakenBlobs()
    sent = an_outcome(value)
    sent.writes = [ChannelWrite("k", TEXT, None, deleted=False)]
    packed = pack_outcome(sent, None, taken)
    assert len(packed) < 1000
    assert unpack_outcome(packed, "t", None, taken.contents) == sent
    assert value_of(packed, None, taken.contents) == value
    with pytest.raises(PayloadError, match="gone"):
        value_of(packed)


@pytest.mark.parametrize("contents", [[], [b"a"], [b"", b"\n\n", RANDOM]])
def test_the_record_keeps_payload_and_long_values_in_one_text(contents: list[bytes]) -> None:
    named = {name_of(content): content for content in contents}
    assert parted(with_blobs(b"J{}\n", named)) == (b"J{}\n", named)


@pytest.mark.parametrize("text", [b"\2", b"\2x\n", b"\2 3 a\nxx", b"\x023 a b\nabc", b"\x023 \xff 2\nabc"])
def test_a_damaged_text_of_the_record_is_told(text: bytes) -> None:
    with pytest.raises(PayloadError, match="damaged"):
        parted(text)


def test_a_long_payload_is_compressed_only_where_that_is_worth_it() -> None:
    for content, mark in (
        (b"abc " * INLINE_LIMIT, b"Z"),
        (os.urandom(INLINE_LIMIT + 1), b"J"),
        (b"a" * INLINE_LIMIT, b"J"),
    ):
        packed = pack(content, what="it")
        assert packed[:1] == mark
        assert unpack(packed) == content


class Record:
    """A record of runs with what they share."""

    def __init__(self) -> None:
        self.manifests = self.blobs = self
        self.contents: dict[str, bytes] = {}
        self.over: set[str] = set()
        self.asked: list[str] = []

    def payloads(self, run_id: str, names: list[str]) -> dict[str, bytes]:
        self.asked.append(run_id)
        return {name: self.contents[name] for name in names if name in self.contents}

    def read(self, run_id: str, name: str) -> bytes | None:
        return self.payloads(run_id, [name]).get(name)

    def is_over(self, run_id: str) -> bool:
        return run_id in self.over

    def put(self, content: bytes) -> str:
        self.contents[name_of(content)] = content
        return name_of(content)

    def share(self, run_id: str, seeds: dict[str, Any]) -> str:
        name, content = SharedPayload(group_id="g", session_id=run_id, trace_id=run_id, seeds=seeds).pack()
        self.contents[name] = content
        return name


@pytest.fixture
def record() -> Record:
    return Record()


@pytest.fixture
def kept(record: Record) -> SharedPayloads:
    return SharedPayloads(record, this_runtime())  # type: ignore[arg-type]


def test_a_process_reads_a_long_argument_once_and_until_its_group_has_ended(
    record: Record, kept: SharedPayloads
) -> None:
    name = record.put(RANDOM)
    assert kept.blob("run", "bytes", name) is kept.blob("run", "bytes", name)
    assert record.asked == ["run"]
    kept.forget("another")
    kept.blob("run", "bytes", name)
    assert record.asked == ["run"]
    kept.forget("run")
    kept.blob("later", "bytes", name)
    assert record.asked == ["run", "later"]


def test_what_came_along_is_not_asked_for(record: Record, kept: SharedPayloads) -> None:
    name, content = SharedPayload(group_id="g", session_id="run", trace_id="run").pack()
    with pytest.raises(PayloadError, match="does not have the hash"):
        kept.get("run", name, content + b" ")
    assert kept.get("run", name, content) is kept.get("run", name)
    assert record.asked == []


def test_what_groups_shared_that_ended_elsewhere_goes_with_the_next_group(record: Record, kept: SharedPayloads) -> None:
    table = {"table": list(range(1000, 51_000))}
    for number in range(20):
        kept.get(f"run {number}", record.share(f"run {number}", table))
        record.over.add(f"run {number}")
        assert kept._size < 1.5 * memory_of(table)


def test_what_is_kept_is_bounded_by_memory_and_by_number(
    record: Record, kept: SharedPayloads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_payloads, "_KEPT", 1_000_000)
    monkeypatch.setattr(shared_payloads, "_MOST", 50)
    for number in range(200):
        kept.get(f"small {number}", record.share(f"small {number}", {}))
        assert len(kept._kept) <= 50
    for number in range(30):
        kept.blob("run", "bytes", record.put(random.Random(number).randbytes(LONG)))
        assert kept._size <= 1_000_000
    kept.blob("run", "str", record.put(b"x" * 2_000_000))
    assert list(kept._kept) == [("str", name_of(b"x" * 2_000_000))]


def test_a_process_without_work_keeps_nothing(record: Record, kept: SharedPayloads) -> None:
    kept.blob("run", "bytes", record.put(RANDOM))
    forget_shared()
    assert (len(kept._kept), kept._size) == (0, 0)


def test_the_memory_of_data_is_told_as_python_takes_it() -> None:
    numbers = list(range(10_000, 20_000))
    assert memory_of(numbers) == sys.getsizeof(numbers) + sum(map(sys.getsizeof, numbers))
    assert memory_of({"a": [("x" * 1000,)]}) > 1000 + sys.getsizeof({"a": 1})
    assert memory_of({"outside": frozenset("y" * 500 + str(n) for n in range(10))}) > 5000
