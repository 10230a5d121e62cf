"""The sections of `config.yaml` beside `redis`: every key, its type and its default."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from graflow.durations import LONGEST, MOST


def no_truth(value: object) -> object:
    """Refuse a truth value, which Python counts among the numbers."""
    if isinstance(value, bool):
        raise PydanticCustomError("no_number", "it takes a number")
    return value


def _as_names(value: object) -> object:
    """One name, or several with spaces between them."""
    return value.split() if isinstance(value, str) else value


Seconds = Annotated[float, BeforeValidator(no_truth), Field(ge=0.001, le=LONGEST, allow_inf_nan=False)]
"""A duration that a setting may have."""
Count = Annotated[int, BeforeValidator(no_truth), Field(ge=1, le=MOST)]
"""A number of things that a setting may have."""

_Names = Annotated[tuple[str, ...], BeforeValidator(_as_names)]


class Section(BaseModel):
    """One section."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class FlowEngineSection(Section):
    """How flows are run, where `FlowRunner` is not told otherwise.

    Attributes:
        flows: Modules or files that have the flows, for the commands.
        max_concurrent: Flows that run in the background of one process at once.
        lease: Seconds without a sign of life after which the owner of a flow counts as lost.
        poll_interval: Seconds between two looks for flows that nobody runs.
        recovery: Whether a runner looks for them.
        keep_logs: Whether what steps print and log in processes of runners is kept with what comes of them.
        max_steps: Tasks that may complete in one flow; when None, 10,000 beside the first execution of each.
    """

    flows: _Names = ()
    max_concurrent: Count = 8
    lease: Seconds = 6.0
    poll_interval: Seconds = 1.0
    recovery: bool = True
    keep_logs: bool = False
    max_steps: Count | None = None


class CacheSection(Section):
    """What becomes of results that a flow or a task says to keep.

    Attributes:
        enabled: Whether anything is kept or taken from there.
        ttl: Seconds for which a result holds that says nothing else; for ever when None.
    """

    enabled: bool = True
    ttl: Seconds | None = None


class PersistenceSection(Section):
    """Where flows are written down.

    Attributes:
        store: The address of the store; the file `.graflow/flows.db` of the project when None.
        durability: `"required"`, `"best_effort"` or `"off"`, where `FlowRunner` is not told.
        retention: Seconds that flows are kept after their end.
        max_flows: Flows that have ended that are kept at most.
    """

    store: Annotated[str, Field(min_length=1)] | None = Field(default=None, repr=False)
    durability: Literal["required", "best_effort", "off"] = "best_effort"
    retention: Seconds = 30 * 86400.0
    max_flows: Count = 100_000


class MonitoringSection(Section):
    """What may be looked at from outside.

    Attributes:
        metrics: Whether runners, workers and servers count for Prometheus.
        metrics_port: Where each of them shows its counts over HTTP; nowhere when None.
        metrics_host: The address that it listens on there.
        metrics_dir: A folder in which the processes of this machine count together; each for itself when None.
        tracing: Whether runs become traces of OpenTelemetry without a tracer of their own.
    """

    metrics: bool = False
    metrics_port: Annotated[int, BeforeValidator(no_truth), Field(ge=1, le=65535)] | None = None
    metrics_host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    metrics_dir: Path | None = None
    tracing: bool = False

    @property
    def counts(self) -> bool:
        """Whether anything is counted: a port says so too."""
        return self.metrics or self.metrics_port is not None


MODELS: Final[Mapping[str, type[Section]]] = {
    "flow_engine": FlowEngineSection,
    "cache": CacheSection,
    "persistence": PersistenceSection,
    "monitoring": MonitoringSection,
}
"""The sections by name."""
