"""What an owner is asked for, as it is stored in the row of a flow."""

from __future__ import annotations

from collections.abc import Sequence

from graflow.state.changes import Request, RequestKind
from graflow.state.encoding import Stored, from_text, to_text


def requests_text(requests: Sequence[Request]) -> str:
    return to_text([[each.kind.value, each.by, each.reason, each.at] for each in requests])


def requests_from(text: Stored) -> tuple[Request, ...]:
    """What `requests_text` was given."""
    if len(text) <= 2:  # mostly there are none
        return ()
    return tuple(Request(RequestKind(kind), by, reason, at) for kind, by, reason, at in from_text(text))
