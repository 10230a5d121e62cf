"""What lines of a journal tell besides the states of steps: ids to fetch, for who shows questions, words or actions.

`question`: `{"seq", "step", "ids"}`, which were asked, or answered; `log`: `{"seq", "steps"}`, which of them have said
something; `action`: `{"seq", "kind", "by"}`, such as `request.cancel`. They have no id: the `change` behind them has
it, so that who has not got that is told all of it again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from graflow.api.live.messages import Message
from graflow.flows.recording.journal import RETRIED
from graflow.state.changes import Journaled

_ACTIONS: Final = frozenset({RETRIED, "flow.resumed", "flow.taken_over", "request.pause", "request.cancel"})
_VERBS: Final = frozenset({"flow.paused", "flow.cancelled"})
"""Actions where the line has a name: of a run that nobody ran. Else they are the end of what was asked for."""


def news_of(lines: Iterable[Journaled]) -> list[Message]:
    """What lines of one run tell, in order; of those that said something the last line tells."""
    told: list[Message] = []
    spoke: dict[str, None] = {}
    last = 0
    for line in lines:
        if line.data.get("asks"):
            ids = list(line.data["asks"])
            told.append(Message.of("question", {"seq": line.seq, "step": line.step, "ids": ids}))
        if line.kind in _ACTIONS or (line.kind in _VERBS and line.data.get("by")):
            by = line.data.get("by")
            told.append(Message.of("action", {"seq": line.seq, "kind": line.kind, "by": by}))
        if line.step is not None and _has_words(line.data):
            spoke[line.step], last = None, line.seq
    if spoke:
        told.append(Message.of("log", {"seq": last, "steps": list(spoke)}))
    return told


def _has_words(data: Mapping[str, Any]) -> bool:
    outcomes = [data, *data.get("outcomes", ())]
    return any((told.get("outcome") or {}).get("said") for told in outcomes)
