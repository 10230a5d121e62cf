"""Flows on workers: the message `flow`, and the look for flows whose owners are gone."""

from __future__ import annotations

from typing import Any, Final

from graflow.configuration.project import project_settings
from graflow.exceptions import StoreError
from graflow.flows.home import home_of
from graflow.flows.registry import default_flows
from graflow.flows.runner import FlowRunner
from graflow.processes.per_process import PerProcess
from graflow.state.opening import named_store
from graflow.state.redis import RedisStore
from graflow.state.store import StateStore
from graflow.text.shown import get_logger
from graflow_celery.deployment import Deployment
from graflow_celery.worker.running import holding_slot

_log = get_logger(__name__)

_QUIET: Final = 3.0  # seconds between two looks while no flow is open, less than half a lease of an owner
_HOPS: Final = 50  # workers that may pass a message on because they do not know its flow

_runners: Final[PerProcess[str, FlowRunner]] = PerProcess()


def store_of(deployment: Deployment) -> StateStore:
    """The store of the flows of a deployment: what `GRAFLOW_FLOW_STORE` or `config.yaml` says, else its own Redis."""
    settings = deployment.settings
    return named_store() or RedisStore(
        settings.connection, key_prefix=settings.key_prefix, retention=project_settings().persistence.retention
    )


def served_flows() -> list[str]:
    """Names of the flows that this worker's modules have."""
    return default_flows.names()


def _runner_of(deployment: Deployment, *, publishes: bool) -> FlowRunner:
    """The runner of this process: in a pool's child it runs flows, in the main process it only sends messages."""

    def make() -> FlowRunner:
        settings = deployment.settings
        config = {**settings.connection, "key_prefix": settings.key_prefix}
        runner = FlowRunner(store_of(deployment), recovery=publishes, config=config)
        if publishes:
            runner.send_to(deployment.publisher.publish_flow)
        return runner

    return _runners.get(f"{deployment.settings.identity()} {publishes}", make)


def run_flow(deployment: Deployment, flow_id: str, hops: int) -> None:
    """Run a flow on, if it is free; a flow of a module that was not imported here is passed on."""
    runner = _runner_of(deployment, publishes=False)
    token = holding_slot.set(True)
    try:
        is_known = runner.serve(flow_id)
    finally:
        holding_slot.reset(token)
    if is_known:
        return
    if hops >= _HOPS:
        _log.warning("Flow %s is of no module of the workers that its message came to", flow_id)
        return
    deployment.runtime.sleep(0.1)
    deployment.publisher.publish_flow(flow_id, hops=hops + 1)


class FlowWatch:
    """Looks, in a worker's main process, for flows that nobody runs, and sends messages for them."""

    def __init__(self, deployment: Deployment) -> None:
        self._runner = _runner_of(deployment, publishes=True)
        # Whatever is begun meanwhile is seen long before its lease can be over.
        home_of(self._runner.store).recovery.longest_pause = _QUIET

    def start(self) -> None:
        """Begin to look; where the store cannot be reached, each look tries again."""
        try:
            self._runner.initialize()
        except StoreError as error:
            _log.warning("Flows are not looked after yet: %s", error)
            home_of(self._runner.store).recovery.join(self._runner.player)

    def stop(self) -> None:
        self._runner.close()

    def describe(self) -> dict[str, Any]:
        """What others may know of the flows of this worker."""
        return {"flows": served_flows(), "flow_store": self._runner.store.url}
