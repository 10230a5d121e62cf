"""A group in blocks and what may happen to it, one call of the record after another, all drawn from one seed.

The other simulation runs the product's own processes; this one calls the record as no process would, in any order, so
that what is rare there is common here: parts of blocks, late and repeated calls, leases that end, retries of a run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from random import Random
from typing import Any

import redis

from graflow.exceptions import GraflowError
from graflow_celery.errors import RetryRefusedError
from graflow_celery.record import (
    BlockLease,
    BlockReport,
    Cursor,
    GrantedBlock,
    GroupRecord,
    GroupSpec,
    GroupState,
    Lease,
    MemberReport,
    MemberState,
    RecordedOutcome,
)
from graflow_celery.record.data.sweeps import Since
from graflow_celery.wire.outcomes import pack_failure
from graflow_celery.wire.pages import Page, PageWriter
from graflow_celery.wire.seal import RunSeal
from tests.simulation.model import InvariantError, Member, Run, Witness, require
from tests.simulation.simulate import START, VirtualScripts, virtual

OWNERS = ("a", "b", "c")
_FAILED = MemberState.FAILED


class Deliveries:
    """One group, and three owners that do anything that a worker may do."""

    def __init__(self, seed: int, client: redis.Redis, load: Callable[[str], str] = virtual) -> None:
        self.rng = rng = Random(seed)
        self.client = client
        self.now = START
        InvariantError.first = None
        scripts = VirtualScripts(client, load, lambda: self.now, seed)
        self.record = GroupRecord(client, f"d{seed}", scripts=scripts)
        self.witness = Witness(self.record, lambda: self.now, lambda: (self.now - START) / 1000)
        self.spec = _spec(rng)
        self.seal = RunSeal(None, self.spec)
        self.held: dict[str, dict[int, int]] = {owner: {} for owner in OWNERS}
        self.held_blocks: dict[str, dict[int, int]] = {owner: {} for owner in OWNERS}
        self.cursor, self.round = Cursor(), 0
        self.seen: dict[int, RecordedOutcome] = {}
        self.published: set[int] = set()
        self.sent: list[Sequence[BlockReport]] = []
        self.tokens = self.sweeps = 0
        self.looked = (0.0, 0.0)
        self.roughness = rng.choice((0.0, 0.03, 0.1, 0.3))

    @property
    def run_id(self) -> str:
        return self.spec.run_id

    @property
    def model(self) -> Run:
        return self.witness.runs[self.run_id]

    def run(self) -> Run:
        """All of it; the model of the run as it ended."""
        self._open()
        for _ in range(self.rng.choice((1, 1, 2, 3))):
            for _ in range(self.rng.randint(10, 60)):
                is_rough = self.rng.random() < self.roughness
                self.step(self.rng.choice(_WITH_MEMBERS if is_rough else _WITH_BLOCKS))
            self._finish()
            self._look_at_the_state()
            self.step(Deliveries._reopen)
        self._finish()
        self._read_all()
        self._look_at_the_end()
        return self.model

    def _finish(self) -> None:
        """Nothing more goes wrong until the run is closed."""
        while not self.model.is_closed:
            for what in (Deliveries._time_passes, Deliveries._sweep, Deliveries._work_off, Deliveries._continue):
                self.step(what)
            require(self.now < START + 10_000_000, "not finished:", self.model)

    def step(self, what: Callable[[Deliveries], None]) -> None:
        """One thing happens, after some time."""
        self.now += self.rng.choice((0, 1, 100, 500, 3_000))
        try:
            what(self)
            self._look()
        except (redis.exceptions.ResponseError, GraflowError, ValueError) as error:
            raise InvariantError(f"{what.__name__.strip('_')} went wrong: {error!r}") from error

    # -- what may happen -------------------------------------------------------------------------------------------

    def _open(self) -> None:
        if self.spec.stride:
            manifest = [b"chunk %d" % number for number in range(self.spec.blocks)]
        else:
            manifest = [b"chunk %d" % index for index in range(self.spec.n)]
        self.witness.open(self.spec, [*manifest, *([b"then"] if self.spec.continuation else [])])
        self.published = set(range(self.spec.n))

    def _claim_blocks(self) -> None:
        owner = self._owner()
        first = self.rng.randrange(self.spec.n)
        last = min(first + self.rng.randrange(3 * max(self.spec.stride, 1)), self.spec.n - 1)
        if self.spec.stride and self.rng.random() < 1 - self.roughness:
            first -= first % self.spec.stride
            last = min(last - last % self.spec.stride + self.spec.stride, self.spec.n) - 1
        self._take([(first, last)], owner)

    def _take(self, ranges: Sequence[tuple[int, int]], owner: str) -> None:
        claim = self._repeatedly(lambda: self.witness.claim_blocks(self.run_id, ranges, owner))
        for block in claim.granted:
            require(block.chunk == b"chunk %d" % block.number, "the chunk of", block)
            self.held_blocks[owner][block.number] = block.attempt
        if claim.left and self.rng.random() < max(self.roughness, 0.05):
            self._claim(claim.left, owner)

    def _claim_members(self) -> None:
        self._claim(self._members(), self._owner())

    def _claim(self, indices: Sequence[int], owner: str) -> None:
        limit = self.rng.choice((None, None, 1, 2))
        claim = self._repeatedly(lambda: self.witness.claim(self.run_id, indices, owner, limit=limit))
        for granted in claim.granted:
            place = granted.index // self.spec.stride if self.spec.stride else granted.index
            require(granted.envelope == b"chunk %d" % place, "the envelope of", granted)
            self.held[owner][granted.index] = granted.attempt

    def _report_blocks(self) -> None:
        owner = self._owner()
        held = sorted(self.held_blocks[owner])
        numbers = self.rng.sample(held, self.rng.randint(min(1, len(held)), len(held)))
        if not numbers:
            return
        reports = [self._page(number, self.held_blocks[owner][number]) for number in numbers]
        by = owner if self.rng.random() < 0.95 else self._owner()
        answer = self._repeatedly(lambda: self.witness.complete_blocks(self.run_id, by, reports))
        self.sent.append(reports)
        for number in numbers:
            attempt = self.held_blocks[owner].pop(number)
            if number in answer.split and self.rng.random() < 0.8:
                self.held[owner].update(dict.fromkeys(self.spec.block(number), attempt))

    def _report_blocks_again(self) -> None:
        """What somebody has reported comes once more, perhaps from another."""
        if self.sent:
            self.witness.complete_blocks(self.run_id, self._owner(), self.rng.choice(self.sent))

    def _page(self, number: int, attempt: int) -> BlockReport:
        writer = PageWriter(GrantedBlock(number, attempt, self.spec.block(number), b""), self.seal)
        for index in self.spec.block(number):
            state = self._state()
            if state is MemberState.SUCCEEDED:
                writer.add_value(index, 0.5, self.now / 1000)
            else:
                payload = pack_failure(ValueError(f"no {index}"), self.now / 1000)
                writer.add_report(MemberReport(index, attempt, state, payload))
        report = writer.page()
        assert report is not None
        return report

    def _report_members(self) -> None:
        """Also of blocks that are held whole."""
        owner = self._owner()
        held = dict(self.held[owner])
        for number, attempt in self.held_blocks[owner].items():
            held.update(dict.fromkeys(self.spec.block(number), attempt))
        chosen = self.rng.sample(sorted(held), self.rng.randint(0, min(4, len(held))))
        reports = [MemberReport(i, held[i], self._state(), b"payload %d" % i) for i in chosen]
        if reports:
            self._repeatedly(lambda: self.witness.complete(self.run_id, owner, reports))
        for index in chosen:
            self.held[owner].pop(index, None)

    def _retry(self) -> None:
        owner = self._owner()
        index, attempt = self._any_held(owner)
        delay = self.rng.choice((0.0, 1.0, 30.0))
        self._repeatedly(lambda: self.witness.retry(self.run_id, owner, index, attempt, delay, made=0))

    def _release(self) -> None:
        owner, indices = self._owner(), self._members()
        if self.rng.random() < 0.3:
            indices = indices[1:] or indices
        released = self._repeatedly(lambda: self.witness.release(self.run_id, owner, indices)).released
        for index in released:
            self.held[owner].pop(index, None)
        if self.spec.stride and self.rng.random() < 0.7:
            for number in {index // self.spec.stride for index in released}:
                self.held_blocks[owner].pop(number, None)

    def _abandon(self) -> None:
        if self.rng.random() < 0.3:
            owner, indices = self._owner(), self._members()
            self._repeatedly(lambda: self.witness.abandon(self.run_id, owner, indices, "signal 9"))

    def _keep(self) -> None:
        self.witness.keep(self.run_id, self._owner(), self._members())

    def _beat(self) -> None:
        owner = self._owner()
        blocks = [
            BlockLease(self.run_id, number, attempt, owner) for number, attempt in self.held_blocks[owner].items()
        ]
        members = [Lease(self.run_id, index, attempt, owner) for index, attempt in self.held[owner].items()]
        if self.spec.stride and self.rng.random() < 0.2:
            blocks.append(BlockLease(self.run_id, self.rng.randrange(self.spec.blocks), 1, owner))
        if self.rng.random() < self.roughness:
            members.append(Lease(self.run_id, self.rng.randrange(self.spec.n), 1, owner))
        if blocks or members:
            self._repeatedly(lambda: self.witness.beat([*blocks, *members]))

    def _sweep(self) -> None:
        now, (time, at) = self.now / 1000, self.looked
        since = Since(time, now - at, now - at) if time else None
        look = self.witness.look(interval=5.0, since=since)
        self.looked = (look.time, now)
        for run_id in look.due:
            self.sweeps += 1
            again = self.witness.sweep(run_id, f"sweep{self.sweeps}")
            if again is not None:
                self.published.update(again.lost, again.waiting)

    def _time_passes(self) -> None:
        for _ in range(self.rng.randint(1, 4)):
            self.now += 4_000
            if self.rng.random() < 0.8:
                self._sweep()

    def _stand_still(self) -> None:
        if self.rng.random() < 0.1:
            self.now += 40_000

    def _expedite(self) -> None:
        if self.rng.random() < 0.3:
            self.witness.expedite(self.run_id)

    def _cancel(self) -> None:
        if self.rng.random() < 0.04:
            self.witness.cancel(self.run_id, "no more")

    def _restore(self) -> None:
        if self.rng.random() < 0.3:
            known = [
                RecordedOutcome(index, MemberState.SUCCEEDED, self.rng.choice((1, 9)), "z", 0.0, False, b"known")
                for index in self._members()[:2]
            ]
            self.witness.restore(self.run_id, known)

    def _reopen(self) -> None:
        if (self.model.is_closed and self.rng.random() < 0.7) or self.rng.random() < 0.05:
            if self.rng.random() < 0.8:
                self.tokens += 1
            index = self.rng.choice((None, None, self.rng.randrange(self.spec.n)))
            with suppress(RetryRefusedError):
                self.witness.reopen(self.run_id, f"token{self.tokens}", index)

    def _read(self) -> None:
        page = self.record.read(self.run_id, self.cursor, count=self.rng.choice((1, 2, 1000)))
        if page.round != self.round:
            self.cursor, self.round, self.seen = Cursor(), page.round, {}
            return
        self.cursor = page.cursor
        pages = [Page(block, self.seal) for block in page.blocks]
        for outcome in (*page.outcomes, *(outcome for each in pages for outcome in each.outcomes())):
            require(outcome.index not in self.seen, "read twice:", outcome)
            self.seen[outcome.index] = outcome

    def _continue(self) -> None:
        """Claim and report the continuation."""
        if self.spec.continuation and self.model.is_final and not self.model.is_closed:
            claim = self.witness.claim_continuation(self.run_id, "a")
            reports = [MemberReport(m.index, m.attempt, self._state(), b"then") for m in claim.granted]
            if reports:
                self._repeatedly(lambda: self.witness.complete(self.run_id, "a", reports))

    def _work_off(self) -> None:
        """Everybody reports what is held, and somebody takes and reports what was published."""
        ready: set[int] = set()
        for owner in OWNERS:
            blocks = [self._page(number, attempt) for number, attempt in self.held_blocks[owner].items()]
            if blocks:
                answer = self.witness.complete_blocks(self.run_id, owner, blocks)
                for report in blocks:
                    if report.number in answer.split:
                        members = self.spec.block(report.number)
                        self.held[owner].update(dict.fromkeys(members, report.attempt))
            reports = [MemberReport(i, attempt, self._state(), b"%d" % i) for i, attempt in self.held[owner].items()]
            if reports:
                ready.update(self.witness.complete(self.run_id, owner, reports).ready)
            self.held[owner], self.held_blocks[owner] = {}, {}
        for index in sorted(self.published):
            first = index - index % self.spec.stride if self.spec.stride else index
            self._take([(first, index)], "a")
            if index not in self.held["a"]:
                self._claim([index], "a")
        self.published = ready

    # -- choices ---------------------------------------------------------------------------------------------------

    def _owner(self) -> str:
        return self.rng.choice(OWNERS)

    def _members(self) -> list[int]:
        """Some members: any, or those of neighbouring blocks."""
        if self.spec.stride and self.rng.random() < 1 - self.roughness:
            number = self.rng.randrange(self.spec.blocks)
            more = self.spec.block(min(number + 1, self.spec.blocks - 1)) if self.rng.random() < 0.3 else ()
            return sorted({*self.spec.block(number), *more})
        return self.rng.sample(range(self.spec.n), self.rng.randint(1, min(4, self.spec.n)))

    def _any_held(self, owner: str) -> tuple[int, int]:
        held = dict(self.held[owner])
        for number, attempt in self.held_blocks[owner].items():
            held.update(dict.fromkeys(self.spec.block(number), attempt))
        return self.rng.choice(sorted(held.items())) if held else (self.rng.randrange(self.spec.n), 1)

    def _state(self) -> MemberState:
        return self.rng.choice((*[MemberState.SUCCEEDED] * 6, MemberState.FAILED, MemberState.TIMED_OUT))

    def _repeatedly(self, call: Callable[[], Any]) -> Any:
        """Sometimes the answer gets lost, and the call is made again."""
        answer = call()
        return call() if self.rng.random() < 0.15 else answer

    # -- what holds at any time --------------------------------------------------------------------------------------

    def _look(self) -> None:
        run, status = self.model, self.record.status(self.run_id)
        states = [member.outcome[0] for member in list(run.members.values())[: run.n] if member.outcome is not None]
        found = (status.running, status.executions, status.losses, status.retries, status.late, status.refused)
        totals = run.totals
        wanted = (run.running, totals.executions, totals.losses, totals.retries, totals.late, totals.refused)
        require(found == wanted, "counted", found, "instead of", wanted)
        counted = (status.succeeded, status.timed_out, status.failed, status.cancelled, status.lost)
        failed = states.count(MemberState.FAILED) + states.count(MemberState.TIMED_OUT)
        by_state = (MemberState.SUCCEEDED, MemberState.TIMED_OUT, None, MemberState.CANCELLED, MemberState.LOST)
        expected = tuple(failed if state is None else states.count(state) for state in by_state)
        require(counted == expected, "counted", counted, "instead of", expected)
        retrying = sum(member.is_retrying for member in list(run.members.values())[: run.n])
        require(status.retrying == retrying, "retrying", status.retrying, "instead of", retrying)
        claimed = {(c.index, c.attempt, c.owner, c.queued_at, c.claimed_at) for c in self.record.claimed(self.run_id)}
        held = {
            (index, member.attempt, member.owner, member.queued / 1000, member.since / 1000)
            for index, member in run.members.items()
            if member.owner is not None
        }
        require(claimed == held, "claimed", claimed ^ held)

    def _read_all(self) -> None:
        while True:
            page = self.record.read(self.run_id, self.cursor)
            if page.closed and not (page.outcomes or page.blocks or page.round != self.round):
                return
            self._read()

    def _look_at_the_state(self) -> None:
        run, record = self.model, self.record
        good = {index for index in range(run.n) if _is_good(run.members[index])}
        is_done = len(good) >= self.spec.min_success and good.issuperset(self.spec.critical) and not run.timed_out
        wanted = GroupState.CANCELLED if run.cancelled else GroupState.DONE if is_done else GroupState.FAILED
        found = record.status(self.run_id).state
        require(found is wanted, "the group is", found, "instead of", wanted)
        counted = int(self.client.hget(record.keys.run(self.run_id, "header"), "in_blocks") or 0)  # type: ignore[arg-type]
        in_blocks = sum(len(Page(block, self.seal).members) for block in record.blocks(self.run_id))
        require(counted == in_blocks, "in blocks are", in_blocks, "and counted", counted)

    def _look_at_the_end(self) -> None:
        run = self.model
        for known in (self.seen, {outcome.index: outcome for outcome in run.stored()}):
            require(sorted(known) == sorted(run.members), "members lost:", sorted(known))
            for index, outcome in known.items():
                found = (outcome.state, outcome.attempts, outcome.owner, outcome.payload)
                require(found == run.members[index].outcome, "stored", outcome, "instead of", run.members[index])
        self._look_at_the_state()
        lasting = [key for key in self.record.keys.of_run(self.run_id) if self.client.pttl(key) == -1]
        require(not lasting, "no expiry:", lasting)
        require(
            self.record.delete(self.run_id) and not self.client.keys("*:run:*"), "left:", self.client.keys("*:run:*")
        )
        self.client.flushall()


def _is_good(member: Member) -> bool:
    return member.outcome is not None and member.outcome[0] is MemberState.SUCCEEDED


_WITH_BLOCKS: tuple[Callable[[Deliveries], None], ...] = (
    *[Deliveries._claim_blocks] * 8,
    *[Deliveries._report_blocks] * 8,
    *[Deliveries._release] * 2,
    *[Deliveries._beat] * 5,
    *[Deliveries._sweep] * 2,
    Deliveries._time_passes,
    *[Deliveries._read] * 2,
    Deliveries._reopen,
    Deliveries._report_blocks_again,
    Deliveries._keep,
    Deliveries._stand_still,
    Deliveries._expedite,
    Deliveries._cancel,
    Deliveries._continue,
)
_WITH_MEMBERS: tuple[Callable[[Deliveries], None], ...] = (
    *[Deliveries._claim_members] * 2,
    *[Deliveries._report_members] * 3,
    Deliveries._retry,
    Deliveries._abandon,
    Deliveries._restore,
)


def _spec(rng: Random) -> GroupSpec:
    n = rng.randint(1, 40)
    kind = rng.choice((*["strict", "best_effort", "critical"] * 2, "fail_fast", "enough"))
    has_critical = kind == "critical" or rng.random() < 0.1
    critical = tuple(sorted(rng.sample(range(n), rng.randint(1, n)))) if has_critical else ()
    attempts = (
        {str(index): rng.choice((1, 2)) for index in rng.sample(range(n), min(n, 2))} if rng.random() < 0.05 else {}
    )
    is_each_alone = rng.random() < 0.25
    return GroupSpec(
        run_id="run",
        group_id="group",
        n=n,
        digest="digest",
        min_success=n if kind in {"strict", "fail_fast"} else rng.choice((0, rng.randint(0, n))),
        enough=rng.randint(1, n) if kind == "enough" else 0,
        fail_fast=kind == "fail_fast",
        critical=critical,
        lease=rng.choice((10.0, 30.0)),
        queue_wait=rng.choice((5.0, 20.0)),
        max_attempts=rng.choice((1, 2, 4)) if is_each_alone else rng.choice((2, 4, 9)),
        attempts=attempts,
        max_in_flight=rng.choice((None, 3)) if is_each_alone else None,
        timeout=rng.choice((*[None] * 4, 20.0)),
        continuation=rng.random() < 0.4,
        stride=rng.choice((1, 2, 2, 3, 3, 3, 5, 8, 24)) if rng.random() < 0.95 else 0,
    )
