"""The continuation of a group on a worker: one task that receives the list of the members' values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graflow.exceptions import GraflowError, ParallelGroupError
from graflow.runtime import persistently
from graflow_celery.deployment import Deployment
from graflow_celery.record import GrantedMember, GroupSpec, GroupState, MemberReport, MemberState, RecordedOutcome
from graflow_celery.wire.outcomes import opened, pack_failure, remote_error_of, report_of, result_pickles, value_of
from graflow_celery.wire.pages import recorded_outcomes
from graflow_celery.worker.batches.batch import Batch, claiming, refuse_unsigned
from graflow_celery.worker.batches.tally import Tally
from graflow_celery.worker.member import RetryLater


class _Continuation(Batch):
    def _execute(self, member: GrantedMember) -> MemberReport | RetryLater:
        spec = self.spec
        try:
            state, stored = persistently(self._runtime, self._read, when_stopping=self._deployment.patience.last)
            values = {index: self._value(outcome) for index, outcome in stored.items() if _succeeded(outcome)}
            # The state in the header is not signed; these outcomes are.
            if not (state == GroupState.DONE and _is_enough(spec, stored, values)):
                raise _refused(spec, stored)
        except GraflowError as error:
            payload = pack_failure(error, self._runtime.time(), member.losses)
            return report_of(self._runner.seal, member, MemberState.FAILED, payload)
        all_values = [values.get(index) for index in range(spec.n)]
        return self._runner.run_continuation(member, self.owner, self._cancellation(member), all_values)

    def _read(self) -> tuple[GroupState, dict[int, RecordedOutcome]]:
        """How the group has ended, and what came of its members."""
        record, spec = self._deployment.record, self.spec
        outcomes = recorded_outcomes(record, self._runner.seal)
        stored = {outcome.index: outcome for outcome in outcomes if outcome.index < spec.n}
        return record.status(spec.run_id).state, stored

    def _value(self, stored: RecordedOutcome) -> Any:
        seal = self._runner.seal
        return value_of(opened(seal, stored), result_pickles(seal, stored.index), stored.blobs)


def run_continuation(deployment: Deployment, run_id: str, worker: str, *, owner: str | None = None) -> Tally | None:
    """Claim the continuation and run it.

    Args:
        deployment: Where the record is.
        run_id: Its run.
        worker: The name of this worker.
        owner: Unique per delivery of the message; made here when None.

    Returns:
        What came of it; None when it is not due, or another worker has it.
    """
    owner = owner or f"{worker}:{deployment.runtime.token()}"
    claim = claiming(deployment, lambda: deployment.record.claim_continuation(run_id, owner))
    if claim.spec is None or not claim.granted:
        refuse_unsigned(deployment, run_id, owner, claim)
        return None
    batch = _Continuation(deployment, claim.spec, owner, worker, None)
    with batch.paced():
        batch.run(claim.granted)
    return batch.tally


def _succeeded(outcome: RecordedOutcome) -> bool:
    return outcome.state is MemberState.SUCCEEDED


def _is_enough(spec: GroupSpec, stored: Mapping[int, RecordedOutcome], values: Mapping[int, Any]) -> bool:
    """Whether all members have ended, and as many and those of them succeeded that the policy asks for."""
    return len(stored) == spec.n and len(values) >= spec.min_success and all(index in values for index in spec.critical)


def _refused(spec: GroupSpec, stored: dict[int, RecordedOutcome]) -> ParallelGroupError:
    failed = [
        (str(index), _reason(outcome)) for index, outcome in stored.items() if outcome.state != MemberState.SUCCEEDED
    ]
    shown = "; ".join(f"member {index}: {text}" for index, text in failed[:5])
    good = [str(index) for index, outcome in stored.items() if outcome.state is MemberState.SUCCEEDED]
    text = f"Group '{spec.group_id}' of run '{spec.run_id}' failed, so its continuation did not run: {shown}"
    error = ParallelGroupError(text, spec.group_id, failed, good)
    error.run_id = spec.run_id
    return error


def _reason(outcome: RecordedOutcome) -> str:
    if outcome.state is MemberState.CANCELLED:
        return outcome.payload.decode(errors="replace") or outcome.state.value
    if outcome.state is MemberState.LOST:
        return outcome.state.value
    error = remote_error_of(outcome.payload) if outcome.payload else None
    return outcome.state.value if error is None else error.message
