"""Outcomes of a run as a reader has seen them, those of blocks as pages until somebody asks for one of them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from graflow_celery.record import MemberState, RecordedBlock, RecordedOutcome
from graflow_celery.wire.pages import Page
from graflow_celery.wire.seal import RunSeal


class Arrived(Sequence[RecordedOutcome]):
    """Outcomes in the order of their coming.

    Args:
        parts: Single ones, and pages of them.
        count: How many they are.
    """

    def __init__(self, parts: Sequence[RecordedOutcome | Page], count: int) -> None:
        self.parts = parts
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[RecordedOutcome]:
        for part in self.parts:
            if isinstance(part, Page):
                yield from part.outcomes()
                part.close()
            else:
                yield part

    def __getitem__(self, at: int | slice) -> list[RecordedOutcome] | RecordedOutcome:  # type: ignore[override]
        return list(self)[at]


class Seen(Mapping[int, RecordedOutcome]):
    """Outcomes by index; whoever holds the reader's lock may add to them.

    Args:
        seal: Opens the pages.
        stride: Members of a block.
    """

    def __init__(self, seal: RunSeal, stride: int) -> None:
        self._seal = seal
        self._stride = stride
        self._single: dict[int, RecordedOutcome] = {}
        self._pages: dict[int, Page] = {}
        self._in_pages = 0
        self._open: Page | None = None
        self._parts: list[RecordedOutcome | Page] = []
        self._counts: list[int] = []  # how many had come with each of these
        self.arrived = 0

    def add(self, outcomes: Sequence[RecordedOutcome], blocks: Sequence[RecordedBlock]) -> None:
        """Take in what was not seen before."""
        for outcome in outcomes:
            if outcome.index not in self:
                self._single[outcome.index] = outcome
                self._note(outcome, 1)
        for block in blocks:
            self._add_page(Page(block, self._seal))

    def _add_page(self, page: Page) -> None:
        number = page.block.number
        known = self._pages.get(number)
        if known is None:
            self._note(page, len(page.members))
        else:  # members of it were forgotten
            fresh = [index for index in page.members if index not in self]
            for index in fresh:
                self._note(page.outcome(index), 1)
            if not fresh:
                return
            self._in_pages -= len(known.members)
        self._pages[number] = page
        self._in_pages += len(page.members)

    def _note(self, part: RecordedOutcome | Page, count: int) -> None:
        self.arrived += count
        self._parts.append(part)
        self._counts.append(self.arrived)

    def since(self, known: int) -> Arrived:
        """What has come after so many."""
        parts, arrived = self._parts[bisect_left(self._counts, known + 1) :], self.arrived
        return Arrived(parts, arrived - known)

    def forget_failures(self, continuation: int) -> None:
        """Let go of what may run again: of every member that did not succeed, and of the continuation."""
        for index, outcome in list(self._single.items()):
            if outcome.state is not MemberState.SUCCEEDED or index == continuation:
                del self._single[index]
        for number, page in list(self._pages.items()):
            if page.may_have_failures and (failures := page.failures):
                left = Page(replace(page.block, again=page.block.again | failures.keys()), self._seal)
                if left.members:
                    self._pages[number] = left
                else:
                    del self._pages[number]
        self._in_pages = sum(len(page.members) for page in self._pages.values())

    @property
    def have_succeeded(self) -> bool:
        """Whether all of them have."""
        return all(outcome.state is MemberState.SUCCEEDED for outcome in self._single.values()) and not any(
            page.may_have_failures and page.failures for page in self._pages.values()
        )

    def pages_of(self, members: int) -> list[Page]:
        """The outcomes of so many members in member order, where all of them came in pages; else nothing."""
        return [page for _, page in sorted(self._pages.items())] if self._in_pages == members else []

    def _page(self, index: object) -> Page | None:
        if not self._pages or not isinstance(index, int):
            return None
        page = self._pages.get(index // self._stride)
        return page if page is not None and page.holds(index) else None

    def __contains__(self, index: object) -> bool:
        return index in self._single or self._page(index) is not None

    def __getitem__(self, index: int) -> RecordedOutcome:
        page = self._page(index)
        if page is None:
            return self._single[index]
        if self._open is not None and self._open is not page:
            self._open.close()
        self._open = page
        return page.outcome(index)

    def __len__(self) -> int:
        return len(self._single) + self._in_pages

    def __iter__(self) -> Iterator[int]:
        yield from self._single
        for page in self._pages.values():
            yield from page.members
