"""Where flows run that are submitted to workers: found by name, so that nothing here knows of them."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any, Protocol

from graflow.exceptions import ConfigError
from graflow.state.store import StateStore

_PLUG_INS = "graflow.flow_queues"


class FlowQueue(Protocol):
    """Tells workers of flows."""

    def default_store(self) -> StateStore:
        """The store that the workers use when nobody says which."""

    def check(self, store: StateStore, flow_name: str) -> None:
        """Refuse a flow that no worker could run.

        Raises:
            StoreConfigError: When workers cannot reach the store.
        """

    def publish(self, flow_id: str) -> None:
        """Send a message, which is a hint: the claim of the flow decides; twice is harmless."""


def flow_queue(backend: str, config: Mapping[str, Any] | None) -> FlowQueue:
    """The queue of a backend.

    Raises:
        ConfigError: For an unknown backend, or settings that cannot be right.
    """
    plug_ins = entry_points(group=_PLUG_INS, name=backend)
    if not plug_ins:
        known = sorted(each.name for each in entry_points(group=_PLUG_INS))
        raise ConfigError(
            f"No backend {backend!r} runs flows; known: {', '.join(known) or 'none'}. "
            '"redis" comes with: pip install graflow-celery'
        )
    found: FlowQueue = next(iter(plug_ins)).load()(config or {})
    return found
