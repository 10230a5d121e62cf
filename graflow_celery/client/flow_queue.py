"""Flows on their way to workers: one message each on the control queue, which is only a hint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graflow.exceptions import StoreConfigError
from graflow.redis.config import normalize_redis_config
from graflow.state.store import StateStore
from graflow.text.shown import get_logger
from graflow_celery.deployment import deployment_of
from graflow_celery.settings import Settings
from graflow_celery.worker.flows import store_of

_log = get_logger(__name__)


class CeleryFlowQueue:
    """The control queue of a deployment: what is behind the entry point `redis` of `graflow.flow_queues`.

    Args:
        config: A `backend_config`.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._deployment = deployment_of(Settings.load(normalize_redis_config(config)))

    def default_store(self) -> StateStore:
        """That of the workers: what `GRAFLOW_FLOW_STORE` or `config.yaml` says, else the Redis of record."""
        return store_of(self._deployment)

    def check(self, store: StateStore, flow_name: str) -> None:
        """Refuse a store that the workers cannot reach; say so when no worker knows the flow.

        Raises:
            StoreConfigError: As above.
            RecordUnreachableError: When the Redis of record does not answer.
        """
        deployment = self._deployment
        deployment.check()
        with deployment.errors():
            serving = [worker.info for worker in deployment.live_workers() if worker.info.get("flows")]
        if not store.is_shared and not any(info.get("flow_store") == store.url for info in serving):
            raise StoreConfigError(
                f"Workers cannot reach the store {store.url}; give the runner one that they share, such as the Redis "
                "of record (which it has when no store is named), or set GRAFLOW_FLOW_STORE for workers of this machine"
            )
        if not any(flow_name in info["flows"] for info in serving):
            _log.warning(
                "No worker that beats knows the flow '%s': it waits until one is started with --graflow-import of the "
                "module that has it",
                flow_name,
            )

    def publish(self, flow_id: str) -> None:
        """Send the message.

        Raises:
            BrokerUnreachableError: When the broker cannot be reached.
        """
        self._deployment.publisher.publish_flow(flow_id)
