"""The trace of a run as it goes to other processes: the W3C trace context, where OpenTelemetry is in use."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

TRACE: Final = "traceparent"
"""Under which it travels."""


def is_tracing() -> bool:
    """Whether this program has OpenTelemetry in use."""
    return "opentelemetry.trace" in sys.modules


def trace_context() -> dict[str, str]:
    """The span that is current here, as data; nothing where this program has no OpenTelemetry."""
    if not is_tracing():
        return {}
    from opentelemetry.trace.propagation.tracecontext import (  # noqa: PLC0415 - an extra, which is in use here
        TraceContextTextMapPropagator,
    )

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return {TRACE: carrier[TRACE]} if TRACE in carrier else {}


@contextmanager
def continued(carried: Mapping[str, Any]) -> Iterator[None]:
    """Have spans that are made here hang below the span that `trace_context` told of; what is no context means none."""
    given = carried.get(TRACE)
    if not isinstance(given, str) or not is_tracing():
        yield
        return
    from opentelemetry.context import attach, detach  # noqa: PLC0415 - as above
    from opentelemetry.trace.propagation.tracecontext import (  # noqa: PLC0415
        TraceContextTextMapPropagator,
    )

    token = attach(TraceContextTextMapPropagator().extract({TRACE: given}))
    try:
        yield
    finally:
        detach(token)
