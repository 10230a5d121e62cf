"""Celery's limits of a whole worker, which count messages: there each member gets a message of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from graflow.exceptions import GroupNotFoundError, SignatureError
from graflow.redis.refusals import in_a_word
from graflow.runtime import persistently
from graflow.text.shown import get_logger
from graflow_celery.broker.messages import member_options, time_limits
from graflow_celery.deployment import Deployment
from graflow_celery.errors import FAILING
from graflow_celery.record import GroupSpec

_log = get_logger(__name__)
_OF_TASK: Final = ("rate_limit", "time_limit", "soft_time_limit")  # remote control may change them at any time
_OF_POOL: Final = ("timeout", "soft_timeout", "maxtasksperchild", "max_memory_per_child")


def counts_messages(task: object, pool_options: Mapping[str, Any]) -> bool:
    """Whether the operator has limited what a worker may do per message, meaning each member."""
    return any(getattr(task, name, None) for name in _OF_TASK) or any(map(pool_options.get, _OF_POOL))


def limits_of(deployment: Deployment, spec: GroupSpec, index: int) -> tuple[float | None, float | None]:
    """The hard and the soft time limit of a member: its own, else that of the whole worker."""
    own = member_options(spec, index)
    return time_limits({**deployment.limits, **own} if deployment.limits else own)


def send_singly(deployment: Deployment, run_id: str, indices: Sequence[int]) -> None:
    """Send members that came in one message on as one message each; without a broker the sweeper does it later."""
    if not indices:
        return

    def send() -> None:
        deployment.publisher.publish(deployment.record.header(run_id).spec, indices, singly=True)

    try:
        persistently(deployment.runtime, send, patience=deployment.patience.member)
    except GroupNotFoundError:
        return
    except (*FAILING, SignatureError) as error:
        _log.warning("Left to the sweeper: %s members of run %s (%s)", len(indices), run_id, in_a_word(error))
