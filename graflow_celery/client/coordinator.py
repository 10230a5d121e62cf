"""`RedisCoordinator`: the members of a workflow's group run on Celery workers."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any, Final

from graflow.coordination.coordinator import TaskCoordinator
from graflow.coordination.direct_coordinator import DirectCoordinator
from graflow.core.branches.given import given_outcome
from graflow.core.branches.outcome import Branch, BranchOutcome
from graflow.core.bulk.garbage import no_collections
from graflow.core.handlers.group_policy import GroupExecutionPolicy
from graflow.core.memberships import is_group
from graflow.core.nodes.columns import MappedMembers
from graflow.core.remote.branch import surroundings_of
from graflow.exceptions import GraflowError, GroupConflictError, GroupNotFoundError, ParallelGroupError
from graflow.flows.recording.stopping import FlowStopped, Stop
from graflow.protocols import GroupContext, Unit
from graflow.redis.config import CONNECTION_KEYS, connection_of, normalize_redis_config
from graflow.text.shown import get_logger
from graflow.trace.notify import tell, tell_members
from graflow.values.blobs import TakenBlobs
from graflow_celery.client.around import patiently
from graflow_celery.client.columns import Columns
from graflow_celery.client.confinement import check_confined, ids_inside
from graflow_celery.client.group_channel import GroupChannel, as_shared_fields, reaches_context
from graflow_celery.client.outcomes import branch_outcome, group_timeout, name_run
from graflow_celery.client.run_owner import claim_run
from graflow_celery.client.submission import Submission, open_and_publish, prepare
from graflow_celery.client.waiting.sighting import Sighting
from graflow_celery.client.waiting.waiter import Waiter
from graflow_celery.deployment import Deployment, connected
from graflow_celery.record import GroupHeader, GroupSpec, GroupState, MemberState, Opened, RecordedOutcome
from graflow_celery.settings import OWN_KEYS, GroupOptions, Settings
from graflow_celery.sweeper import sweep
from graflow_celery.wire.envelope import SharedPayload
from graflow_celery.wire.outcomes import pack_outcome, result_pickles, sealed
from graflow_celery.wire.pages import Page, recorded_outcomes
from graflow_celery.wire.seal import RunSeal
from graflow_celery.worker.member import state_of
from graflow_celery.worker.running import holding_slot, running_member

_log = get_logger(__name__)
# What else there is belongs to a deployment, and workers know their own.
_PASSED_ON: Final = OWN_KEYS - {"broker_url", "key_prefix", "signing_key"}
_TRIES: Final = 1000  # runs of one group, each after an earlier one that failed


def create_coordinator(config: Mapping[str, Any]) -> TaskCoordinator:
    """The factory behind the entry point `redis` of `graflow.coordinators`; unknown keys of `config` are ignored.

    Where Celery is set to run tasks at once (`task_always_eager`), members run here, one by one, without a server.
    """
    deployment, options = connected(normalize_redis_config(config), strict=False)
    if running_member.get() is None and deployment.runs_eagerly:
        return DirectCoordinator(options.timeout)
    return RedisCoordinator(config, strict=False)


def tries_of(run_key: str) -> Iterator[str]:
    """The ids of the runs of one group, each after an earlier one that failed."""
    yield run_key
    yield from (f"{run_key}~{number}" for number in range(1, _TRIES))


class RedisCoordinator(TaskCoordinator):
    """Runs the members of a group on Celery workers and brings back what they did.

    Args:
        backend_config: Settings; those of the environment and `celeryconfig.py` where it says nothing.
        strict: Whether unknown settings are refused.
        deployment: What is connected already; that of the settings when None.
    """

    def __init__(
        self,
        backend_config: Mapping[str, Any] | Settings | None = None,
        *,
        strict: bool = True,
        deployment: Deployment | None = None,
    ) -> None:
        if not isinstance(backend_config, Settings):
            backend_config = _on_a_worker(normalize_redis_config(backend_config))
        if deployment is None:
            self._deployment, self._options = connected(backend_config, strict=strict)
        else:
            self._deployment, self._options = deployment, Settings.load(backend_config, strict=strict).options

    def execute_group(self, group_id: str, tasks: Sequence[Unit], execution_context: GroupContext, policy: Any) -> None:
        claim_run(self._deployment, execution_context, self._options)
        run = execution_context.open_group(group_id, tasks)
        run.recall()
        run_id = _RemoteGroup(self._deployment, run, self._options, policy).finish() if run.pending() else None
        try:
            run.close(policy)
        except ParallelGroupError as error:
            if run_id is not None:
                name_run(error, run_id)
            raise

    def resume(self, execution_context: GroupContext) -> None:
        claim_run(self._deployment, execution_context, self._options)

    def cancel(self, run_key: str, reason: str) -> bool:
        try:
            state = self._deployment.record.cancel(run_key, reason)
        except GroupNotFoundError:
            return False
        return state is not None


def _on_a_worker(config: dict[str, Any]) -> dict[str, Any]:
    """Inside a member the worker's own servers are meant, unless the group names others."""
    around = running_member.get()
    if around is None:
        return config
    settings = around.deployment.settings
    own = settings.model_dump(include={"key_prefix", "queue", "broker_url", "signing_key"}, exclude_none=True)
    named = {key: value for key, value in config.items() if key in CONNECTION_KEYS}
    if not named or _place_of(named) == _place_of(settings.connection):
        # Secrets stay where the group was made, so the worker's own connection to that server counts.
        return {**own, **settings.connection, **{key: config[key] for key in config.keys() - named.keys()}}
    return {**own, **config}


