"""Why a kept value was given again, or was not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graflow.state.cache import CachedValue, CacheKey

Source = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Reason:
    """What came of asking for a kept value.

    Attributes:
        is_hit: Whether it was given.
        text: Why, or why not.
        key: The digest of the key; None where there is no key.
        source: Where the value was computed; on a miss, the nearest one that is kept.
        age: Seconds since that was computed.
        differs: On a miss, the parts of the key that the nearest one has otherwise.
    """

    is_hit: bool
    text: str
    key: str | None = None
    source: Source | None = None
    age: float | None = None
    differs: Sequence[str] = ()

    def data(self) -> dict[str, Any]:
        """What is recorded of it."""
        found: dict[str, Any] = {"hit": self.is_hit, "why": self.text}
        if self.key is not None:
            found["key"] = self.key
        if self.source is not None:
            found["nearest" if not self.is_hit else "source"] = dict(self.source)
            found["age"] = self.age
        if self.differs:
            found["differs"] = list(self.differs)
        return found


def given(key: CacheKey, kept: CachedValue, now: float, *, waited: bool) -> Reason:
    """A value was given."""
    age = _age(kept, now)
    told = f"the same code and inputs as in {_place(kept.source)}, {_spell(age)} ago"
    text = f"computed meanwhile, with {told}" if waited else told
    return Reason(True, text, key.digest, kept.source, age)


def missed(key: CacheKey, present: CachedValue | None, near: Sequence[CachedValue], now: float, since: float) -> Reason:
    """None was given.

    Args:
        key: What was asked for.
        present: What is kept for it, which is too old.
        near: What was kept last for the same name.
        now: Seconds since the epoch.
        since: When it must have been made.
    """
    if present is not None:
        age = _age(present, now)
        over = present.expires_at is not None and present.expires_at <= now
        text = (
            f"expired {_spell(now - (present.expires_at or now))} ago"
            if over
            else f"is older than {_spell(now - since)}"
        )
        return Reason(
            False, f"what was computed in {_place(present.source)} {text}", key.digest, present.source, age, ()
        )
    if not near:
        return Reason(False, f"nothing is kept of '{key.name}'", key.digest)
    nearest = min(near, key=lambda kept: len(_differing(key, kept)))
    differs = _differing(key, nearest)
    age = _age(nearest, now)
    listed = " and ".join([", ".join(differs[:-1]), differs[-1]] if len(differs) > 1 else differs)
    verb = "differ" if len(differs) > 1 else "differs"
    text = f"{listed} {verb} from the nearest that is kept, of {_place(nearest.source)} {_spell(age)} ago"
    return Reason(False, text, key.digest, nearest.source, age, differs)


def _differing(key: CacheKey, kept: CachedValue) -> list[str]:
    names = dict.fromkeys((*key.parts, *kept.parts))
    return [name for name in names if key.parts.get(name) != kept.parts.get(name)]


def _age(kept: CachedValue, now: float) -> float:
    return round(max(0.0, now - kept.made_at), 3)


def _place(source: Source) -> str:
    step = source.get("step")
    flow = f"flow '{source.get('flow_id')}'"
    if step is None:
        return flow
    index = source.get("index")
    return f"step '{step}' of {flow}" if index is None else f"member {index} of step '{step}' of {flow}"


def _spell(seconds: float) -> str:
    """How long something is ago, roughly."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
