"""What the group record must answer, written a second time in plain Python.

`Witness` passes every call on to the real record and compares each answer, seen or lost on its way, with this model.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

from graflow.core.handlers.group_policy import LEFT_OUT_ENOUGH, LEFT_OUT_FAILED
from graflow_celery.errors import RecordDamagedError, RetryRefusedError
from graflow_celery.record import (
    BeatAnswer,
    BlockClaim,
    BlockCompletion,
    BlockLease,
    BlockReport,
    Claim,
    Completion,
    GroupRecord,
    GroupSpec,
    Lease,
    Look,
    MemberReport,
    MemberState,
    Opened,
    RecordedBlock,
    RecordedOutcome,
    Released,
    Reopened,
    Republish,
    Since,
)
from graflow_celery.wire.pages import Page, recorded_outcomes
from graflow_celery.wire.seal import RunSeal

T = TypeVar("T")

MAX_DOUBLINGS = 6
_FAILURES = frozenset({MemberState.FAILED, MemberState.TIMED_OUT, MemberState.LOST})
EARLY = 30.0
"""Seconds by which a group may run out of time early whose clock was set just when it was opened."""


class InvariantError(AssertionError):
    """A promise is broken."""

    first: ClassVar[InvariantError | None] = None
    """Kept, since the code under test takes what is raised inside a task for a failure of that task."""


def require(holds: bool, *what: object) -> None:
    if not holds:
        error = InvariantError(" ".join(map(str, what)))
        InvariantError.first = InvariantError.first or error
        raise error


@dataclass
class Member:
    """One member as the model sees it; times in milliseconds."""

    due: int
    attempt: int = 0
    losses: int = 0
    retries: int = 0
    waits: int = 0
    owner: str | None = None
    is_retrying: bool = False
    is_given_up: bool = False
    death: str = ""
    outcome: tuple[MemberState, int, str, bytes] | None = None
    blobs: Mapping[str, bytes] = field(default_factory=dict)
    reported: bool = False
    floor: int = 0
    queued: int = 0
    since: int = 0
    released_by: str = ""


@dataclass
class Totals:
    executions: int = 0
    losses: int = 0
    retries: int = 0
    late: int = 0
    refused: int = 0


@dataclass
class Run:
    """One group run with a witness; times in milliseconds."""

    record: GroupRecord
    spec: GroupSpec
    clock: Callable[[], int]
    steady: Callable[[], float]
    members: dict[int, Member] = field(default_factory=dict)
    totals: Totals = field(default_factory=Totals)
    opened_at: int | None = None
    cancelled: bool = False
    timed_out: bool = False
    is_cut: bool = False
    starts: Counter[int] = field(default_factory=Counter)
    rounds: int = 0
    tokens: set[str] = field(default_factory=set)
    began_at: int = 0
    began_steadily: float = 0.0
    ran_again: int = 0
    failed_before: int = 0
    lost_for_good: list[int] = field(default_factory=list)
    may_be_early: bool = False
    pages: int = 0
    splits: int = 0

    # what the model knows

    @property
    def n(self) -> int:
        return self.spec.n

    @property
    def recorded(self) -> int:
        return sum(self.members[index].outcome is not None for index in range(self.n)) if self.members else 0

    @property
    def running(self) -> int:
        return sum(self.members[index].owner is not None for index in range(self.n))

    @property
    def is_final(self) -> bool:
        return self.opened_at is not None and self.recorded == self.n

    @property
    def is_closed(self) -> bool:
        return self.is_final and (not self.spec.continuation or self.members[self.n].outcome is not None)

    @property
    def is_good(self) -> bool:
        return all((self.members[index].outcome or (None,))[0] is MemberState.SUCCEEDED for index in range(self.n))

    def ms(self, seconds: float) -> int:
        return round(seconds * 1000)

    # the submitter

    def open(
        self,
        spec: GroupSpec,
        manifest: Sequence[bytes],
        shared: Mapping[str, bytes] | None,
        blobs: Mapping[str, bytes] | None,
        parent: Run | None,
    ) -> Opened:
        opened = self.record.open(spec, manifest, shared, blobs)
        require(opened.created == (self.opened_at is None), "opened twice or never")
        if self.opened_at is None:
            self.spec = spec  # what an earlier submitter left half written may have had other blocks
            self.opened_at = self.began_at = self.clock()
            self.began_steadily = self.steady()
            due = self.opened_at + self.ms(self.spec.queue_wait)
            size = self.n + int(self.spec.continuation)
            self.members = {index: Member(due, queued=self.opened_at) for index in range(size)}
            if parent is not None and parent.is_cut:
                self.end_as_cancelled()
            require(opened.state.is_final == self.is_final, "opened as", opened.state)
        return opened

    def restore(self, outcomes: Sequence[RecordedOutcome]) -> list[int]:
        known = []
        for outcome in outcomes:
            member = self.members[outcome.index]
            is_over = 0 < outcome.attempts <= member.floor
            if member.outcome is None and not is_over and not (outcome.index == self.n and not self.is_final):
                member.outcome = (outcome.state, outcome.attempts, outcome.owner, outcome.payload)
                member.blobs = outcome.blobs
                member.reported, member.owner, member.is_retrying = True, None, False
                known.append(outcome.index)
                self._offer_continuation()
        self._leave_out()
        restored = self.record.restore(self.spec.run_id, outcomes)
        require(restored == sorted(known), "restored", restored, "instead of", known)
        return restored

    def _offer_continuation(self) -> None:
        if self.is_final and self.spec.continuation:
            self.members[self.n].due = self.clock() + self.ms(self.spec.queue_wait)

    def expedite(self) -> None:
        self.record.expedite(self.spec.run_id)
        for index, member in self.members.items():
            is_waiting = member.outcome is None and member.owner is None and not member.is_retrying
            is_waiting = is_waiting and (index < self.n or self.is_final)
            is_blocked = self.spec.max_in_flight is not None and index < self.n  # perhaps
            if is_waiting and not is_blocked and member.due > self.clock():
                member.due, member.waits = self.clock(), 0
            if member.outcome is None:
                member.due = self._in_this_time(member)

    def _in_this_time(self, member: Member) -> int:
        """When a member is due that somebody has or that is being retried; written in a wrong time it may be later."""
        now = self.clock()
        if member.is_retrying and member.queued > now:
            return now + member.due - member.queued
        if member.owner is not None:
            return min(member.due, now if member.is_given_up else now + self.ms(self.spec.lease))
        return member.due

    def end_as_cancelled(self) -> None:
        """Somebody cancelled it, or the run around it was cut."""
        if self.is_closed:
            return
        self.is_cut = True
        if not self.is_final:
            self.cancelled = True
        self._end_open(MemberState.CANCELLED, range(len(self.members)))

    def _leave_out(self) -> None:
        """What need not run any more: all of it when enough have succeeded, what nobody runs after a failure."""
        spec = self.spec
        if self.is_final or not (spec.enough or spec.fail_fast):
            return
        states = [(self.members[i].outcome or (None,))[0] for i in range(self.n)]
        is_enough = 0 < spec.enough <= states.count(MemberState.SUCCEEDED)
        failed = sum(state in _FAILURES for state in states)
        for member in self.members.values() if is_enough or (spec.fail_fast and failed > self.failed_before) else ():
            is_unclaimed = member.owner is None and not member.is_retrying and not member.retries
            if member.outcome is None and member is not self.members.get(self.n) and (is_enough or is_unclaimed):
                why = LEFT_OUT_ENOUGH if is_enough else LEFT_OUT_FAILED
                member.outcome = (MemberState.CANCELLED, member.attempt, member.owner or "", why.encode())
                member.owner, member.is_retrying = None, False
        if is_enough and not spec.continuation:
            self.is_cut = True
        self._offer_continuation()

    def _end_open(self, state: MemberState, indices: Sequence[int]) -> None:
        for index in indices:
            member = self.members[index]
            if member.outcome is None:
                member.outcome = (state, member.attempt, member.owner or "", b"")
                member.owner, member.is_retrying = None, False

    def reopen(self, token: str, index: int | None) -> Reopened:
        """Somebody has what failed run again."""
        chosen = self._to_run_again(token, index)
        try:
            again = self.record.reopen(self.spec.run_id, token, index)
        except RetryRefusedError as error:
            require(chosen is None, "a retry was refused without need:", error)
            raise
        except RecordDamagedError as error:
            require(False, "a retry went wrong:", error)
            raise
        require(chosen is not None, "a retry was taken:", again)
        if token in self.tokens:
            return again
        members = [i for i in chosen or () if i < self.n]
        require(again.members == members, "to run again are", again.members, "instead of", members)
        self.rounds, self.began_at, self.began_steadily = self.rounds + 1, self.clock(), self.steady()
        self.tokens.add(token)
        self.is_cut = self.timed_out = False
        for i in chosen or ():
            member = self.members[i]
            floor = max(member.attempt, (member.outcome or (None, 0))[1])
            due = self.clock() + self.ms(self.spec.queue_wait)
            self.members[i] = Member(due, attempt=floor, floor=floor, queued=self.clock())
        states = [(member.outcome or (None,))[0] for member in self.members.values()][: self.n]
        self.failed_before = sum(state in _FAILURES for state in states)
        self.ran_again += len(chosen or ())
        require(again.continuation == self.is_final, "the continuation is to be published:", again)
        left = [i for i, member in sorted(self.members.items()) if member.outcome is not None]
        kept = [outcome.index for outcome in self.stored()]
        order = self._order()
        self._nothing_expires()
        require(kept == sorted(order) == left, "kept", kept, "in the order", order, "instead of", left)
        return again

    def _nothing_expires(self) -> None:
        """While the run is open its keys stay."""
        client, run_id = self.record.client, self.spec.run_id
        stem = self.record.keys.run(run_id, "blob:")
        names: Any = client.smembers(self.record.keys.run(run_id, "blobs"))
        keys = [*self.record.keys.of_run(run_id), *(f"{stem}{name.decode()}" for name in names)]
        expiring = [key for key in keys if not self.is_closed and client.pttl(key) > 0]
        require(not expiring, "open, and yet to expire:", expiring)

    def stored(self) -> list[RecordedOutcome]:
        """The outcomes that the record has, by index."""
        return recorded_outcomes(self.record, RunSeal(None, self.spec))

    def _order(self) -> list[int]:
        """The members in the order of recording, those of a block one after another."""
        order: Any = self.record.client.lrange(self.record.keys.run(self.spec.run_id, "order"), 0, -1)
        blocks = {b"b%d" % block.number: block for block in self.record.blocks(self.spec.run_id)}
        members = [
            [int(name)] if name not in blocks else Page(blocks[name], RunSeal(None, self.spec)).members
            for name in order
        ]
        return [index for part in members for index in part]

    def _to_run_again(self, token: str, index: int | None) -> list[int] | None:
        """What a retry is about; None where it is to be refused."""
        if token in self.tokens:
            return []
        if self.cancelled or not self.is_closed or self.spec.parent_run is not None:
            return None
        states = [(member.outcome or (None,))[0] for _, member in sorted(self.members.items())]
        failed = [i for i in range(self.n) if states[i] is not MemberState.SUCCEEDED and index in {None, i}]
        if 0 < self.spec.enough <= states[: self.n].count(MemberState.SUCCEEDED):
            failed = []
        if index is not None and not failed:
            return None
        if self.spec.continuation and (failed or states[self.n] is not MemberState.SUCCEEDED):
            failed.append(self.n)
        return failed or None

    # the worker

    def _losses_until_lost(self, index: int) -> int:
        return self.spec.attempts.get(str(index), self.spec.max_attempts)

    def claim(self, indices: Sequence[int], owner: str, limit: int | None, envelopes: bool) -> Claim:
        claim = self.record.claim(self.spec.run_id, indices, owner, limit=limit, envelopes=envelopes)
        now = self.clock()
        is_over = self._is_over_time()
        for granted in claim.granted:
            member = self.members[granted.index]
            require(member.outcome is None, "granted a recorded member", granted)
            require(not is_over, "granted after the deadline", granted)
            require(granted.index < self.n or self.is_final, "the continuation was granted too early")
            require(granted.losses == member.losses, "wrong losses", granted)
            require(granted.retries == member.retries, "wrong retries", granted)
            is_suspect = (
                self.spec.fail_fast
                or self.spec.enough > 0
                or member.losses > 0
                or self._losses_until_lost(granted.index) == 1
            )
            require(not is_suspect or len(claim.granted) == 1, "a suspect was granted in company", claim)
            if member.owner == owner:
                require(granted.attempt == member.attempt, "the same claim got another attempt", granted)
            else:
                require(member.owner is None, "granted a member that is", member.owner)
                require(not member.is_retrying or now >= member.due, "granted before its retry is due")
                require(granted.attempt == member.attempt + 1, "attempt", granted.attempt, "after", member.attempt)
                member.attempt, member.owner, member.waits, member.is_retrying = granted.attempt, owner, 0, False
                member.is_given_up, member.since, member.released_by = False, now, ""
                self.totals.executions += 1
            member.due = now + self.ms(self.spec.lease)
        limit_in_flight = self.spec.max_in_flight
        require(limit_in_flight is None or self.running <= limit_in_flight, "more in flight than allowed")
        require(not claim.blocked or self.running == limit_in_flight, "blocked without need")
        for index in claim.refused:
            require(is_over or self._is_refusable(index, owner), "refused without need", index, self.members[index])
        return claim

    def _is_over_time(self) -> bool:
        if self.spec.timeout is None or self.opened_at is None or self.is_final:
            return False
        return self.clock() >= self.began_at + self.ms(self.spec.timeout)

    def _is_refusable(self, index: int, owner: str) -> bool:
        member = self.members[index]
        return (
            member.outcome is not None
            or member.owner not in {None, owner}
            or (member.is_retrying and self.clock() < member.due)
            or (index == self.n and not self.is_final)
        )

    def _holds(self, index: int, attempt: int, owner: str) -> bool:
        member = self.members[index]
        return member.outcome is None and member.owner == owner and member.attempt == attempt

    def beat(self, leases: Sequence[Lease | BlockLease]) -> BeatAnswer:
        answer = self.record.beat(leases)
        gone = answer.gone.get(self.spec.run_id, set())
        for lease in leases:
            if isinstance(lease, BlockLease):
                self._beat_block(lease, gone)
                continue
            is_held = self._holds(lease.index, lease.attempt, lease.owner)
            require((lease in answer.lost) == (not is_held), "beat answered", answer, "for", lease)
            if is_held:
                self.members[lease.index].due = self.clock() + self.ms(self.spec.lease)
        return answer

    def _beat_block(self, lease: BlockLease, gone: set[int]) -> None:
        for index in self.spec.block(lease.number):
            is_held = self._holds(index, lease.attempt, lease.owner)
            require((index in gone) == (not is_held), "a beat told that", gone, "are gone, for", lease)
            if is_held:
                self.members[index].due = self.clock() + self.ms(self.spec.lease)

    def keep(self, owner: str, indices: Sequence[int]) -> float | None:
        lease = self.record.keep(self.spec.run_id, owner, indices)
        for index in indices:
            member = self.members[index]
            if member.outcome is None and member.owner == owner and not member.is_given_up:
                member.due = self.clock() + self.ms(self.spec.lease)
        return lease

    def claim_blocks(self, ranges: Sequence[Sequence[int]], owner: str) -> BlockClaim:
        claim = self.record.claim_blocks(self.spec.run_id, ranges, owner)
        now, is_over, spec = self.clock(), self._is_over_time(), self.spec
        asked = {index for first, last in ranges for index in range(first, last + 1)}
        left = set(claim.left)
        require(left <= asked, "left what was not asked for:", left)
        for block in claim.granted:
            require(not is_over, "granted after the deadline", block)
            is_each_alone = (
                spec.max_in_flight or spec.attempts or spec.enough or spec.fail_fast or spec.max_attempts == 1
            )
            require(not is_each_alone, "granted in company", block)
            require(set(block.members) <= asked and block.members == spec.block(block.number), "granted", block)
            for index in block.members:
                member = self.members[index]
                require(member.outcome is None and index not in left, "granted a recorded member, or left it", index)
                require(member.losses == member.retries == 0, "a suspect was granted in company", index)
                if member.owner == owner:
                    require(block.attempt == member.attempt, "the same claim got another attempt", block)
                else:
                    require(member.owner is None and not member.is_retrying, "granted a member that is", member.owner)
                    require(block.attempt == member.attempt + 1, "attempt", block.attempt, "after", member.attempt)
                    member.attempt, member.owner, member.waits, member.since = block.attempt, owner, 0, now
                    member.released_by = ""
                    self.totals.executions += 1
                member.due = now + self.ms(spec.lease)
        taken = {index for block in claim.granted for index in block.members}
        for index in asked - left - taken:
            require(self._is_refusable(index, owner), "refused without need", index, self.members[index])
        return claim

    def complete_blocks(self, owner: str, reports: Sequence[BlockReport]) -> BlockCompletion:
        completion = self.record.complete_blocks(self.spec.run_id, owner, reports)
        told = {*completion.recorded, *completion.split}
        self.pages, self.splits = self.pages + len(completion.recorded), self.splits + len(completion.split)
        require(told == {report.number for report in reports}, "told of", told)
        for report in reports:
            if report.number in completion.recorded:
                self._record_page(owner, report)
            else:
                kept: Any = self.record.client.hget(self.record.keys.run(self.spec.run_id, "blocks"), report.number)
                words = (kept or b"t").decode().split(" ")
                is_mine = words[0] in {"c", "r"} and (words[1], words[-1]) == (str(report.attempt), owner)
                require(not is_mine, "a whole block was refused:", kept)
        self._leave_out()
        require(completion.done == self.is_final, "done is", completion.done, "with", self.recorded, "of", self.n)
        return completion

    def _record_page(self, owner: str, report: BlockReport) -> None:
        members = self.spec.block(report.number)
        block = RecordedBlock(report.number, members, report.attempt, owner, 0.0, report.page)
        for outcome in Page(block, RunSeal(None, self.spec)).outcomes():
            member = self.members[outcome.index]
            if member.floor >= report.attempt:
                continue  # it was recorded before, and runs again since
            if member.outcome is not None:
                is_mine = member.reported and member.outcome[1:3] == (report.attempt, owner)
                require(is_mine, "recorded what has an outcome", outcome)
                continue
            require(self._holds(outcome.index, report.attempt, owner), "recorded what is not held", outcome)
            member.outcome = (outcome.state, report.attempt, owner, outcome.payload)
            member.reported, member.owner, member.is_retrying = True, None, False
            self._offer_continuation()

    def complete(self, owner: str, results: Sequence[MemberReport]) -> Completion:
        completion = self.record.complete(self.spec.run_id, owner, results)
        recorded: list[int] = []
        late: list[int] = []
        refused: list[int] = []
        for result in results:
            member = self.members[result.index]
            if member.outcome is not None:
                is_mine = member.reported and member.outcome[1:3] == (result.attempt, owner)
                (recorded if is_mine else refused).append(result.index)
                self.totals.refused += not is_mine
            elif not member.floor < result.attempt <= member.attempt:
                refused.append(result.index)
                self.totals.refused += 1
            else:
                if not self._holds(result.index, result.attempt, owner):
                    self.totals.late += 1
                    late.append(result.index)
                member.outcome = (result.state, result.attempt, owner, result.payload)
                member.blobs = result.blobs
                member.reported, member.owner, member.is_retrying = True, None, False
                recorded.append(result.index)
                if result.index < self.n:
                    self._offer_continuation()
        self._leave_out()
        require(completion.recorded == sorted(recorded), "recorded", completion, "instead of", recorded)
        require(completion.refused == sorted(refused), "refused", completion, "instead of", refused)
        require(set(late) <= set(completion.late), "not told late", completion, late)
        require(completion.done == self.is_final, "done is", completion.done, "with", self.recorded, "of", self.n)
        if any(result.blobs for result in results):
            self._nothing_expires()
        return completion

    def retry(self, owner: str, index: int, attempt: int, delay: float, made: int) -> Released:
        answer = self.record.retry(self.spec.run_id, owner, index, attempt, delay, made=made)
        member = self.members[index]
        if self._holds(index, attempt, owner):
            require(answer.released == [index], "a retry was refused")
            member.owner, member.is_retrying, member.is_given_up = None, True, False
            member.queued = self.clock()
            member.retries += 1 + made
            member.due = self.clock() + self.ms(delay)
            self.totals.retries += 1 + made
        else:
            is_repeat = member.outcome is None and member.is_retrying and member.attempt == attempt
            require(answer.released == ([index] if is_repeat else []), "a retry of a lost lease was taken", answer)
        return answer

    def release(self, owner: str, indices: Sequence[int]) -> Released:
        answer = self.record.release(self.spec.run_id, owner, indices)
        for index in indices:
            member = self.members[index]
            if member.outcome is None and member.owner == owner:
                may_be_left_out = self.spec.fail_fast
                require(may_be_left_out or index in answer.released, "a release was refused")
                member.owner, member.is_given_up = None, False
                member.attempt -= 1
                member.waits, member.queued, member.released_by = 0, self.clock(), owner
                member.due = self.clock() + self.ms(self.spec.queue_wait)
                self.totals.executions -= 1
            else:
                is_free = member.outcome is None and member.owner is None and not member.is_retrying
                is_again = is_free and member.released_by == owner
                require((index in answer.released) == is_again or self.spec.fail_fast, "released again", index, answer)
        was_final = self.is_final
        self._leave_out()
        if self.is_final and not was_final and self.spec.continuation:
            self.members[self.n].due = self.clock()
        return answer

    def abandon(self, owner: str, indices: Sequence[int], how: str) -> list[int]:
        lost = self.record.abandon(self.spec.run_id, owner, indices, how)
        for index in indices:
            member = self.members[index]
            is_held = member.outcome is None and member.owner == owner
            require((index in lost) == is_held, "given up", lost, "but", index, "belongs to", member.owner)
            if is_held:
                member.is_given_up, member.death, member.due = True, how, self.clock()
        return lost

    # the sweeper

    def swept(self, found: Republish | None, resumed: int, parent: Run | None, *, clock_is_wrong: bool) -> None:
        """A sweep at this moment named these members."""
        now = self.clock()
        if self.is_closed or self.opened_at is None:
            require(found is None, "something to sweep after the end")
            return
        if parent is not None and parent.is_cut:
            self.end_as_cancelled()
            return
        if self._is_over_time():
            passed = self.steady() - self.began_steadily
            is_early = passed < (self.spec.timeout or 0.0) - EARLY
            is_wrong = clock_is_wrong or self.may_be_early
            require(is_wrong or not is_early, "its time was over after", passed, "s")
            self.timed_out = self.is_cut = True
            self._end_open(MemberState.TIMED_OUT, range(self.n))
            self._offer_continuation()
            return
        lost, waiting = self._overdue(now, resumed)
        told = found
        given_up = told.given_up if told else []
        require(sorted(given_up) == sorted(self.lost_for_good), "LOST", told, "instead of", self.lost_for_good)
        told_lost = set(told.lost) if told else set()
        told_waiting = set(told.waiting) if told else set()
        require(told_lost == {index for index in lost if index < self.n}, "lost", told, "instead of", lost)
        wanted = {index for index in waiting if index < self.n}
        if self.spec.max_in_flight is None:
            require(told_waiting == wanted, "waiting", told, "instead of", wanted)
        if self.n in {*lost, *waiting}:
            require(told is not None and told.continuation, "the continuation was not published again")

    def _overdue(self, now: int, resumed: int) -> tuple[list[int], list[int]]:
        """Move every overdue member on; says which of them are to be published as lost, which as waiting."""
        grace = resumed + self.ms(self.spec.lease) // 2
        queue_wait = self.ms(self.spec.queue_wait)
        lost, waiting = [], []
        self.lost_for_good = []
        was_final = self.is_final
        for index, member in self.members.items():
            if member.outcome is not None or member.due > now or (index == self.n and not was_final):
                continue
            if member.owner is not None and now < grace and not member.is_given_up:
                member.due = grace
            elif member.owner is not None:
                member.losses += 1
                self.totals.losses += 1
                if member.losses >= self._losses_until_lost(index):
                    death = member.death if member.is_given_up else ""
                    payload = f"{member.losses} {death}".encode()
                    member.outcome = (MemberState.LOST, member.attempt, member.owner, payload)
                    self.lost_for_good.append(index)
                    member.owner = None
                else:
                    member.owner, member.waits, member.due, member.queued = None, 0, now + queue_wait, now
                    lost.append(index)
            elif member.is_retrying:
                member.is_retrying, member.waits, member.due, member.queued = False, 0, now + queue_wait, now
                waiting.append(index)
            else:
                member.waits = min(member.waits + 1, MAX_DOUBLINGS)
                member.due = now + queue_wait * 2**member.waits
                waiting.append(index)
        if not was_final:
            self._offer_continuation()
            self._leave_out()
            lost = [i for i in lost if self.members[i].outcome is None]
            waiting = [i for i in waiting if self.members[i].outcome is None]
        return lost, waiting


class Witness:
    """The record with a witness of every call; what is not told apart here is passed on."""

    def __init__(self, record: GroupRecord, clock: Callable[[], int], steady: Callable[[], float]) -> None:
        self.record = record
        self.runs: dict[str, Run] = {}
        self.sent: defaultdict[str, list[Callable[[], object]]] = defaultdict(list)
        self.grants: list[Lease] = []
        self.was_reset = False
        self._clock = clock
        self._steady = steady
        self._resumed = 0
        self._set_at: float | None = None

    def set_clock(self) -> None:
        """Somebody sets the server's clock; whoever looks next, and can tell, makes up for it."""
        if self._set_at is None:
            self._set_at = self._steady()

    @property
    def clock_is_wrong(self) -> bool:
        """Whether it was set, and nobody has looked since who took a part in it."""
        return self._set_at is not None

    def _believe_the_clock(self) -> None:
        """Nobody is left who could tell that time has not passed: what is open may be over early."""
        for run in self.runs.values():
            run.may_be_early = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self.record, name)

    def open(
        self,
        spec: GroupSpec,
        manifest: Sequence[bytes],
        shared: Mapping[str, bytes] | None = None,
        blobs: Mapping[str, bytes] | None = None,
    ) -> Opened:
        run = self.runs.get(spec.run_id)
        if run is None:
            run = Run(self.record, spec, self._clock, self._steady)
        elif run.spec.digest != spec.digest:
            self.record.open(spec, manifest, shared, blobs)
            raise InvariantError("another manifest under the same run id was taken")
        opened = run.open(spec, manifest, shared, blobs, self._around(run))
        if opened.created:
            run.may_be_early = self.clock_is_wrong
        self.runs[spec.run_id] = run
        return opened

    def delete(self, run_id: str) -> bool:
        require((run_id in self.runs) == self.record.delete(run_id), "deleted what was not there, or did not")
        self.was_reset = True
        return self.runs.pop(run_id, None) is not None

    def wipe(self) -> None:
        """The server loses its memory."""
        self.record.client.flushall()
        self.runs.clear()
        self.was_reset = True
        self._resumed = 0

    def readable(self, run_id: str) -> tuple[object, ...]:
        """What a reader of this run can find; the same again means that there is nothing to read."""
        run = self.runs.get(run_id)
        if run is None:
            return ()
        return (run.opened_at, run.rounds, run.is_closed, *(member.outcome is None for member in run.members.values()))

    def started(self, run_id: str, index: int) -> None:
        """A member, or the continuation, begins to run: it was granted, and no execution runs twice."""
        run = self.runs.get(run_id)
        if run is not None and not self.was_reset:
            run.starts[index] += 1
            require(run.starts[index] <= run.members[index].attempt, "started without a grant:", index)

    def expedite(self, run_id: str) -> None:
        self._known(run_id, Run.expedite, lambda: self.record.expedite(run_id))

    def reopen(self, run_id: str, token: str, index: int | None = None) -> Reopened:
        return self._known(
            run_id, lambda run: run.reopen(token, index), lambda: self.record.reopen(run_id, token, index)
        )

    def cancel(self, run_id: str, reason: str = "") -> list[str]:
        ended = self.record.cancel(run_id, reason)
        expected = [one for one in self._with_inner(run_id) if not self.runs[one].is_closed]
        require(sorted(ended) == sorted(expected), "cancelled", ended, "instead of", expected)
        self._end_as_cancelled(run_id)
        return ended

    def _around(self, run: Run) -> Run | None:
        """The run whose member opened this one."""
        return self.runs.get(run.spec.parent_run or "")

    def _with_inner(self, run_id: str) -> list[str]:
        """A run and all that its members opened."""
        inner = [name for name, run in self.runs.items() if run.spec.parent_run == run_id]
        return [*([run_id] if run_id in self.runs else ()), *(name for one in inner for name in self._with_inner(one))]

    def _end_as_cancelled(self, run_id: str) -> None:
        for one in self._with_inner(run_id):
            self.runs[one].end_as_cancelled()

    def restore(self, run_id: str, outcomes: Sequence[RecordedOutcome]) -> list[int]:
        return self._known(run_id, lambda run: run.restore(outcomes), lambda: self.record.restore(run_id, outcomes))

    def claim(
        self, run_id: str, indices: Sequence[int], owner: str, *, limit: int | None = None, envelopes: bool = True
    ) -> Claim:
        claim = self._known(
            run_id,
            lambda run: run.claim(indices, owner, limit, envelopes),
            lambda: self.record.claim(run_id, indices, owner, limit=limit, envelopes=envelopes),
        )
        self.grants += [Lease(run_id, granted.index, granted.attempt, owner) for granted in claim.granted]
        return claim

    def claim_continuation(self, run_id: str, owner: str) -> Claim:
        run = self.runs.get(run_id)
        return self.claim(run_id, [0 if run is None else run.n], owner)

    def claim_blocks(self, run_id: str, ranges: Sequence[Sequence[int]], owner: str) -> BlockClaim:
        claim = self._known(
            run_id,
            lambda run: run.claim_blocks(ranges, owner),
            lambda: self.record.claim_blocks(run_id, ranges, owner),
        )
        held = [(index, block.attempt) for block in claim.granted for index in block.members]
        self.grants += [Lease(run_id, index, attempt, owner) for index, attempt in held]
        return claim

    def complete_blocks(self, run_id: str, owner: str, reports: Sequence[BlockReport]) -> BlockCompletion:
        return self._known(
            run_id,
            lambda run: run.complete_blocks(owner, reports),
            lambda: self.record.complete_blocks(run_id, owner, reports),
        )

    def keep(self, run_id: str, owner: str, indices: Sequence[int]) -> float | None:
        return self._known(
            run_id, lambda run: run.keep(owner, indices), lambda: self.record.keep(run_id, owner, indices)
        )

    def beat(self, leases: Sequence[Lease | BlockLease]) -> BeatAnswer:
        run_ids = {lease.run_id for lease in leases}
        require(len(run_ids) == 1, "a beat for several runs")
        return self._known(run_ids.pop(), lambda run: run.beat(leases), lambda: self.record.beat(leases))

    def complete(self, run_id: str, owner: str, results: Sequence[MemberReport]) -> Completion:
        return self._known(
            run_id, lambda run: run.complete(owner, results), lambda: self.record.complete(run_id, owner, results)
        )

    def retry(
        self, run_id: str, owner: str, index: int, attempt: int, delay: float, *, made: int = 0, unrun: bool = False
    ) -> Released:
        require(not unrun, "a member was given back, though every worker knows it")
        return self._known(
            run_id,
            lambda run: run.retry(owner, index, attempt, delay, made),
            lambda: self.record.retry(run_id, owner, index, attempt, delay, made=made),
        )

    def release(self, run_id: str, owner: str, indices: Sequence[int]) -> Released:
        return self._known(
            run_id, lambda run: run.release(owner, indices), lambda: self.record.release(run_id, owner, indices)
        )

    def abandon(self, run_id: str, owner: str, indices: Sequence[int], how: str = "") -> list[int]:
        return self._known(
            run_id,
            lambda run: run.abandon(owner, indices, how),
            lambda: self.record.abandon(run_id, owner, indices, how),
        )

    def _known(self, run_id: str, watched: Callable[[Run], T], unwatched: Callable[[], T]) -> T:
        run = self.runs.get(run_id)
        return unwatched() if run is None else watched(run)

    def look(self, limit: int = 1000, *, interval: float = 1.0, since: Since | None = None) -> Look:
        look = self.record.look(limit, interval=interval, since=since)
        resumed, looked = self.record.client.hmget(self.record.keys.deployment("clock"), "resumed", "looked")
        self._resumed = int(float(resumed or 0))
        if self._set_at is not None and int(looked or 0) == round(look.time * 1000):  # else it left that to others
            if since is None or self._steady() - since.most >= self._set_at:
                self._believe_the_clock()
            self._set_at = None
        for run_id in [one for one in self.runs if look.due and one not in look.due]:
            self._swept(run_id, None)
        return look

    def sweep(self, run_id: str, token: str, limit: int = 1000) -> Republish | None:
        found = self.record.sweep(run_id, token, limit)
        if run_id in self.runs:
            self._swept(run_id, found)
        else:
            require(found is None, "something to sweep in a run that is gone:", run_id)
        return found

    def _swept(self, run_id: str, found: Republish | None) -> None:
        """A sweep has looked at this run, or had no need to."""
        run = self.runs[run_id]
        was_cut = run.is_cut
        run.swept(found, self._resumed, self._around(run), clock_is_wrong=self.clock_is_wrong)
        if run.is_cut and not was_cut:
            for inner in self._with_inner(run_id)[1:]:
                self._end_as_cancelled(inner)
