from __future__ import annotations

from tests.cluster_support import cluster, config, no_workers, one_slot
from tests.lasting_keys import every_key_ends
from tests.record_support import clock, record, record_server, record_world

__all__ = [
    "clock",
    "cluster",
    "config",
    "every_key_ends",
    "no_workers",
    "one_slot",
    "record",
    "record_server",
    "record_world",
]
