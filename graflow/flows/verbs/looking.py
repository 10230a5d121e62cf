"""What may be seen of recorded flows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final, TypeVar

from pydantic import TypeAdapter

from graflow.configuration.project import project_settings
from graflow.durations import MOST
from graflow.encoding.errors_as_data import ErrorData, rebuild_error
from graflow.encoding.typed_json import from_jsonable
from graflow.exceptions import ConfigError, FlowConflictError
from graflow.flows.recording.flow_graph import FlowGraph
from graflow.flows.running.driving import Driver
from graflow.flows.verbs.explaining import StepExplanation, explained
from graflow.flows.verbs.stats import FlowStats, stats_of
from graflow.given import page_size
from graflow.secret import masked
from graflow.state.changes import Journaled
from graflow.state.models import Attempt, FlowPage, FlowState, FlowStepState, MemberPage
from graflow.state.statuses import FlowStatus, StepStatus
from graflow.state.store import StateStore

_LONGEST_PAGE: Final = 200
_ATTEMPTS: Final = TypeAdapter(list[Attempt])

_Status = TypeVar("_Status", bound=StrEnum)


class Looking:
    """The part of a runner that reads: it runs nothing.

    Attributes:
        store: Where flows are kept.
    """

    store: StateStore
    _driver: Driver

    def result(self, flow_id: str) -> Any:
        """The value of a flow that has completed, as its last step returned it.

        Raises:
            FlowNotFoundError: When there is none of this id.
            FlowConflictError: When it has not completed.
            Exception: What it failed with.
        """
        record = self._driver.record(flow_id)
        if record.status is FlowStatus.COMPLETED:
            return from_jsonable(record.fields.get("outputs"))
        error = record.fields.get("error_data")
        if record.status is FlowStatus.FAILED and error:
            raise rebuild_error(ErrorData.from_dict(error))
        raise FlowConflictError(f"Flow '{flow_id}' has no result: it is {record.status.value}")

    def get_flow_state(self, flow_id: str) -> FlowState:
        """A flow with its steps; values under keys that look secret are masked.

        Raises:
            FlowNotFoundError: When there is none of this id.
        """
        return self._shown(self._driver.state(flow_id))

    def get_flow_graph(self, flow_id: str) -> FlowGraph:
        """The graph of a flow: planned steps and those that steps have added.

        A flow that has not begun has the graph that its function builds now, where that is known here and its inputs
        still fit, else none.

        Raises:
            FlowNotFoundError: When there is none of this id.
        """
        return FlowGraph.of(self._driver.planned(flow_id), self._driver.state(flow_id).steps)

    def list_flows(
        self,
        flow_name: str | None = None,
        status: FlowStatus | str | Sequence[FlowStatus | str] | None = None,
        search: str | None = None,
        cursor: str | None = None,
        limit: int = 50,
        *,
        since: float | None = None,
    ) -> FlowPage:
        """Flows, newest first, without their steps.

        Args:
            flow_name: Of this name.
            status: In this state, or one of these.
            search: With this text in id, name or inputs.
            cursor: `next_cursor` of the page before.
            limit: At most so many, 200 at most.
            since: Made at this time, seconds since the epoch, or later.
        """
        if not isinstance(search, str | None):
            raise ConfigError(f"search must be text, not {search!r}")
        page = self.store.list_flows(
            flow_name=flow_name,
            status=_statuses(FlowStatus, status),
            search=search,
            since=since,
            cursor=cursor,
            limit=page_size(limit, _LONGEST_PAGE),
        )
        return FlowPage([self._shown(state) for state in page], page.next_cursor)

    def list_members(
        self,
        flow_id: str,
        step: str,
        *,
        visit: int | None = None,
        status: StepStatus | str | Sequence[StepStatus | str] | None = None,
        cursor: str | None = None,
        limit: int = 100,
    ) -> MemberPage:
        """Members of a group of a flow, in order; of its last visit when None.

        Raises:
            FlowNotFoundError: When there is no such flow.
        """
        return self.store.list_members(
            flow_id,
            step,
            visit=visit,
            status=_statuses(StepStatus, status),
            cursor=cursor,
            limit=page_size(limit, MOST),
        )

    def events(self, flow_id: str, after: int = 0, limit: int | None = None) -> list[Journaled]:
        """Lines of the journal of a flow behind `after`, in order."""
        return self.store.events(flow_id, after, limit)

    def stats(self, flow_name: str | None = None, since: datetime | timedelta | None = None) -> FlowStats:
        """What came of flows: ends, times, retries, members; each figure with how many things it is about.

        Args:
            flow_name: Of this name; of all names when None.
            since: Made at this time (with a time zone) or later, or so long ago at most; ever when None.

        Raises:
            ConfigError: When `since` is no such time.
        """
        if not isinstance(flow_name, str | None):
            raise ConfigError(f"flow_name must be the name of a flow, or None for all, not {flow_name!r}")
        now = datetime.fromtimestamp(self._driver.home.runtime.time(), UTC)
        if isinstance(since, timedelta):
            since = now - since
        if since is not None and (not isinstance(since, datetime) or since.tzinfo is None):
            raise ConfigError(f"since is a datetime with a time zone, or a timedelta, not {since!r}")
        return stats_of(self.store, flow_name, since, now)

    def explain_step(
        self, flow_id: str, step: str, *, visit: int | None = None, index: int | None = None
    ) -> StepExplanation:
        """Why a step has its outcome: whether a kept value was given, and which part of its key was new if not.

        Args:
            flow_id: The flow.
            step: The step.
            visit: Of this visit; of the last one when None.
            index: Of this member of a group.

        Raises:
            FlowNotFoundError: When there is no such flow, step or member.
        """
        return explained(self.store, self.get_flow_state(flow_id), step, visit, index)

    def clear_cache(self, name: str | None = None) -> int:
        """Forget the values that are kept; returns how many.

        Args:
            name: Of this flow or task (by the id in its `@task`); of all when None.
        """
        return 0 if self.store.cache is None else self.store.cache.clear(name)

    def cleanup(self, older_than: float | timedelta | None = None, *, keep: int | None = None) -> int:
        """Remove flows that have ended, with everything that belongs to them, and kept values that have expired.

        Returns how many flows.

        Args:
            older_than: Seconds since their end; `persistence.retention` of `config.yaml` (30 days) when None.
            keep: The oldest beyond so many are removed as well; `persistence.max_flows` (100,000) when None.

        Raises:
            ConfigError: For less than no time, or than no flows.
        """
        kept = project_settings().persistence
        age = kept.retention if older_than is None else older_than
        seconds = age.total_seconds() if isinstance(age, timedelta) else age
        most = kept.max_flows if keep is None else keep
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds >= 0:
            raise ConfigError(f"older_than= is seconds from 0, or a timedelta, not {older_than!r}")
        if isinstance(most, bool) or not isinstance(most, int) or most < 0:
            raise ConfigError(f"keep= is a count of flows from 0, not {keep!r}")
        return self.store.cleanup(older_than=seconds, keep=most, at=self._driver.home.runtime.time())

    def _shown(self, state: FlowState) -> FlowState:
        state.inputs = masked(state.inputs)
        for row in state.steps:
            if row.inputs is not None:
                shown = masked(row.inputs)
                if shown != row.inputs:
                    row.inputs, row.input_digest = shown, None  # by which a short secret could be guessed
        # The row of a step that has had one attempt says all there is to say of that; one call makes all of them.
        once = [row for row in state.steps if row.attempts == 1 and not row.attempt_history]
        only = _ATTEMPTS.validate_python([_only_attempt(row) for row in once])
        for row, attempt in zip(once, only, strict=True):
            row.attempt_history.append(attempt)
        return state


def _only_attempt(row: FlowStepState) -> dict[str, Any]:
    return {
        "number": 1,
        "started_at": row.started_at,
        "ended_at": row.completed_at,
        "worker": row.worker,
        "error": row.error,
    }


def _statuses(kind: type[_Status], given: str | Sequence[str] | None) -> list[_Status]:
    """The states of a question.

    Raises:
        ConfigError: For what is none.
    """
    named = [] if given is None else [given] if isinstance(given, str) else given
    try:
        return [kind(status) for status in named]
    except (TypeError, ValueError):
        known = ", ".join(status.value for status in kind)
        raise ConfigError(f"A status is one of {known}, not {given!r}") from None
