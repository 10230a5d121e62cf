"""The command `graflow`."""

from __future__ import annotations
