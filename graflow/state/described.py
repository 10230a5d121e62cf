"""What rows have of a value."""

from __future__ import annotations

from hashlib import sha256
from typing import Any, Final

from graflow.state.encoding import quick_encoder

SHOWN: Final = 1024
"""Bytes of a value as JSON that is shown with its step."""

_encode: Final = quick_encoder(ensure_ascii=False)


def described(value: Any) -> dict[str, Any]:
    """What the row of a step or member has of a value that is plain JSON."""
    text = b"%d" % value if type(value) is int else _encode(value).encode("utf-8", "surrogatepass")
    shown = value if len(text) <= SHOWN else None
    return {"outputs": shown, "output_size": len(text), "output_digest": sha256(text).hexdigest()}
