"""What one delivery of a message holds: members and blocks of them that are to run here, and what runs."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from graflow.runtime import Runtime
from graflow_celery.record import BlockLease, GrantedBlock, GrantedMember, Lease
from graflow_celery.wire.pages import PageWriter
from graflow_celery.wire.seal import RunSeal

Work = GrantedMember | GrantedBlock
"""What runs without looking at the record in between."""


class Begun(NamedTuple):
    """A member that runs, and since when, on the monotonic clock."""

    member: GrantedMember
    since: float


class RunningBlock:
    """A block whose members run one after another; the holding's lock guards it.

    Attributes:
        page: What came of those that have ended.
        at: The member that runs.
        stop: Where it ends: what was cut off behind it has gone back.
        since: When it began, on the monotonic clock.
    """

    __slots__ = ("at", "block", "page", "since", "stop")

    def __init__(self, block: GrantedBlock, since: float, seal: RunSeal) -> None:
        self.block = block
        self.page = PageWriter(block, seal)
        self.at, self.stop = block.members.start, block.members.stop
        self.since = since

    @property
    def has_more(self) -> bool:
        """Whether members are behind the one that runs."""
        return self.at + 1 < self.stop

    def cut(self) -> range:
        """Let it end with the member that runs; returns those behind it."""
        tail = range(self.at + 1, self.stop)
        self.stop = min(self.stop, self.at + 1)
        return tail


class Holding:
    """What one owner was granted and has not reported; for the thread that runs it and the one that paces that.

    Args:
        runtime: Whose threads they are.
        seal: Of their run.
        owner: As it was claimed.

    Attributes:
        owner: As given.
        ended: Whether the group has ended, so that nothing more of it begins.
        lock: Guards the running block.
        gone: Members of blocks that run elsewhere by now.
        block: The block that runs.
        begun: The member that runs by itself, or as one of a block.
    """

    def __init__(self, runtime: Runtime, seal: RunSeal, owner: str) -> None:
        self.ended = False
        self.lock = runtime.lock()
        self.gone: set[int] = set()
        self.block: RunningBlock | None = None
        self.begun: Begun | None = None
        self._runtime = runtime
        self._seal = seal
        self.owner = owner
        self._todo: deque[Work] = deque()
        self._releasing: list[Work | range] = []

    @property
    def has_unstarted(self) -> bool:
        """Whether something is here that another slot could begin."""
        with self.lock:
            return bool(self._todo) or (self.block is not None and self.block.has_more)

    @property
    def has_todo(self) -> bool:
        return bool(self._todo)

    def add(self, granted: Iterable[Work]) -> None:
        with self.lock:
            self._todo.extend(granted)

    def next(self) -> Work | None:
        """What runs now; None when nothing is left, or the group has ended."""
        with self.lock:
            if self.ended:
                self._todo.clear()
            work = self._todo.popleft() if self._todo else None
            now = self._runtime.monotonic()
            if isinstance(work, GrantedBlock):
                self.block = RunningBlock(work, now, self._seal)
            else:
                self.begun = None if work is None else Begun(work, now)
            return work

    def begin(self, member: GrantedMember) -> None:
        """A member of the running block runs by itself."""
        with self.lock:
            self.begun = Begun(member, self._runtime.monotonic())

    def has_done(self) -> None:
        """What ran has ended, and is reported by others."""
        with self.lock:
            self.block = self.begun = None

    def forget(self, gone: set[int]) -> None:
        """These members run elsewhere."""
        with self.lock:
            self.gone |= gone
            self._todo = deque(work for work in self._todo if isinstance(work, GrantedBlock) or work.index not in gone)

    def leases(self) -> list[Lease | BlockLease]:
        with self.lock:
            held: list[Work] = [*self._todo, *(work for work in self._releasing if not isinstance(work, range))]
            if self.block is not None:
                held.append(self.block.block)
            elif self.begun is not None:
                held.append(self.begun.member)
        return [lease_of(self._seal.run_id, work, self.owner) for work in held]

    # -- going back ------------------------------------------------------------------------------------------------

    def release_unstarted(self) -> None:
        """Hold what has not begun only until it is released."""
        with self.lock:
            if self.block is not None and self.block.has_more:
                self._releasing.append(self.block.cut())
            self._releasing += self._todo
            self._todo.clear()

    def releasing(self) -> list[Work | range]:
        with self.lock:
            return list(self._releasing)

    def has_released(self, released: list[Work | range]) -> None:
        """These do not belong to this owner any more."""
        gone = {id(each) for each in released}
        with self.lock:
            self._releasing = [each for each in self._releasing if id(each) not in gone]

    def give_up(self) -> list[int]:
        """Hold nothing any more; returns the members that have not ended."""
        with self.lock:
            held = [index for work in self._todo for index in indices_of_work(work)]
            if self.block is not None:
                held += range(self.block.at, self.block.stop)
            elif self.begun is not None:
                held.append(self.begun.member.index)
            self._todo.clear()
            self.begun = None
            return held


def indices_of_work(work: Work | range) -> Iterator[int]:
    """The members that it stands for."""
    if isinstance(work, GrantedMember):
        return iter((work.index,))
    return iter(work if isinstance(work, range) else work.members)


def lease_of(run_id: str, work: Work, owner: str) -> Lease | BlockLease:
    if isinstance(work, GrantedBlock):
        return BlockLease(run_id, work.number, work.attempt, owner)
    return Lease(run_id, work.index, work.attempt, owner)
