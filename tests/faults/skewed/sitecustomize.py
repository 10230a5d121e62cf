"""Moves the clock of a process that has this folder on its path."""

from __future__ import annotations

import os
import time

_OFFSET = float(os.environ.get("FAULT_CLOCK_OFFSET", "0"))
_time, _time_ns = time.time, time.time_ns

time.time = lambda: _time() + _OFFSET
time.time_ns = lambda: _time_ns() + int(_OFFSET * 1_000_000_000)
