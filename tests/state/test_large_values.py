"""Values of any size: large ones are kept once, by content, and come back where journals and records are read."""

from __future__ import annotations

import random

import pytest

from graflow.exceptions import PayloadError
from graflow.state import StateStore, encoding
from graflow.state.changes import Change, Entry, MemberRow
from graflow.state.statuses import Move
from tests.state.support import AT, begin, completed, move, record_of, step_change

LARGE = random.Random(1).randbytes(200_000).hex()  # as text beyond 256 KiB, and hard to compress


def test_a_large_outcome_comes_back_from_the_journal(store: StateStore) -> None:
    epoch = begin(store)
    store.append(step_change(epoch, 1, value=LARGE))
    store.append(step_change(epoch, 2, value="żółw \x00 \ud83d" * 2000))
    lines = store.events("f1")
    assert lines[0].data["outcome"]["value"] == LARGE
    assert lines[2].data["outcome"]["value"] == "żółw \x00 \ud83d" * 2000


def test_a_row_shows_no_large_value(store: StateStore) -> None:
    epoch = begin(store)
    store.append(step_change(epoch, 1, value=LARGE))
    state = store.get_flow_state("f1")
    assert state is not None
    shown = state.steps[0]
    assert (shown.status, shown.output_size) == ("completed", 6)
    assert shown.outputs in (None, LARGE), "a store that encodes nothing has no reason to leave it out"
    row = MemberRow("g", 1, 0, {"status": "completed", "outputs": LARGE, "worker": "w"})
    store.append(Change("f1", Move.STEP, epoch, AT + 5, members=[row]))
    (member,) = store.list_members("f1", "g")
    assert (member.status, member.worker) == ("completed", "w")


def test_large_inputs_outputs_and_fingerprints_come_back(store: StateStore) -> None:
    epoch = begin(store, inputs={"text": LARGE}, flow={"fingerprint": {"code": LARGE}})
    assert record_of(store).inputs == {"text": LARGE}
    assert record_of(store).fields["fingerprint"] == {"code": LARGE}
    store.append(Change("f1", Move.COMPLETE, epoch, AT + 9, flow={"outputs": [LARGE]}))
    state = store.get_flow_state("f1")
    assert state is not None
    assert state.outputs == [LARGE]
    assert state.inputs == {"text": LARGE}
    move(store, Move.RETRY, flow={"fingerprint": {"code": "small"}})
    assert record_of(store).fields["fingerprint"] == {"code": "small"}
    assert "outputs" not in record_of(store).fields


@pytest.mark.parametrize("size", [1000, 1025, 4095, 4096, 5000, 262_000, 262_144, 262_145, 300_000])
def test_a_value_comes_back_whatever_its_size(store: StateStore, size: int) -> None:
    epoch = begin(store)
    store.append(
        Change(
            "f1",
            Move.STEP,
            epoch,
            AT,
            entries=[Entry("x", data={"v": "a" * size})],
            flow={"metadata": {"v": "b" * size}},
        )
    )
    assert store.events("f1")[0].data == {"v": "a" * size}
    assert record_of(store).fields["metadata"] == {"v": "b" * size}


def test_a_value_that_is_too_large_names_its_step(store: StateStore, monkeypatch: pytest.MonkeyPatch) -> None:
    if type(store).__name__ == "MemoryStore":
        pytest.skip("it has no text that could be too long")
    monkeypatch.setattr(encoding, "CAP", 300_000)
    epoch = begin(store)
    before = record_of(store)
    with pytest.raises(PayloadError, match="step 's1'"):
        store.append(step_change(epoch, 1, value=LARGE))
    with pytest.raises(PayloadError, match="'outputs' of step 'a'"):
        store.append(Change("f1", Move.STEP, epoch, AT + 5, steps=[completed("a", outputs=LARGE)]))
    with pytest.raises(PayloadError, match="'outputs' of the flow"):
        store.append(Change("f1", Move.COMPLETE, epoch, AT + 5, flow={"outputs": LARGE}))
    assert record_of(store) == before
    assert store.events("f1") == []