def _place_of(connection: Mapping[str, Any]) -> tuple[Any, ...]:
    parts = connection_of(connection)
    return tuple(parts.get(key) for key in ("host", "port", "unix_socket_path", "sentinels", "master_name", "db"))


class _RemoteGroup:
    """One execution of one group on workers."""

    def __init__(self, deployment: Deployment, run: Any, options: GroupOptions, policy: GroupExecutionPolicy) -> None:
        self._deployment = deployment
        self._options = options
        self._run = run
        self._policy = policy
        self._columns: MappedMembers | None = run.columns
        self._ids: Sequence[str] = run.member_ids if self._columns is None else self._columns.ids
        self._tasks = self._representatives()
        self._channel = GroupChannel(*(deployment, run.context, run.run_key, self._tasks), kept=options.result_ttl)
        self._channel.plan_gaps()

    @cached_property
    def _branches(self) -> list[Branch]:
        return [self._run.branch(index) for index in range(len(self._run.members))]

    def _representatives(self) -> list[Any]:
        """The tasks of all branches; of members in columns one, where the others differ in an argument alone."""
        columns = self._columns
        if columns is None:
            return [task for branch in self._branches for task in branch.tasks.values()]
        return [columns.sample()] if columns.parameter is not None else columns.made()

    def _ids_of_branch(self, index: int) -> Container[str]:
        if self._columns is not None:
            return (self._ids[index],)
        tasks = self._branches[index].tasks
        return tasks if not any(map(is_group, tasks.values())) else {*tasks, *ids_inside(tasks.values())}

    @cached_property
    def _members(self) -> frozenset[str]:
        return frozenset(self._ids)

    def _is_other(self, task_id: str, own: Container[str]) -> bool:
        """Whether an id is that of another member, or of a task of the runs around that this run knows nothing of."""
        if task_id in own:
            return False
        context = self._run.context
        return task_id in self._members or (task_id in context.elsewhere and not context.graph.has_node(task_id))

    def finish(self) -> str:
        """Have every pending member run, and hand its outcome to the run as it comes; returns the id of its run.

        Raises:
            GroupTimeoutError: When the time of the group is over; open members are cancelled.
        """
        submission, epoch = self._open()
        run_id = submission.spec.run_id
        helping = running_member.get() is not None or holding_slot.get()
        check = self._run.context.holdings.check
        waiter = Waiter(
            *(self._deployment, submission.spec, self._options, submission),
            sighting=Sighting(self._deployment, run_id, epoch, submission.spec.result_ttl),
            is_durable=self._run.context.root.recording is not None,
            before_publishing=self._channel.fill,
            helping=helping,
            check=check,
        )
        is_over = False
        try:
            for stored in waiter.until(None):
                check()
                self._deliver(stored.parts, submission)
                if self._run.canceled:
                    why = "a member cancelled the workflow"
                    patiently(self._deployment, partial(self._deployment.record.cancel, run_id, why))
                    break
            is_over = True
        except FlowStopped as stopped:
            if stopped.why.cancels:
                why = "its flow was cancelled" if stopped.why is Stop.CANCEL else "its flow took too long"
                self._deployment.record.cancel(run_id, why)
                stopped.reached.append(run_id)
            raise
        except KeyboardInterrupt:
            if self._run.context.holdings.error is None:
                self._deployment.record.cancel(run_id, "interrupted")
            raise
        finally:
            if not is_over:  # the shared channel must not stay, after an interruption as well
                self._channel.discard()
        self._channel.merge_back()
        if waiter.reading.is_overdue:
            raise group_timeout(self._run.group_id, submission.spec, waiter.seen)
        return run_id

    def _deliver(self, arrived: Iterable[RecordedOutcome | Page], submission: Submission) -> None:
        with no_collections():
            for part in arrived:
                if isinstance(part, Page):
                    self._deliver_page(part, submission)
                else:
                    self._deliver_one(part, submission)

    def _deliver_page(self, page: Page, submission: Submission) -> None:
        ids, worker, attempts = self._ids, page.block.worker, page.block.attempts
        context, row = self._run.context, page.row(ids)
        if row is not None and self._columns is not None and self._run.record_row(row, worker, attempts):
            tell_members(context.tracer, self._run.group_id, row.ids, context)
            self._note_pace(page, submission)
            return
        for index, value, seconds, ended in page.given():
            self._record(index, given_outcome(ids[index], value, seconds, ended), worker, attempts)
        for stored in page.others():
            self._deliver_one(stored, submission)
        self._note_pace(page, submission)

    def _note_pace(self, page: Page, submission: Submission) -> None:
        if submission.kind:
            self._deployment.paces.note(submission.kind, page.durations)
        page.close()

    def _deliver_one(self, stored: RecordedOutcome, submission: Submission) -> None:
        index, ids, context = stored.index, self._ids, self._run.context
        if index < len(ids) and not (self._run.canceled and stored.state is MemberState.CANCELLED):
            seal = RunSeal(self._deployment.keys, submission.spec)
            own = self._ids_of_branch(index)
            outcome = branch_outcome(stored, ids[index], submission.spec, seal)
            outcome = outcome.without_others(partial(self._is_other, own=own))
            if any(write.ttl is not None for write in outcome.writes):
                # It may have ended long before this process came to read it.
                now = patiently(self._deployment, self._deployment.record.now)
                outcome.ended -= max(now - stored.finished_at, 0.0)
            check_confined(outcome, own, context.graph, context.elsewhere)
            self._record(index, outcome, stored.worker, stored.attempts)
            self._deployment.paces.note(submission.kind, [outcome.duration])

    def _record(self, index: int, outcome: BranchOutcome, worker: str | None, attempts: int) -> None:
        if index in self._run.recalled:
            return  # known before it was sent
        context = self._run.context
        self._run.record(index, outcome, worker, attempts)
        completed = {*outcome.completed}
        ran = {task_id: task_id in completed for task_id, _ in outcome.results}
        tell(context.tracer.on_member_end, self._run.group_id, outcome.task_id, context, error=outcome.error, ran=ran)

    def _open(self) -> tuple[Submission, str]:
        """Open the run, or go on with the one that an earlier process opened; a failed try gets a successor.

        Returns:
            What was submitted, and the epoch of the data set that the run is in.
        """
        for run_id in tries_of(self._run.run_key):
            submission = self._prepare(run_id)
            pending = self._run.pending()
            try:
                opened = self._open_and_publish(submission, pending)
            except GroupConflictError:
                # The key is this group's alone: its envelopes came out differently in another process.
                submission, opened = self._join(run_id)
            if opened.created:
                return submission, opened.epoch
            if opened.stride != submission.spec.stride:
                submission = self._prepare(run_id, opened.stride)
            if opened.state in {GroupState.OPENING, GroupState.RUNNING, GroupState.DONE}:
                self._channel.attach()
                return submission, opened.epoch
            self._keep_successes(submission)
        raise GraflowError(f"Group '{self._run.group_id}' has failed {_TRIES} times")

    def _open_and_publish(self, submission: Submission, pending: Sequence[int]) -> Opened:
        def call() -> Opened:
            return open_and_publish(
                self._deployment,
                submission,
                pending,
                known=self._finished(submission.spec),
                before_publishing=self._channel.fill,
            )

        return patiently(self._deployment, call)

    def _join(self, run_id: str) -> tuple[Submission, Opened]:
        """Go on with a run as it stands, with the specification to which its outcomes are bound."""
        header = patiently(self._deployment, lambda: self._expedite(run_id))
        spec = header.spec
        opened = Opened(
            created=False, state=header.state, epoch=header.epoch, published=header.published, stride=spec.stride
        )
        return replace(self._prepare(run_id, spec.stride), spec=spec), opened

    def _expedite(self, run_id: str) -> GroupHeader:
        """A process that died while it published leaves members that nobody would send before their queue wait.

        Returns how the run stands after that.
        """
        record = self._deployment.record
        header = record.header(run_id)
        if not (header.published or header.state.is_final):
            self._channel.fill()
            record.expedite(run_id)
            sweep(self._deployment, self._options.sweep_interval)
            header = record.header(run_id)
        return header

    def _keep_successes(self, submission: Submission) -> None:
        """What succeeded in a try that failed does not run again in the next one."""
        record, seal = self._deployment.record, RunSeal(self._deployment.keys, submission.spec)
        recorded = patiently(self._deployment, lambda: recorded_outcomes(record, seal))
        self._deliver([outcome for outcome in recorded if outcome.state is MemberState.SUCCEEDED], submission)

    def _finished(self, spec: GroupSpec) -> list[RecordedOutcome]:
        """Members that had ended before this process took the group up."""
        finished, now = self._run._finished, self._deployment.runtime.time()
        seal = RunSeal(self._deployment.keys, spec)

        def recorded(index: int, outcome: BranchOutcome) -> RecordedOutcome:
            blobs = TakenBlobs()
            state, packed = state_of(outcome), pack_outcome(outcome, result_pickles(seal, index), blobs)
            payload = sealed(seal, index, state, packed)
            return RecordedOutcome(index, state, 1, "", now, late=False, payload=payload, blobs=blobs.contents)

        return [recorded(index, outcome) for index, outcome in sorted(finished.items())]

    def _prepare(self, run_id: str, stride: int | None = None) -> Submission:
        run, context = self._run, self._run.context
        may_jump = any(map(reaches_context, self._tasks))
        around = surroundings_of(context, run.group_id, may_jump=may_jump)
        config = {key: context.config[key] for key in sorted(_PASSED_ON & context.config.keys())}
        shared = SharedPayload(
            **vars(replace(around, config=config)),
            **as_shared_fields(self._channel),
        )
        return prepare(
            self._deployment,
            self._options,
            run_id=run_id,
            group_id=run.group_id,
            branches=self._branches if self._columns is None else Columns(self._columns, lambda: self._branches),
            shared=shared,
            policy=self._policy,
            blobs=self._channel.blobs,
            stride=stride,
        )
