"""Ids that are made here."""

from __future__ import annotations

import secrets
import time


def uuid7() -> str:
    """A new id; ids sort by the time at which they were made (RFC 9562, version 7)."""
    value = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    value = value & ~(0xF000 << 64) | 0x7000 << 64
    value = value & ~(0xC000 << 48) | 0x8000 << 48
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
