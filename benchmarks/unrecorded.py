"""Members that nobody records, as the measure of what the record costs: no claim, no lease, no first outcome that wins.

They have the same envelopes, travel in messages of the same kind and run in the same way. The envelope rides in the
message, and an outcome is a field of a hash and a step of a counter, whose last one wakes the waiter. What is lost on
the way is lost.
"""

from __future__ import annotations

import uuid
from typing import Any

from benchmarks.tasks import noop
from graflow.core.branches.outcome import Branch
from graflow.core.handlers.group_policy import StrictGroupPolicy
from graflow.seals import content_of
from graflow_celery import app
from graflow_celery.broker import transport
from graflow_celery.broker.messages import run_message
from graflow_celery.client.submission import prepare
from graflow_celery.deployment import Deployment, deployment_of
from graflow_celery.record import GrantedMember, GroupSpec, MemberReport
from graflow_celery.settings import Settings
from graflow_celery.wire.envelope import SharedPayload
from graflow_celery.wire.outcomes import unpack_outcome
from graflow_celery.worker.celery_tasks import MemberTask, deployment_for
from graflow_celery.worker.member import MemberRunner

UNRECORDED = "benchmarks.unrecorded"
AT_ONCE = 100  # messages of one round trip, as the product sends them

# Broker and worker treat these messages like those of recorded members.
transport._HINTS = (*transport._HINTS, UNRECORDED)  # type: ignore[assignment, misc]


@app.task(name=UNRECORDED, bind=True, base=MemberTask)  # type: ignore[untyped-decorator]
def run_unrecorded(
    self: Any, run_id: str, ranges: list[list[int]], version: int, envelope: str, total: int, **_hint: object
) -> None:
    [[index, _]] = ranges
    deployment = deployment_for(self.app)
    runner = MemberRunner(deployment, GroupSpec(run_id, noop.task_id, total, ""), str(self.request.hostname))
    member = GrantedMember(index, version, 0, 0, envelope.encode())
    result = runner.run(member, self.request.graflow_owner, lambda: False)
    runner.close()
    assert isinstance(result, MemberReport), "no-ops are never tried again"
    outcomes, count, done = keys_of(deployment, run_id)
    deployment.client.hset(outcomes, str(index), result.payload)
    if deployment.client.incr(count) == total:
        deployment.client.rpush(done, "1")


def keys_of(deployment: Deployment, run_id: str) -> list[str]:
    return [f"{deployment.settings.key_prefix}:unrecorded:{run_id}:{name}" for name in ("outcomes", "count", "done")]


def run_group(config: dict[str, Any], members: int, timeout: float) -> list[Any]:
    """Send no-ops one by one, wait for them, and return their values in order."""
    settings, run_id = Settings.load({**config, "batch_size": 1}), uuid.uuid4().hex
    deployment = deployment_of(settings)
    tasks = noop.map(range(members)).tasks
    submission = prepare(
        deployment,
        settings.options,
        run_id=run_id,
        group_id=noop.task_id,
        branches=[Branch(task, index, {task.task_id: task}, [], {}) for index, task in enumerate(tasks)],
        shared=SharedPayload(noop.task_id, session_id=run_id, trace_id=run_id),
        policy=StrictGroupPolicy(),
    )
    client, shared = deployment.client, deployment.record.keys.run(run_id, "shared")
    client.hset(shared, mapping=submission.shared)  # type: ignore[arg-type]
    send(deployment, submission.spec, submission.manifest)
    outcomes, count, done = keys_of(deployment, run_id)
    if client.blpop([done], timeout=timeout) is None:
        raise SystemExit("The unrecorded members have not ended in time")
    found: Any = client.hgetall(outcomes)
    client.delete(outcomes, count, done, shared)
    return [unpack_outcome(content_of(found[b"%d" % index]), task.task_id).value for index, task in enumerate(tasks)]


def send(deployment: Deployment, spec: GroupSpec, manifest: list[bytes]) -> None:
    sender, group_id = deployment.publisher.app, uuid.uuid4().hex
    with sender.producer_or_acquire() as producer, producer.batch(AT_ONCE):
        for index, envelope in enumerate(manifest):
            message = run_message(spec, [index])
            message["kwargs"] |= {"envelope": envelope.decode(), "total": spec.n}
            place = {"group_id": group_id, "group_index": index}
            sender.send_task(UNRECORDED, producer=producer, retry=False, add_to_parent=False, **place, **message)
