from __future__ import annotations

from tests.lasting_keys import every_key_ends

__all__ = ["every_key_ends"]
