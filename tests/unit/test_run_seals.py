"""What is believed of a record when there are keys: specification and outcomes, each bound to its run and place."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from graflow.core.branches.outcome import BranchOutcome
from graflow.exceptions import GraflowRuntimeError, MemberLeftOutError, MemberLostError, PayloadError, SignatureError
from graflow.seals import content_of
from graflow.signing import SigningKeys, generate_key
from graflow_celery.client.outcomes import branch_outcome
from graflow_celery.record import GrantedMember, GroupSpec, MemberState, RecordedOutcome
from graflow_celery.record.data.specs import Known, Specs
from graflow_celery.record.replies import claim_of
from graflow_celery.wire.outcomes import pack_outcome, report_of
from graflow_celery.wire.seal import RunSeal

KEYS = SigningKeys.parse(generate_key("ours"))
STRANGERS = SigningKeys.parse(generate_key("ours"))
SPEC = GroupSpec("run", "group", 2, "digest", policy="strict", min_success=2)


# -- seals -------------------------------------------------------------------------------------------------------------


def test_a_seal_holds_for_its_content_purpose_and_place() -> None:
    seal = RunSeal(KEYS, SPEC)
    assert seal.open(seal.seal(b"J{}", "outcome", "1", "FAILED"), "outcome", "1", "FAILED") == b"J{}"


@pytest.mark.parametrize(
    ("spec", "keys", "purpose", "place"),
    [
        (dataclasses.replace(SPEC, run_id="other"), KEYS, "outcome", ("1", "FAILED")),
        (dataclasses.replace(SPEC, group_id="other"), KEYS, "outcome", ("1", "FAILED")),
        (dataclasses.replace(SPEC, digest="other"), KEYS, "outcome", ("1", "FAILED")),
        (SPEC, STRANGERS, "outcome", ("1", "FAILED")),
        (SPEC, SigningKeys.parse(generate_key("unknown")), "outcome", ("1", "FAILED")),
        (SPEC, KEYS, "page", ("1", "FAILED")),
        (SPEC, KEYS, "outcome", ("0", "FAILED")),
        (SPEC, KEYS, "outcome", ("1", "SUCCEEDED")),
    ],
)
def test_a_seal_of_another_run_key_purpose_or_place_does_not_hold(
    spec: GroupSpec, keys: SigningKeys, purpose: str, place: tuple[str, ...]
) -> None:
    sealed = RunSeal(keys, spec).seal(b"J{}", purpose, *place)
    with pytest.raises(SignatureError):
        RunSeal(KEYS, SPEC).open(sealed, "outcome", "1", "FAILED")


@pytest.mark.parametrize("sealed", [b"", b"J{}", b"S", b"Sours", b"Sours:short", b"S" + b"x" * 500, b"S:" + bytes(40)])
def test_what_has_no_seal_or_a_broken_one_is_refused(sealed: bytes) -> None:
    with pytest.raises(SignatureError):
        RunSeal(KEYS, SPEC).open(sealed, "outcome", "0", "FAILED")


def test_every_changed_bit_of_sealed_content_is_found() -> None:
    seal = RunSeal(KEYS, SPEC)
    sealed = seal.seal(b"J{}", "outcome", "0", "SUCCEEDED")
    for position in range(8 * len(sealed)):
        changed = bytearray(sealed)
        changed[position // 8] ^= 1 << position % 8
        with pytest.raises(SignatureError):
            seal.open(bytes(changed), "outcome", "0", "SUCCEEDED")


def test_without_keys_nothing_is_sealed_and_seals_of_others_are_passed_over() -> None:
    without = RunSeal(None, SPEC)
    assert without.seal(b"J{}", "outcome", "0", "SUCCEEDED") == b"J{}"
    assert without.open(RunSeal(KEYS, SPEC).seal(b"J{}", "outcome", "5"), "outcome", "0") == b"J{}"
    assert content_of(b"J{}") == b"J{}"


def test_an_older_key_that_still_verifies_opens_what_it_has_sealed() -> None:
    old, new = generate_key("old"), generate_key("new")
    sealed = RunSeal(SigningKeys.parse(old), SPEC).seal(b"J{}", "outcome", "0")
    assert RunSeal(SigningKeys.parse(f"{new} {old}"), SPEC).open(sealed, "outcome", "0") == b"J{}"


# -- specifications ----------------------------------------------------------------------------------------------------


def test_a_signed_specification_is_read_for_its_own_run_only() -> None:
    specs = Specs(KEYS)
    text = specs.write(SPEC).encode()
    found = specs.read(text, "run")
    assert dataclasses.replace(found, nonce="") == SPEC
    with pytest.raises(SignatureError, match="does not hold"):
        specs.read(text, "other")


def test_no_two_submissions_have_the_same_nonce() -> None:
    specs = Specs(KEYS)
    nonces = {specs.read(specs.write(SPEC).encode(), "run").nonce for _ in range(3)}
    assert len(nonces) == 3


@pytest.mark.parametrize("change", [{"policy": "best_effort"}, {"min_success": 0}, {"options": {"time_limit": 1}}])
def test_a_specification_that_was_changed_is_not_believed(change: dict[str, Any]) -> None:
    text = Specs(KEYS).write(SPEC)
    for written in (json.dumps({**json.loads(text), **change}, separators=(",", ":")), json.dumps(json.loads(text))):
        with pytest.raises(SignatureError):
            Specs(KEYS).read(written.encode(), "run")


def test_an_unsigned_specification_is_refused_where_there_are_keys_and_read_where_there_are_none() -> None:
    text = SPEC.to_json().encode()
    with pytest.raises(SignatureError, match="'run' is not signed"):
        Specs(KEYS).read(text, "run")
    assert Specs(None).read(text, "run") == SPEC
    assert Specs(None).write(SPEC) == SPEC.to_json()
    assert dataclasses.replace(Specs(None).read(Specs(KEYS).write(SPEC).encode(), "run"), nonce="") == SPEC


@pytest.mark.parametrize(
    "text",
    [b"", b"null", b"[]", b"{}", b"{" * 1000, b'{"version":1}', b'{"version":1,"more":1,"critical":[]}', b"\xff"],
)
def test_what_is_no_specification_is_refused_with_an_error_of_ours(text: bytes) -> None:
    with pytest.raises((PayloadError, GraflowRuntimeError)):
        Specs(None).read(text, "run")


def test_a_claim_of_a_run_that_is_not_signed_says_so_and_what_it_granted() -> None:
    reply = [b"RUNNING;-1;0 1 0 0;;;;opener", SPEC.to_json().encode(), [b"envelope"]]
    claim = claim_of(reply, [0], "run", Specs(KEYS), Known(b"", None))
    assert claim.spec is None
    assert isinstance(claim.distrust, SignatureError)
    assert [member.index for member in claim.granted] == [0]


# -- outcomes ----------------------------------------------------------------------------------------------------------


def stored(payload: bytes, state: MemberState = MemberState.SUCCEEDED, index: int = 0) -> RecordedOutcome:
    return RecordedOutcome(index, state, 1, "w:1", 2.0, late=False, payload=payload)


def reported(value: object, keys: SigningKeys | None = KEYS, spec: GroupSpec = SPEC) -> bytes:
    packed = pack_outcome(BranchOutcome("t", success=True, value=value, timestamp=1.0))
    granted = GrantedMember(0, 1, 0, 0, b"")
    return report_of(RunSeal(keys, spec), granted, MemberState.SUCCEEDED, packed).payload


def test_the_outcome_that_a_worker_with_the_key_reported_is_believed() -> None:
    assert branch_outcome(stored(reported(7)), "t", SPEC, RunSeal(KEYS, SPEC)).value == 7


@pytest.mark.parametrize(
    "outcome",
    [
        stored(reported("forged", keys=None)),
        stored(reported("forged", keys=STRANGERS)),
        stored(reported("another run's", spec=dataclasses.replace(SPEC, run_id="other"))),
        stored(reported("another submission's", spec=dataclasses.replace(SPEC, digest="other"))),
        stored(reported("another member's"), index=1),
        stored(reported("in another state"), MemberState.FAILED),
        stored(b"J" + b"[" * 1_000_000),
    ],
)
def test_an_outcome_that_nobody_with_the_key_made_for_this_place_is_refused(outcome: RecordedOutcome) -> None:
    with pytest.raises(SignatureError, match=f"member {outcome.index} of run 'run'"):
        branch_outcome(outcome, "t", SPEC, RunSeal(KEYS, SPEC))


def test_what_the_record_itself_says_of_a_member_ends_it_and_nothing_more() -> None:
    seal = RunSeal(KEYS, SPEC)
    lost = branch_outcome(stored(b"x" * 10_000_000, MemberState.LOST), "t", SPEC, seal)
    assert isinstance(lost.error, MemberLostError)
    left_out = branch_outcome(stored(b"\xff" * 10_000_000, MemberState.CANCELLED), "t", SPEC, seal)
    assert isinstance(left_out.error, MemberLeftOutError)
    assert len(str(left_out.error)) < 5000
    assert (lost.success, left_out.success) == (False, False)


def test_keys_of_a_place_are_the_same_however_many_places_were_asked_for_in_between() -> None:
    first = KEYS.derive("run", bound_to=("run", "g", "d"))
    for number in range(1000):
        KEYS.derive("run", bound_to=(str(number), "g", "d"))
    assert KEYS.derive("run", bound_to=("run", "g", "d")) == first
    assert KEYS.derive("run", bound_to=("run", "g", "e")) != first
    assert len(KEYS._derived) <= 256
