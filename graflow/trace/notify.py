"""How engine and context call a listener: one that raises is logged and does not change the run."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

_log = logging.getLogger(__name__)


def tell(hook: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    """Call a hook of a listener; whatever it raises ends here. Hooks of every task are called without this detour."""
    try:
        hook(*args, **kwargs)
    except Exception:  # noqa: BLE001 - listeners are user code
        _log.exception("Tracing hook %s failed", getattr(hook, "__qualname__", hook))
