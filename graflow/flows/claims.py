"""Members that workers run now: the store of flows hears of members when they end, the record of groups before that."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import partial
from typing import Any, Final
from weakref import WeakKeyDictionary

from graflow.exceptions import GraflowError
from graflow.flows.plugged import views_of
from graflow.flows.runner import FlowRunner
from graflow.state.groups.members import MemberFacts, behind_member
from graflow.state.groups.strips import Strip, move_members
from graflow.state.models import FlowState, FlowStepState, MemberPage
from graflow.state.statuses import FlowStatus, StepStatus
from graflow.state.store import StateStore
from graflow.text.shown import get_logger

_log = get_logger(__name__)

_AWAY: Final = 10.0  # seconds in which workers that could not be asked are not asked again
_RUNNING: Final = StepStatus.RUNNING.value
_PENDING: Final = StepStatus.PENDING.value
_UNENDED: Final = frozenset({_PENDING, _RUNNING})
_silent: Final[WeakKeyDictionary[StateStore, float]] = WeakKeyDictionary()

Claims = Mapping[int, Mapping[str, Any]]
"""By number what is known of members that run, as `ClusterViews.running` tells it."""


def claims_of(runner: FlowRunner, group: FlowStepState, *, with_progress: bool = False) -> Claims:
    """The members of a group that workers run now; none of a group that has ended, or has none on workers.

    Ask after the group was read: what runs then had not ended when it was read.
    """
    size = group.size or 0
    is_open = group.status is StepStatus.RUNNING and group.run_key is not None
    if not is_open or time.monotonic() < _silent.get(runner.store, 0.0):
        return {}
    try:
        found = views_of(runner).running(group.run_key or "", with_progress=with_progress)
    except GraflowError as error:
        _log.debug("Running members of %s are not known: %s", group.run_key, error)
        _silent[runner.store] = time.monotonic() + _AWAY
        return {}
    return {facts["index"]: facts for facts in found if facts["index"] < size}


def laid_over(rows: Sequence[MemberFacts], claims: Claims) -> list[MemberFacts]:
    """Rows, with those of members that run as their workers have them; what has ended since then stays so."""
    if not claims:
        return list(rows)
    return [_row(claims[row.number]) if row.number in claims and row.status == _PENDING else row for row in rows]


def counted_over(counts: Mapping[str, int], strip: Strip, size: int, claims: Claims) -> tuple[dict[str, int], Strip]:
    """Counts and strip of a group, with its members that run."""
    made = dict(counts), deepcopy(strip)
    for index in claims:
        move_members(*made, size, range(index, index + 1), _PENDING, _RUNNING)
    return made


def flow_with_claims(runner: FlowRunner, flow: FlowState) -> FlowState:
    """A flow that was just read, with the members of its open groups that workers run."""
    if flow.status is not FlowStatus.RUNNING:
        return flow
    return flow.model_copy(update={"steps": [_with_claims(runner, step) for step in flow.steps]})


def _with_claims(runner: FlowRunner, step: FlowStepState) -> FlowStepState:
    claims = claims_of(runner, step)
    if not claims:
        return step
    counts, strip = counted_over(step.counts or {}, step.strip or [], step.size or 0, claims)
    return step.model_copy(update={"counts": counts, "strip": strip})


def members_with_claims(
    runner: FlowRunner, flow: FlowState, group: FlowStepState, status: Sequence[str], cursor: str | None, limit: int
) -> MemberPage:
    """`FlowRunner.list_members` of a group of a flow that was just read, with those that workers run."""
    read = partial(runner.list_members, flow.flow_id, group.step_name, visit=group.visit, status=status, limit=limit)
    page = read(cursor=cursor)
    is_asked = not status or not _UNENDED.isdisjoint(status)
    # After the page, for the same reason: a member that it does not have, of those asked for, may have ended otherwise.
    claims = claims_of(runner, group) if is_asked and flow.status is FlowStatus.RUNNING else {}
    if not claims:
        return page
    if not status or _RUNNING in status:
        found = _with_running(page, group, claims, cursor)
    else:
        found = _waiting(page, claims)
        while len(found) < limit and page.next_cursor is not None:
            page = read(cursor=page.next_cursor)
            found += _waiting(page, claims)
    cut = found[:limit]
    return MemberPage(cut, page.next_cursor if len(cut) == len(found) else str(cut[-1].index))


def _with_running(page: MemberPage, group: FlowStepState, claims: Claims, cursor: str | None) -> list[FlowStepState]:
    """The members of a page, with those that run in its range."""
    first = behind_member(cursor)
    end = (group.size or 0) if page.next_cursor is None else behind_member(page.next_cursor)
    rows = {member.index or 0: member for member in page}
    for index in claims.keys() & range(first, end):
        if index not in rows or rows[index].status is StepStatus.PENDING:
            told = {"step_name": group.step_name, "visit": group.visit, **claims[index]}
            rows[index] = FlowStepState.model_validate(told)
    return [rows[index] for index in sorted(rows)]


def _waiting(page: MemberPage, claims: Claims) -> list[FlowStepState]:
    """The members of a page without those that run."""
    return [member for member in page if member.status is not StepStatus.PENDING or member.index not in claims]


def _row(facts: Mapping[str, Any]) -> MemberFacts:
    return MemberFacts(facts["index"], _RUNNING, facts["attempts"], facts["worker"], facts["started_at"], None, None)
