"""The worker's side of a group: claim members, keep them, report them or release them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

from graflow.redis.refusals import refused
from graflow_celery.record.base import REPORTS, RecordBase, slices
from graflow_celery.record.blobs import TRIES
from graflow_celery.record.data.blocks import BlockClaim, BlockCompletion, BlockLease, BlockReport
from graflow_celery.record.data.groups import GroupState
from graflow_celery.record.data.members import BeatAnswer, Claim, Completion, Lease, MemberReport, Released
from graflow_celery.record.replies import block_claim_of, block_completion_of, claim_of, completion_of, integers


class MemberLeases(RecordBase):
    def claim(
        self, run_id: str, indices: Sequence[int], owner: str, *, limit: int | None = None, envelopes: bool = True
    ) -> Claim:
        """Take members to run; `owner` is unique per delivery of a message: a repeated call grants the same again.

        A member that was lost before is granted alone, and so is every one that may be lost but once: the others are in
        `Claim.left`, and so is what is more than one script may grant. A run that is gone grants nothing: everything is
        refused and `state` is None.

        Raises:
            ValueError: the owner is empty, begins with `-` or `@`, or has a line break.
        """
        _check_owner(owner)
        refused: list[int] = []
        blocked: list[int] = []
        asked = 0
        for part in slices(indices):
            known = self._specs.known(run_id)
            reply = self._run("claim", run_id, [owner, limit or 0, int(envelopes), known.opener, *part])
            claim = claim_of(reply, part, run_id, self._specs, known)
            if len(part) == len(indices):
                return claim
            refused, blocked, asked = [*refused, *claim.refused], [*blocked, *claim.blocked], asked + len(part)
            if claim.granted or claim.left:
                break
        return replace(claim, refused=refused, blocked=blocked, left=[*claim.left, *indices[asked:]])

    def claim_blocks(self, run_id: str, ranges: Sequence[Sequence[int]], owner: str) -> BlockClaim:
        """Take whole blocks out of ranges (first and last index of each), as far as nothing happened to their members.

        Nothing is taken where members are to be claimed one by one: each is `left` then, and `claim` decides. What
        another has, or what is recorded, is neither granted nor left.

        Raises:
            ValueError: as `claim`.
        """
        _check_owner(owner)
        known = self._specs.known(run_id)
        reply = self._run("claim_blocks", run_id, [owner, known.opener, *(end for pair in ranges for end in pair)])
        return block_claim_of(reply, run_id, self._specs, known)

    def claim_continuation(self, run_id: str, owner: str) -> Claim:
        """Take the continuation, which has index n, once all members are recorded; report it like a member."""
        size: Any = self._scripts.execute("HGET", self.keys.run(run_id, "header"), "n")
        return self.claim(run_id, [int(size or 0)], owner)

    def beat(self, leases: Iterable[Lease | BlockLease]) -> BeatAnswer:
        """Extend the leases of members and blocks that run in this process: one script per run."""
        by_run: defaultdict[str, list[Lease | BlockLease]] = defaultdict(list)
        for lease in leases:
            by_run[lease.run_id].append(lease)
        answer, alive = BeatAnswer(lost=[], ended={}), set[str]()
        for run_id, held in ((run_id, part) for run_id, leases in by_run.items() for part in slices(leases)):
            reply = self._run("beat", run_id, [part for x in held for part in (_name(x), x.attempt, x.owner)])
            if reply[0] is None:
                answer.ended[run_id] = None
                answer.lost.extend(lease for lease in held if isinstance(lease, Lease))
                continue
            state, has_ended, lost, gone = reply
            answer.lost.extend(lease for lease in (held[position] for position in lost) if isinstance(lease, Lease))
            if gone:
                answer.gone.setdefault(run_id, set()).update(gone)
            if has_ended:
                answer.ended[run_id] = GroupState(state.decode())
            else:
                alive.add(run_id)
        for run_id in alive & answer.ended.keys():
            del answer.ended[run_id]
        return answer

    def keep(self, run_id: str, owner: str, indices: Sequence[int]) -> float | None:
        """Extend what this owner holds of these members, for a process that may be unable to beat.

        Returns the lease in seconds; None when the run is gone.
        """
        for part in slices(indices):
            lease = self._run("keep", run_id, [owner, *part])
        return None if lease is None else int(lease) / 1000

    def complete(self, run_id: str, owner: str, results: Sequence[MemberReport]) -> Completion:
        """Report results; the first outcome of a member wins, the last one of a group ends it.

        Repeat it after a lost answer.

        Raises:
            redis.exceptions.OutOfMemoryError: it is not recorded whole: keep the results and repeat.
        """
        if len(results) <= REPORTS:
            return self._complete(run_id, owner, results)
        whole = Completion([], [], [], None, False, False, [])
        for part in slices(results, REPORTS):
            done = self._complete(run_id, owner, part)
            whole = Completion(
                recorded=[*whole.recorded, *done.recorded],
                late=[*whole.late, *done.late],
                refused=[*whole.refused, *done.refused],
                state=done.state,
                done=done.done,
                continuation=done.continuation,
                ready=[*whole.ready, *done.ready],
            )
        return whole

    def _complete(self, run_id: str, owner: str, results: Sequence[MemberReport]) -> Completion:
        for _ in range(TRIES):
            parts = [
                part for x in results for part in (x.index, x.attempt, x.state.value, self._text(run_id, owner, x))
            ]
            done = completion_of(self._run("complete", run_id, [owner, *parts]), [x.index for x in results])
            if not done.missing:
                return self._left_out_after(run_id, done) if done.has_more else done
        raise refused("OOM", f"OOM The server has let go of long values of run '{run_id}' at once")

    def _left_out_after(self, run_id: str, done: Completion) -> Completion:
        """What became of results after which many members need not run any more."""
        state, is_done, continues = self._leave_out(run_id)
        return replace(
            done,
            state=None if state is None else GroupState(state.decode()),
            done=is_done == 1,
            continuation=continues == 1,
            has_more=False,
        )

    def _text(self, run_id: str, owner: str, report: MemberReport) -> bytes:
        if not report.blobs:
            return report.payload
        return self.blobs.take(run_id, (report.index, report.attempt, owner), report.payload, report.blobs)

    def complete_blocks(self, run_id: str, owner: str, reports: Sequence[BlockReport]) -> BlockCompletion:
        """Report whole blocks; those that are `split` have to be reported member by member.

        Repeat it after a lost answer.

        Raises:
            redis.exceptions.OutOfMemoryError: nothing of this call is recorded: keep the reports and repeat.
        """
        parts = [part for x in reports for part in (x.number, x.attempt, _failures(x), x.page)]
        return block_completion_of(self._run("complete_blocks", run_id, [owner, *parts]))

    def retry(
        self, run_id: str, owner: str, index: int, attempt: int, delay: float, *, made: int = 0, unrun: bool = False
    ) -> Released:
        """Have a member that failed run again after `delay` seconds: the sweeper publishes it then.

        Retries are counted apart from losses: this one, and those that the execution `made` itself before it. One that
        is given back `unrun`, for a worker that can run it, has neither failed nor been executed.
        `released` is empty when the lease was lost. Repeat it after a lost answer.
        """
        reply = self._run("retry", run_id, [owner, index, attempt, max(0, round(delay * 1000)), made, int(unrun)])
        return Released(integers(reply[0]), integers(reply[1]))

    def lacking(self, run_id: str, reference: str, *, is_known: bool, pause: float = 60.0) -> float:
        """Seconds for which no live worker has known a task that members of a run need; 0 when one knows it.

        It begins anew after a `pause` in which nobody asked.
        """
        return int(self._run("lacking", run_id, [reference, int(is_known), round(pause * 1000)])) / 1000

    def release(self, run_id: str, owner: str, indices: Sequence[int]) -> Released:
        """Release members that were claimed and not started: they go back unrun, without an attempt.

        The caller publishes those that were `released`.
        """
        replies = [self._run("release", run_id, [owner, *part]) for part in slices(indices)]
        released, ready, has_more = zip(*replies, strict=True)
        if any(has_more):
            self._leave_out(run_id, publishes=False)
        return Released(integers([*chain(*released)]), integers([*chain(*ready)]))

    def abandon(self, run_id: str, owner: str, indices: Sequence[int], how: str = "") -> list[int]:
        """End the leases of an `owner` whose process is known to be dead: the next sweep finds its members at once.

        `how` that process died is told of a member that is LOST by that. Returns those that it still held.
        """
        return integers([one for part in slices(indices) for one in self._run("abandon", run_id, [owner, how, *part])])


def _check_owner(owner: str) -> None:
    if not owner or owner[0] in "-@" or "\n" in owner:
        raise ValueError(f"not a name of an owner: {owner!r}")


def _name(lease: Lease | BlockLease) -> int | str:
    return lease.index if isinstance(lease, Lease) else f"b{lease.number}"


def _failures(report: BlockReport) -> str:
    return " ".join(f"{index} {state.value}" for index, state in sorted(report.failures.items()))
