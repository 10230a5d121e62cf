"""How long members take, by what they run: for guesses that cost no more than time when they are wrong."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any, Final

from graflow_celery.broker.messages import FEW

_KINDS: Final = 1000  # of members that are remembered, those last seen
_BRIEF: Final = 0.002  # seconds of a whole group, below which a second message costs more than it saves


class Paces:
    """The mean time of members, by kind; what came last counts half."""

    def __init__(self) -> None:
        self._means: OrderedDict[str, float] = OrderedDict()

    def note(self, kind: str, durations: Iterable[float]) -> None:
        """Members of a kind have taken so many seconds each; none are known of those that never ended by themselves."""
        taken = [seconds for seconds in durations if seconds > 0] if kind else []
        if not taken:
            return
        mean = sum(taken) / len(taken)
        self._means[kind] = (mean + self._means.pop(kind, mean)) / 2
        if len(self._means) > _KINDS:
            self._means.popitem(last=False)

    def is_brief(self, kind: str, n: int) -> bool:
        """Whether so many members of a kind are done one after the other before a second message would be there."""
        mean = self._means.get(kind) if n <= FEW else None
        return mean is not None and mean * n < _BRIEF


def kind_of(members: Sequence[Any]) -> str:
    """The function that all members run; empty where they differ, or are no tasks with functions."""
    template = getattr(members[0], "template", None) if members else None
    if template is None or any(getattr(member, "template", None) is not template for member in members):
        return ""
    func = template.func
    return f"{getattr(func, '__module__', '')}:{getattr(func, '__qualname__', '')}"
