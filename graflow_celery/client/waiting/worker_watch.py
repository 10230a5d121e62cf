"""Whether anybody works for the queues in which members of a run wait; who waits for them is told when nobody does."""

from __future__ import annotations

from collections.abc import Container
from typing import Final

from graflow.exceptions import NoWorkerError
from graflow.spells import end_spell, is_news
from graflow.text.shown import get_logger
from graflow_celery.broker.messages import queues_of
from graflow_celery.broker.task_queue import queue_length
from graflow_celery.deployment import Deployment
from graflow_celery.record import GroupSpec
from graflow_celery.settings import GroupOptions

_log = get_logger(__name__)
_WORKERS_SHOWN: Final = 5
_SLACK: Final = 5.0  # seconds beyond the time after which a run looks again


class WorkerWatch:
    """Looks for workers of one run.

    Args:
        deployment: Where the workers are.
        run_id: The run.
        options: How long it may lack them, and what happens then.
        spec: Its group; looked up when None.
    """

    def __init__(self, deployment: Deployment, run_id: str, options: GroupOptions, spec: GroupSpec | None) -> None:
        self._deployment = deployment
        self._run_id = run_id
        self._options = options
        self._spec = spec
        self._began = deployment.runtime.monotonic()
        self._seen: dict[str, float] = {}
        self._excused = self._began

    def excuse(self, now: float) -> None:
        """Count no worker as absent until now: the record could not be told, or asked, who is there."""
        self._excused = now

    def look(self, now: float, ended: Container[int]) -> None:
        """See to it that every queue in which members that have not ended may wait has a worker.

        Raises:
            NoWorkerError: When one has none for longer than the options allow, and they ask to end then.
        """
        if self._spec is None:
            self._spec = self._deployment.record.header(self._run_id).spec
        for queue in sorted(queues_of(self._spec, ended)):
            if self._deployment.workers(queue):
                self._seen[queue] = now
                end_spell(self._trouble(queue))
            elif now - max(self._seen.get(queue, 0.0), self._excused) >= self._options.worker_wait:
                self._seen[queue] = now
                self._tell(queue)

    def _tell(self, queue: str) -> None:
        settings = self._deployment.settings
        length = queue_length(self._deployment.publisher.app, queue)
        option = "" if queue == settings.queue_name else f" -Q {queue}"
        message = (
            f"No worker consumes queue '{queue}' at {settings.server}, where {length} messages wait (run "
            f"'{self._run_id}'); {self._workers_elsewhere()}. Start one: celery -A graflow_celery worker{option} "
            "--graflow-import <your modules>"
        )
        if settings.queue_name != "graflow":
            message += f" with GRAFLOW_KEY_PREFIX={settings.key_prefix} GRAFLOW_QUEUE={settings.queue_name}"
        if self._options.on_no_worker == "error":
            error = NoWorkerError(message, queue, length)
            error.run_id = self._run_id
            raise error
        if is_news(self._trouble(queue), pause=self._options.worker_wait + _SLACK):
            _log.warning("%s", message)

    def _trouble(self, queue: str) -> tuple[str, ...]:
        """What all runs that wait for this queue have in common."""
        settings = self._deployment.settings
        return ("no worker", settings.server, settings.key_prefix, queue)

    def _workers_elsewhere(self) -> str:
        """The live workers of other queues, in words."""
        seen = sorted(self._deployment.live_workers(), key=lambda worker: worker.worker_id)
        if not seen:
            return "no worker is seen here"
        shown = [f"{each.worker_id} of {', '.join(each.info.get('queues', ()))}" for each in seen[:_WORKERS_SHOWN]]
        more = f" and {len(seen) - len(shown)} more" if len(seen) > len(shown) else ""
        return f"workers seen: {'; '.join(shown)}{more}"
