"""Envelopes and outcomes: what crosses the border, signed, limited, and the same on the other side."""

from __future__ import annotations

import json
import zlib
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graflow.channels.branch import ChannelWrite
from graflow.core.branches.outcome import BranchOutcome, Requests
from graflow.exceptions import GroupLostError, PayloadError, SignatureError
from graflow.signing import SigningKeys, generate_key
from graflow_celery.broker.messages import FEW, batches, indices_of, messages_of, ranges_of, run_message
from graflow_celery.record import GroupSpec
from graflow_celery.wire import payload as module
from graflow_celery.wire.envelope import Envelope, SharedPayload
from graflow_celery.wire.outcomes import pack_failure, pack_outcome, remote_error_of, unpack_outcome, value_of
from graflow_celery.wire.payload import pack, unpack

KEYS = SigningKeys.parse(generate_key("first"))
PLACE = {"run_id": "run", "group_id": "group", "index": 3}


def an_envelope(**changes: Any) -> Envelope:
    fields: dict[str, Any] = {
        **PLACE,
        "task_id": "t[3]",
        "shared": "0" * 64,
        "tasks": [{"strategy": "reference", "payload": {"module": "m", "qualname": "f"}}],
        "edges": [["t[3]", "after"]],
        "cycle_counts": {"t[3]": 2},
    }
    return Envelope(**{**fields, **changes})


@pytest.mark.parametrize("keys", [None, KEYS], ids=["unsigned", "signed"])
def test_an_envelope_comes_back_as_it_was(keys: SigningKeys | None) -> None:
    sent = an_envelope()
    assert Envelope.unpack(sent.pack(keys), **PLACE, keys=keys) == sent


def test_a_worker_with_keys_refuses_what_is_not_signed() -> None:
    with pytest.raises(SignatureError, match="unsigned"):
        Envelope.unpack(an_envelope().pack(None), **PLACE, keys=KEYS)


@pytest.mark.parametrize("other", [{"run_id": "x"}, {"group_id": "x"}, {"index": 4}], ids=["run", "group", "index"])
@pytest.mark.parametrize("keys", [None, KEYS], ids=["unsigned", "signed"])
def test_an_envelope_of_another_member_is_refused(other: dict[str, Any], keys: SigningKeys | None) -> None:
    packed = an_envelope().pack(keys)
    with pytest.raises((SignatureError, PayloadError)):
        Envelope.unpack(packed, **{**PLACE, **other}, keys=keys)


def test_an_unknown_key_and_another_purpose_are_refused() -> None:
    packed = an_envelope().pack(SigningKeys.parse(generate_key("stranger")))
    with pytest.raises(SignatureError):
        Envelope.unpack(packed, **PLACE, keys=KEYS)
    _, content = an_envelope().pack(None).split(b"\n", 1)
    signature = KEYS.sign(content, purpose="task", bound_to=("run", "group", "3"))
    with pytest.raises(SignatureError):
        Envelope.unpack(signature.encode() + b"\n" + content, **PLACE, keys=KEYS)


@given(place=st.integers(min_value=0), bit=st.integers(min_value=0, max_value=7))
def test_no_flipped_bit_of_a_signed_envelope_passes(place: int, bit: int) -> None:
    packed = bytearray(an_envelope().pack(KEYS))
    packed[place % len(packed)] ^= 1 << bit
    with pytest.raises((SignatureError, PayloadError)):
        Envelope.unpack(bytes(packed), **PLACE, keys=KEYS)


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"-",
        b"-\n",
        b"-\nJ",
        b"-\nJnull",
        b'-\nJ{"version":99}',
        b'-\nJ{"version":1}',
        b"-\nX{}",
        b"-\nJ[[",
        b"\xff\n",
    ],
)
def test_what_is_no_envelope_is_refused(packed: bytes) -> None:
    with pytest.raises(PayloadError):
        Envelope.unpack(packed, **PLACE, keys=None)


def test_deep_json_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(PayloadError, match="deep"):
        Envelope.unpack(b"-\nJ" + b"[" * 1_000_000, **PLACE, keys=None)


def test_what_members_share_is_found_by_its_hash() -> None:
    overlay = {"k": [["mark"], False, 1, None], "gone": [["other"], True, None, None]}
    shared = SharedPayload(
        "group", "session", "trace", "etl", seeds={"x": 1}, outside=frozenset({"a", "b"}), overlay=overlay
    )
    name, content = shared.pack()
    assert SharedPayload.unpack(name, content) == shared
    with pytest.raises(PayloadError, match="hash"):
        SharedPayload.unpack("0" * 64, content)


def test_long_content_is_compressed_and_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    long = b"x" * (module.INLINE_LIMIT + 1)
    assert len(pack(long, what="it")) < 10_000
    assert unpack(pack(long, what="it")) == long
    monkeypatch.setattr(module, "PAYLOAD_LIMIT", 1000)
    with pytest.raises(PayloadError, match="over the limit"):
        pack(b"x" * 1001, what="it")
    with pytest.raises(PayloadError, match="over the limit"):
        unpack(b"Z" + zlib.compress(b"\0" * 10_000_000))
    with pytest.raises(PayloadError, match="decompressed"):
        unpack(b"Znonsense")


