from __future__ import annotations

from collections.abc import Iterator

import pytest

from graflow.core.workflow import clear_workflow_context
from tests.cluster_support import cluster, config, no_workers, one_slot
from tests.record_support import clock, record, record_server, record_world

__all__ = ["clock", "cluster", "config", "no_workers", "one_slot", "record", "record_server", "record_world"]


@pytest.fixture(autouse=True)
def no_current_workflow() -> Iterator[None]:
    """An operator outside any workflow makes an anonymous one current; the next test begins without it."""
    yield
    clear_workflow_context()
