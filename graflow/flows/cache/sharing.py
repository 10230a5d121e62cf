"""Kept values as the flows of one process use them: given again, or computed once by one of all processes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, Generic, NamedTuple, TypeVar

from graflow.codec import from_jsonable
from graflow.core.branches.outcome_data import kept as as_data
from graflow.exceptions import PayloadError, StoreError
from graflow.flows.cache.reasons import Reason, Source, given, missed
from graflow.flows.recording.identity import Leases, this_owner
from graflow.runtime import Runtime
from graflow.spells import is_news
from graflow.state.cache import CachedValue, CacheKey, CacheStore, Computation
from graflow.text.shown import get_logger

_log = get_logger(__name__)

T = TypeVar("T")

Wanted = Callable[[], bool]
"""Whether somebody still waits for what a computation gives."""

_NAPS: Final = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)  # seconds between looks at what another one computes
_NEAR: Final = 16  # kept values of a name that the nearest is looked for among
_BEATS_PER_LEASE: Final = 4
_UNREADABLE: Final = "the store could not be asked, or what it keeps not be read"


class Answer(NamedTuple, Generic[T]):
    """A value, and where it comes from."""

    value: T
    reason: Reason


class Cache:
    """Gives values again that were kept in a store.

    A store that does not answer costs what was kept, and fails nothing.

    Args:
        store: Keeps them.
        runtime: Whose time passes.
        lease: Seconds without a sign of life after which whoever computes a value counts as lost.
        ttl: Seconds that a value is good for which says nothing else; None for no end.
    """

    def __init__(self, store: CacheStore, runtime: Runtime, lease: float, ttl: float | None = None) -> None:
        self._ttl = ttl
        self._store = store
        self._runtime = runtime
        self._beat_every = min(1.0, lease / _BEATS_PER_LEASE)
        self._mine: dict[str, Wanted] = {}  # by token
        self._leases: Leases[str] = Leases(runtime.monotonic, lease, lambda _, token: self._is_wanted(token))

    def value(
        self,
        key: CacheKey,
        compute: Callable[[], T],
        *,
        ttl: float | None,
        source: Source,
        wait: Callable[[], object],
        is_asked: bool = True,
        refusal: Callable[[], str | None] = lambda: None,
        is_wanted: Wanted = lambda: True,
    ) -> Answer[T]:
        """The value of a key: a kept one, or what `compute` gives, which is kept.

        While another thread or process computes it, this one waits; when that fails, or is gone, this one computes.

        Args:
            key: What it follows from.
            compute: Computes it.
            ttl: Seconds that it is good for; None for what is usual.
            source: Where it is computed now.
            is_asked: Whether a kept value is good at all; else it is computed and goes over that.
            wait: Called while another one computes it; what it raises ends the wait.
            refusal: Why what was computed is not kept, after all.
            is_wanted: Whether the computation is waited for; one that was given up is over for others, too.
        """
        ttl = self._ttl if ttl is None else ttl
        since = self._since(ttl) if is_asked else math.nextafter(self._runtime.time(), math.inf)
        again = None if is_asked else _asked_again(key)
        found = self._asked(lambda: self._begin(key, since, again, wait, is_wanted))
        if found is None:
            return Answer(compute(), Reason(False, _UNREADABLE))
        if isinstance(found, Answer):
            return found
        with self._computing(key, found.token) as computing:
            value = compute()
            why_not = refusal()
            if why_not is not None:
                return Answer(value, Reason(False, why_not, key.digest))
            computing.is_kept = self._asked(lambda: self._keep(key, found.token, value, ttl, source)) is True
        return Answer(value, found.reason)

    def kept(self, key: CacheKey, *, ttl: float | None, is_asked: bool = True) -> Answer[Any]:
        """The kept value of a key, or None with the reason; nobody is waited for.

        Args:
            key: What it follows from.
            ttl: Seconds that it is good for; None for what is usual.
            is_asked: Whether a kept value is good at all.
        """
        if not is_asked:
            return Answer(None, _asked_again(key))
        since = self._since(self._ttl if ttl is None else ttl)

        def look() -> Answer[Any]:
            now, present = self._runtime.time(), self._store.get(key.digest)
            if present is not None and present.is_good(now, since):
                return _answer(key, present, now, waited=False)
            return Answer(None, self._missed(key, present, now, since))

        return self._asked(look) or Answer(None, Reason(False, _UNREADABLE))

    def keep(self, key: CacheKey, value: object, *, ttl: float | None, source: Source) -> None:
        """Keep a value that was computed without asking, unless somebody computes it just now."""
        mine = Computation(this_owner(), self._runtime.token(), 0)
        good_for = self._ttl if ttl is None else ttl

        def work() -> None:
            now = self._runtime.time()
            if self._store.begin(key, mine, at=now, since=now) == mine:
                self._keep(key, mine.token, value, good_for, source)

        self._asked(work)

    # -- asking ----------------------------------------------------------------------------------------------------

    def _since(self, ttl: float | None) -> float:
        return -math.inf if ttl is None else self._runtime.time() - ttl

    def _begin(
        self,
        key: CacheKey,
        since: float,
        reason: Reason | None,
        wait: Callable[[], object],
        is_wanted: Wanted,
    ) -> Answer[Any] | _Begun:
        """The kept value, made at `since` or later, or leave to compute it."""
        naps, seen, waited = iter(_NAPS), None, False
        while True:
            now = self._runtime.time()
            present = self._store.get(key.digest)
            if present is not None and present.is_good(now, since):
                self._leases.forget(key.digest)
                return _answer(key, present, now, waited=waited)
            if reason is None:
                reason = self._missed(key, present, now, since)
            mine = Computation(this_owner(), self._runtime.token(), 0)
            going_on = self._begun(key, mine, now, since, seen, is_wanted)
            if going_on == mine:
                self._leases.forget(key.digest)
                return _Begun(mine.token, reason)
            if going_on is None:
                continue
            waited, seen = True, None
            if self._leases.is_over(key.digest, going_on.owner, going_on.token, going_on.beats):
                seen = going_on
                continue
            wait()
            self._runtime.sleep(next(naps, _NAPS[-1]))

    def _missed(self, key: CacheKey, present: CachedValue | None, now: float, since: float) -> Reason:
        near = () if present is not None else self._store.newest(key.name, _NEAR)
        return missed(key, present, near, now, since)

    def _begun(
        self,
        key: CacheKey,
        mine: Computation,
        now: float,
        since: float,
        seen: Computation | None,
        is_wanted: Wanted,
    ) -> Computation | None:
        """The computation that goes on; other threads see this one as alive before others can see it at all."""
        going_on = None
        self._mine[mine.token] = is_wanted
        try:
            going_on = self._store.begin(key, mine, at=now, since=since, seen=seen)
        finally:
            if going_on != mine:
                del self._mine[mine.token]
        return going_on

    def _is_wanted(self, token: str) -> bool:
        is_wanted = self._mine.get(token)
        return is_wanted is not None and is_wanted()

    def _asked(self, call: Callable[[], T]) -> T | None:
        """What a call gives; None when the store does not answer, or what is kept cannot be read here."""
        try:
            return call()
        except (StoreError, PayloadError, TypeError) as error:
            if is_news(("cache", type(error))):
                _log.warning("Kept values cannot be used, and are computed each time: %s", error)
            return None

    # -- computing -------------------------------------------------------------------------------------------------

    def _keep(self, key: CacheKey, token: str, value: object, ttl: float | None, source: Source) -> bool:
        now = self._runtime.time()
        data = as_data(value, f"what '{key.name}' gave")
        ends = None if ttl is None else now + ttl
        is_kept = self._store.fill(key, token, data, at=now, expires_at=ends, source=source)
        if not is_kept:
            _log.info("What '%s' gave is not kept: another one computes it by now, or it was cleared", key.name)
        return is_kept

    @contextmanager
    def _computing(self, key: CacheKey, token: str) -> Iterator[_Computing]:
        """A block in which others wait for this process; nobody does afterwards."""
        runtime, is_wanted = self._runtime, self._mine[token]
        computing = _Computing(self._store, key.digest, token, self._beat_every, runtime.monotonic(), is_wanted)
        try:
            with runtime.pacer.pacing(computing):
                yield computing
        finally:
            self._mine.pop(token, None)
            if not computing.is_kept:
                with suppress(StoreError):  # then its lease ends
                    self._store.let_go(key.digest, token)


class _Begun(NamedTuple):
    """Leave to compute a value: the token of the computation, and why nothing was given."""

    token: str
    reason: Reason


class _Computing:
    """Gives signs of life of a computation while it goes on.

    Attributes:
        is_kept: Whether what it gave is kept, which has ended it.
    """

    def __init__(self, store: CacheStore, digest: str, token: str, every: float, now: float, is_wanted: Wanted) -> None:
        self.name = f"The computation of kept value {digest}"
        self.is_kept = False
        self._store, self._digest, self._token = store, digest, token
        self._every, self._beaten, self._is_wanted = every, now, is_wanted

    def tick(self, now: float) -> None:
        if now - self._beaten >= self._every and self._is_wanted():
            self._beaten = now
            self._store.beat(self._digest, self._token)


def _asked_again(key: CacheKey) -> Reason:
    return Reason(False, "somebody asked that it runs again", key.digest)


def _answer(key: CacheKey, present: CachedValue, now: float, *, waited: bool) -> Answer[Any]:
    return Answer(from_jsonable(present.value), given(key, present, now, waited=waited))
