from __future__ import annotations

from tests.record_support import clock, record, record_server, record_world

__all__ = ["clock", "record", "record_server", "record_world"]
