"""The one text form of what stores keep: compact JSON."""

from __future__ import annotations

import json
from typing import Any, Final

to_text: Final = json.JSONEncoder(allow_nan=False, check_circular=False, separators=(",", ":")).encode
from_text: Final[Any] = json.JSONDecoder().decode
