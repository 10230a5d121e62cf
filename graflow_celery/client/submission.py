"""From the members of a group to a record that is open and messages that are out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from graflow.core.branches.outcome import Branch
from graflow.core.envelopes.shared_code import GroupCode
from graflow.core.handlers.group_policy import GroupExecutionPolicy
from graflow.exceptions import ConfigError, GraflowRuntimeError
from graflow.runtime import persistently
from graflow.trace.carrying import trace_context
from graflow.values.blobs import TakenBlobs
from graflow.values.plain import TAG
from graflow_celery.broker.messages import FEW
from graflow_celery.broker.paces import kind_of
from graflow_celery.client.around import patiently, run_around
from graflow_celery.client.columns import Columns, ColumnWriter, stride_of
from graflow_celery.client.helper import Helper
from graflow_celery.client.terms import (
    attempts_of,
    celery_options,
    enough_of,
    facts_shown,
    is_fail_fast,
    own_wait,
    terms_of,
)
from graflow_celery.deployment import Deployment
from graflow_celery.record import MAX_MEMBERS, GroupSpec, Opened, RecordedOutcome, manifest_digest
from graflow_celery.settings import GroupOptions
from graflow_celery.sweeper import sweep
from graflow_celery.wire.envelope import Envelope, SharedPayload
from graflow_celery.wire.payload import dump, pack

_OF_ONE_TIME: Final = frozenset({"code", "signature"})
_PICKLED: Final = b'"$t":"pickle"'


@dataclass(frozen=True)
class Submission:
    """A group as it is written: specification, envelopes, what they share, options, long arguments.

    Attributes:
        kind: What its members run, as `deployment.paces` knows it.
        slots: Members that run at once as far as one knows; one where that is quicker than another message.
    """

    spec: GroupSpec
    manifest: list[bytes]
    shared: dict[str, bytes]
    options: GroupOptions
    kind: str
    slots: int
    blobs: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def weights(self) -> list[int] | None:
        """Bytes of each envelope, where any is heavy enough to matter."""
        sizes = [] if self.spec.stride else [len(envelope) for envelope in self.manifest]
        return sizes if sizes and max(sizes) > 4096 else None


def prepare(
    deployment: Deployment,
    options: GroupOptions,
    *,
    run_id: str,
    group_id: str,
    branches: Sequence[Branch] | Columns,
    shared: SharedPayload,
    policy: GroupExecutionPolicy,
    then: object = None,
    blobs: TakenBlobs | None = None,
    stride: int | None = None,
) -> Submission:
    """Write all members, in chunks where they can travel in columns; `blobs` are the long values that `shared` names.

    The digest does not depend on the chunks, which are of `stride` members (0: there are none) where that is given.

    Raises:
        TaskResolutionError: When a task can be sent neither by reference nor by value.
        PayloadError: When an argument cannot be kept, or is over its limit.
        ConfigError: When there are too many members.
    """
    n = len(branches)
    _check_size(group_id, n)
    kind = _kind(branches)
    slots = 1 if deployment.paces.is_brief(kind, n) else patiently(deployment, lambda: _slots(deployment))
    written = _written(deployment, options, slots, run_id, group_id, branches, shared, policy, then, blobs, stride)
    members, ids = written.members, written.ids
    spec = GroupSpec(
        run_id=run_id,
        group_id=group_id,
        n=n,
        digest=written.digest,
        **terms_of(policy, n, ids),
        lease=options.lease,
        queue_wait=options.queue_wait,
        max_attempts=options.max_attempts,
        attempts=attempts_of(members, n, then),
        max_in_flight=options.max_in_flight,
        result_ttl=options.result_ttl,
        timeout=options.timeout,
        queue=deployment.settings.queue_name,
        options={**celery_options(members, n, then), "batch_size": options.batch_size},
        continuation=then is not None,
        parent_run=run_around(),
        meta=facts_shown(shared.workflow_name, group_id, members, ids, then) | own_wait(options) | trace_context(),
        stride=written.stride,
    )
    return Submission(spec, written.manifest, written.payloads, options, kind, slots, written.blobs)


def _slots(deployment: Deployment) -> int:
    deployment.check()
    with deployment.errors():
        return deployment.slots()


def _kind(branches: Sequence[Branch] | Columns) -> str:
    """What all members of a small group run; empty where they differ, or have branches."""
    if len(branches) > FEW:
        return ""
    if isinstance(branches, Columns):
        return kind_of([branches.members.prototype])
    return kind_of([branch.member for branch in branches]) if all(len(x.tasks) == 1 for x in branches) else ""


@dataclass(frozen=True)
class _Written:
    """The members of a group as they are written.

    Attributes:
        members: What tells of their names and options: each of them, or one that stands for all.
        ids: Their ids.
    """

    members: Sequence[Any]
    ids: Sequence[str]
    manifest: list[bytes]
    payloads: dict[str, bytes]
    blobs: Mapping[str, bytes]
    digest: str
    stride: int = 0


def _written(
    deployment: Deployment,
    options: GroupOptions,
    slots: int,
    run_id: str,
    group_id: str,
    branches: Sequence[Branch] | Columns,
    shared: SharedPayload,
    policy: GroupExecutionPolicy,
    then: object,
    blobs: TakenBlobs | None,
    stride: int | None,
) -> _Written:
    resolver, keys = deployment.sending_resolver(), deployment.keys
    name, content = shared.pack()
    seeds = {} if blobs is None else blobs.contents
    code, digest = GroupCode(keys, (run_id, group_id)), None
    if isinstance(branches, Columns):
        if stride is None:
            is_apart = enough_of(policy) or is_fail_fast(policy) or deployment.runs_eagerly
            stride = 0 if is_apart else stride_of(len(branches), slots, options)
        writer = ColumnWriter(resolver, code, keys, run_id=run_id, group_id=group_id, shared=name, content=content)
        chunks, members = writer.write(branches.members, stride), branches.members
        if chunks is not None:
            last = () if then is None else (_continuation(resolver, code, run_id, group_id, len(members), then, name),)
            bodies = [dump(_identity_of(chunks.task)), chunks.digest.encode(), *map(_body, last)]
            digest = manifest_digest(bodies, {"": dump(_without_pickles(shared.body()))})
            if chunks.stride:
                manifest = [*chunks.entries, *(envelope.pack(keys) for envelope in last)]
                payloads, contents = {name: content, **_packed_code(code, group_id)}, {**seeds, **code.blobs.contents}
                return _Written([members.prototype], members.ids, manifest, payloads, contents, digest, chunks.stride)
        branches, code = branches.branches(), GroupCode(keys, (run_id, group_id))
    envelopes = [_envelope(resolver, code, run_id, group_id, branch, name) for branch in branches]
    if then is not None:
        envelopes.append(_continuation(resolver, code, run_id, group_id, len(branches), then, name))
    manifest = [envelope.pack(keys) for envelope in envelopes]
    payloads, contents = {name: content, **_packed_code(code, group_id)}, {**seeds, **code.blobs.contents}
    singles = [branch.member for branch in branches]
    ids = [member.task_id for member in singles]
    digest = digest or _digest(envelopes, manifest, payloads, shared, code)
    return _Written(singles, ids, manifest, payloads, contents, digest)


def _check_size(group_id: str, members: int) -> None:
    if members > MAX_MEMBERS:
        raise ConfigError(f"Group '{group_id}' has {members} members; the limit is {MAX_MEMBERS}")


def _packed_code(code: GroupCode, group_id: str) -> dict[str, bytes]:
    what = f"the code of group '{group_id}'"
    return {name: pack(pickled, what=what) for name, pickled in code.contents.items()}


def open_and_publish(
    deployment: Deployment,
    submission: Submission,
    indices: Sequence[int] | None = None,
    *,
    known: Sequence[RecordedOutcome] = (),
    before_publishing: Callable[[], None] | None = None,
) -> Opened:
    """Write the record, then send the members; a run that is there already is attached to.

    Args:
        deployment: Where.
        submission: What.
        indices: The members to send; all of them when None.
        known: Outcomes that are known from elsewhere, so that their members do not run (again).
        before_publishing: What must be in place before any member can run.

    Raises:
        RecordUnreachableError: When the record cannot be reached; nothing is published then.
        GroupConflictError: When the run id is taken by a group with other content.
        RecordFullError: When the Redis of record is out of memory.
    """
    deployment.check()
    spec, record = submission.spec, deployment.record
    with deployment.errors():
        opened = record.open(spec, submission.manifest, submission.shared, submission.blobs)
        if known and not opened.state.is_final:
            record.restore(spec.run_id, known)
        if opened.created:
            if before_publishing is not None:
                before_publishing()
            wanted = range(spec.n) if indices is None else indices
            _publish(deployment, submission, wanted)
            if deployment.runs_eagerly:
                run_here(deployment, spec, wanted)
            record.tell_published(spec.run_id)
        elif not (opened.published or opened.state.is_final):
            if before_publishing is not None:
                before_publishing()
            record.expedite(spec.run_id)
            sweep(deployment, submission.options.sweep_interval)
    return opened


def _publish(deployment: Deployment, submission: Submission, wanted: Sequence[int]) -> None:
    spec, then = submission.spec, submission.spec.continuation
    slots, weights = submission.slots, submission.weights
    try:
        deployment.publisher.publish(spec, wanted, slots=slots, weights=weights, then=then)
    except GraflowRuntimeError:
        # Nothing is half-submitted: messages that did go out find no members to claim.
        persistently(
            *(deployment.runtime, lambda: deployment.record.delete(spec.run_id)), patience=deployment.patience.last
        )
        raise
    if then and not wanted:
        deployment.publisher.publish_continuation(spec)


def run_here(deployment: Deployment, spec: GroupSpec, wanted: Sequence[int]) -> None:
    """Run what else would be sent, one member after another; what is to be retried later is left to whoever waits."""
    helper, others = Helper(deployment, spec), set(range(spec.n)) - set(wanted)
    while helper.run_one(others):
        pass
    if spec.continuation:
        helper.run_continuation()


def _envelope(resolver: Any, code: GroupCode, run_id: str, group_id: str, branch: Branch, shared: str) -> Envelope:
    binding = (run_id, group_id, str(branch.index))
    tasks = [resolver.serialize_best(task, bound_to=binding, code=code).to_dict() for task in branch.tasks.values()]
    return Envelope(
        run_id=run_id,
        group_id=group_id,
        index=branch.index,
        task_id=branch.member.task_id,
        shared=shared,
        tasks=tasks,
        edges=branch.edges,
        cycle_counts=branch.cycle_counts,
    )


def _continuation(
    resolver: Any, code: GroupCode, run_id: str, group_id: str, index: int, then: Any, shared: str
) -> Envelope:
    envelope = resolver.serialize_best(then, bound_to=(run_id, group_id, str(index)), code=code)
    return Envelope(
        run_id=run_id,
        group_id=group_id,
        index=index,
        task_id=then.task_id,
        shared=shared,
        tasks=[envelope.to_dict()],
    )


def _digest(
    envelopes: Sequence[Envelope],
    manifest: Sequence[bytes],
    payloads: Mapping[str, bytes],
    shared: SharedPayload,
    code: GroupCode,
) -> str:
    """What tells this group from another one under its run id; pickles count by what they hold, not by their bytes."""
    common = [payloads[name] for name in {envelope.shared for envelope in envelopes}]
    if not (code.contents or any(_PICKLED in packed for packed in (*manifest, *common))):
        return manifest_digest(manifest, dict.fromkeys(payloads, b""))  # their names are hashes already
    bodies = [_body(envelope) for envelope in envelopes]
    return manifest_digest(bodies, {"": dump(_without_pickles(shared.body()))})


def _body(envelope: Envelope) -> bytes:
    """An envelope without what differs each time that it is made."""
    return dump({**vars(envelope), "shared": "", "tasks": [_identity_of(task) for task in envelope.tasks]})


def _identity_of(task: Mapping[str, Any]) -> dict[str, Any]:
    """The envelope of a task without what differs each time that it is made."""
    payload = {key: item for key, item in task["payload"].items() if key not in _OF_ONE_TIME}
    if "members" in payload:
        payload["members"] = [_identity_of(member) for member in payload["members"]]
        return {**task, "payload": payload}
    return {**task, "payload": _without_pickles(payload)}


def _without_pickles(data: object) -> Any:
    """Typed JSON with fingerprints in the places of pickles; nothing that a user wrote has the tag."""
    if isinstance(data, Mapping):
        if data.get(TAG) == "pickle":
            return {TAG: "pickle", "v": data["v"][-1]}
        return {key: _without_pickles(item) for key, item in data.items()}
    return [_without_pickles(item) for item in data] if isinstance(data, list | tuple) else data