def test_an_outcome_comes_back_as_it_was() -> None:
    sent = BranchOutcome(
        "t",
        success=True,
        value={1: (b"\0", Decimal("1.5"))},
        duration=0.25,
        timestamp=1.5,
        results=[("t", {1: (b"\0", Decimal("1.5"))}), ("after", datetime(2030, 1, 1, tzinfo=UTC))],
        completed=["t", "after"],
        steps=2,
        cycle_counts={"t": 1, "after": 1},
        retry_counts={"t": 1},
        writes=[ChannelWrite("k", {2}, 5.0, deleted=False), ChannelWrite("gone", None, None, deleted=True)],
        requests=Requests(
            nodes=[("dynamic", ["t"])],
            exits=[("after", "end")],
            jumps=["start"],
            terminated="",
            checkpoint={"metadata": {"a": 1}, "path": None},
        ),
    )
    assert unpack_outcome(pack_outcome(sent), "t") == sent


def test_the_outcome_of_a_plain_member_is_short() -> None:
    sent = BranchOutcome(
        "t", success=True, value=3, results=[("t", 3)], completed=["t"], steps=1, cycle_counts={"t": 1}
    )
    packed = pack_outcome(sent)
    assert set(json.loads(packed[1:])) == {"version", "duration", "timestamp", "value"}
    assert unpack_outcome(packed, "t") == sent
    assert value_of(packed) == 3


def test_an_error_comes_back_as_itself_and_as_data() -> None:
    try:
        raise KeyError("missing")
    except KeyError as error:
        sent = BranchOutcome("t", success=False, error=error, results=[("t", error)], cycle_counts={"t": 1})
    packed = pack_outcome(sent)
    received = unpack_outcome(packed, "t")
    assert isinstance(received.error, KeyError)
    assert isinstance(received.results[0][1], KeyError)
    remote = remote_error_of(packed)
    assert remote is not None
    assert (remote.type, "test_envelope" in remote.traceback) == ("KeyError", True)


def test_a_cancelled_branch_says_who_cancelled_and_why() -> None:
    sent = BranchOutcome("t", success=False, canceled=True, cancel_message="enough", cancel_task_id="t")
    received = unpack_outcome(pack_outcome(sent), "t")
    assert (received.success, received.canceled, received.cancel_message, received.cancel_task_id) == (
        False,
        True,
        "enough",
        "t",
    )


def test_a_value_that_cannot_be_kept_is_refused_with_task_and_type() -> None:
    sent = BranchOutcome("t", success=True, value={"deep": [object()]}, results=[], completed=["t"])
    with pytest.raises(PayloadError, match=r"result of task 't'.*object"):
        pack_outcome(sent)


def test_a_member_whose_task_never_ran_has_an_outcome_too() -> None:
    received = unpack_outcome(pack_failure(GroupLostError("r", "gone"), 2.0), "t")
    assert (received.success, received.completed, received.steps) == (False, [], 0)
    assert isinstance(received.error, GroupLostError)


@given(st.sets(st.integers(min_value=0, max_value=500)))
def test_ranges_stand_for_their_indices(indices: set[int]) -> None:
    ordered = sorted(indices)
    assert indices_of(ranges_of(ordered)) == ordered


@given(
    n=st.integers(min_value=0, max_value=3000),
    slots=st.integers(min_value=1, max_value=50),
    size=st.one_of(st.just("auto"), st.integers(min_value=1, max_value=100)),
)
def test_batches_hold_every_member_once_and_in_order(n: int, slots: int, size: int | str) -> None:
    made = batches(range(n), slots=slots, size=size)
    assert [index for batch in made for index in batch] == list(range(n))
    assert all(made)
    if size == "auto" and n <= slots:
        assert all(len(batch) == 1 for batch in made)
    if isinstance(size, int):
        assert all(len(batch) <= size for batch in made)
    elif n <= FEW:
        assert len(made) <= slots


@given(
    n=st.integers(min_value=1, max_value=400),
    stride=st.integers(min_value=2, max_value=50),
    slots=st.integers(min_value=1, max_value=8),
    left_out=st.sets(st.integers(min_value=0, max_value=399)),
)
def test_messages_end_where_blocks_end(n: int, stride: int, slots: int, left_out: set[int]) -> None:
    spec = GroupSpec("run", "g", n, "d", stride=stride)
    indices = [index for index in range(n) if index not in left_out]
    parts = messages_of(spec, indices, slots=slots)
    assert sorted(index for part in parts for index in part) == indices
    for number in range(spec.blocks):
        block = set(spec.block(number))
        if block <= set(indices):
            assert sum(1 for part in parts if block & set(part)) == 1
    whole = messages_of(spec, range(n), slots=slots)
    assert [index for part in whole for index in part] == list(range(n))
    assert all(isinstance(part, range) for part in whole)
    assert all(len(part) == 1 for part in messages_of(spec, indices, slots=slots, singly=True))


def test_a_message_of_several_members_says_that_they_stand_in_blocks() -> None:
    spec = GroupSpec("run", "g", 10, "d", stride=5)
    assert run_message(spec, range(10))["kwargs"]["blocks"] is True
    assert "blocks" not in run_message(spec, [3])["kwargs"]
    assert "blocks" not in run_message(GroupSpec("run", "g", 10, "d"), range(10))["kwargs"]


def test_heavy_members_travel_with_fewer_others() -> None:
    weights = [module.INLINE_LIMIT // 2] * 6
    assert batches(range(6), slots=1, size=6, weights=weights) == [[0, 1], [2, 3], [4, 5]]


@pytest.mark.parametrize("ranges", [None, "0-3", [3], [[0]], [["0", "1"]], [[2, 1]], [[-1, 0]], [[0, 10**12]]])
def test_ranges_that_are_none_or_too_wide_are_refused(ranges: Any) -> None:
    with pytest.raises(PayloadError):
        indices_of(ranges)
