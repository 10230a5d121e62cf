"""One task of a process looks what is new in the store of flows while somebody watches, and tells all who do."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Final

from starlette.concurrency import run_in_threadpool

from graflow.api.http.problems import ProblemError
from graflow.api.http.service import Service
from graflow.api.live.feed import RunFeed
from graflow.api.live.messages import Message, reset
from graflow.exceptions import FlowNotFoundError, GraflowError
from graflow.state.changes import FlowChange
from graflow.text.shown import get_logger

_log = get_logger(__name__)

STREAMS: Final = 200
"""So many are served by one process."""

PACE: Final = 0.1
"""Seconds between looks, and between two changes that one stream is told of."""

UNTOLD: Final = 1.0
"""Seconds without news after which a store is looked into all the same: news may get lost, or be forbidden."""

_SHARE: Final = 10  # a look that takes long is not repeated before so many times its time,
_LONGEST: Final = 2.0  # or so many seconds: where the machine is busy, looks take long that cost little
_WAITING: Final = 50  # messages that one stream may be behind
_TOLD: Final = 500  # runs that one event names at most
_AWAY: Final = 1.0  # seconds between looks for a store that does not answer


class Listener:
    """One stream: its messages in order, None for its end.

    Args:
        flow_id: The run that it watches; None for all.
    """

    def __init__(self, flow_id: str | None) -> None:
        self.flow_id = flow_id
        self.messages: asyncio.Queue[Message | None] = asyncio.Queue()

    def tell(self, messages: Iterable[Message]) -> None:
        """Hand it messages; one that is far behind is told to read all again instead."""
        for message in messages:
            if self.messages.qsize() >= _WAITING and message.id is not None:
                while not self.messages.empty():
                    self.messages.get_nowait()
                self.messages.put_nowait(reset("the stream was too slow", message.id))
            else:
                self.messages.put_nowait(message)
            if message.kind == "end":
                self.messages.put_nowait(None)


class Tail:
    """Feeds the streams of one application.

    Args:
        service: Whose store is looked into.
        pace: Seconds between looks.
        untold: Seconds without news after which a store that tells of changes is looked into all the same.
        streams: How many there may be at once.
    """

    def __init__(self, service: Service, *, pace: float = PACE, untold: float = UNTOLD, streams: int = STREAMS) -> None:
        self._service = service
        self._pace = pace
        self._untold = untold
        self._most = streams
        self._listeners: set[Listener] = set()
        self._feeds: dict[str, RunFeed] = {}
        self._last = 0
        self._lock = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._over = threading.Event()

    async def join(self, flow_id: str | None, after: int | None) -> Listener:
        """A stream that begins behind a position; now when None.

        Raises:
            ProblemError: There are as many as may be.
            FlowNotFoundError: There is no such run.
        """
        if len(self._listeners) >= self._most:
            raise ProblemError(
                *(429, "too-many-requests", f"{self._most} streams are open, as many as this server has"),
                headers={"Retry-After": "5"},
            )
        listener = Listener(flow_id)
        self._listeners.add(listener)
        with ExitStack() as undo:
            undo.callback(self.leave, listener)
            async with self._lock:
                listener.tell(await self._missed(flow_id, after))
            undo.pop_all()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._follow())
        return listener

    def leave(self, listener: Listener) -> None:
        """Somebody watches no more."""
        self._listeners.discard(listener)
        if all(each.flow_id != listener.flow_id for each in self._listeners):
            self._feeds.pop(listener.flow_id or "", None)

    async def close(self) -> None:
        """End all streams."""
        for listener in self._listeners:
            listener.messages.put_nowait(None)
        self._over.set()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    # -- looking ---------------------------------------------------------------------------------------------------

    async def _missed(self, flow_id: str | None, after: int | None) -> list[Message]:
        if len(self._listeners) == 1:  # nobody has looked until now
            self._last = (await run_in_threadpool(self._service.store.changed_flows)).last
        if flow_id is None:
            return [] if after is None else await run_in_threadpool(self._missed_runs, after)
        feed = self._feeds.get(flow_id)
        if feed is None:
            feed = self._feeds[flow_id] = await run_in_threadpool(RunFeed, self._service, flow_id)
        elif after is not None and after > feed.seq:
            self._tell(flow_id, await run_in_threadpool(feed.look))
        return feed.end() if after is None else await run_in_threadpool(feed.missed, after)

    def _missed_runs(self, after: int) -> list[Message]:
        found = self._service.store.changed_flows(after, _TOLD)
        if after > found.last or len(found.flows) == _TOLD:
            return [reset("too many runs have changed" if found.flows else "the log ends before it", found.last)]
        return [self._runs(found.flows)] if found.flows else []

    def _runs(self, flows: Iterable[FlowChange]) -> Message:
        rows = [
            {"flow_id": flow.flow_id, "flow_name": flow.flow_name, "status": flow.status, "version": flow.version}
            for flow in flows
        ]
        last = max(flow.number for flow in flows)
        return Message.of("change", {"seq": last, "at": self._service.now(), "runs": rows}, last)

    async def _follow(self) -> None:
        """Look again and again while somebody watches, where the store tells of changes when there are any."""
        news = self._service.store.news
        pause = patience = self._pace  # at first it is not told yet
        try:
            while True:
                await asyncio.sleep(pause)
                if news is not None:
                    await run_in_threadpool(news.wait, patience, self._over)
                if not self._listeners:
                    return
                began = time.monotonic()
                try:
                    async with self._lock:
                        await self._look()
                    rest = min(_LONGEST, _SHARE * (time.monotonic() - began))
                    pause, patience = max(self._pace, rest), self._untold
                except (GraflowError, OSError) as error:
                    _log.warning("Streams of events wait for the store of flows: %s", error)
                    pause, patience = _AWAY, self._pace
        finally:
            if news is not None:
                news.close()  # nobody would take what it is told

    async def _look(self) -> None:
        found = await run_in_threadpool(self._service.store.changed_flows, self._last, _TOLD)
        if not found.flows:
            self._last = max(self._last, found.last)
            return
        for flow in found.flows:
            feed = self._feeds.get(flow.flow_id)
            if feed is not None and flow.seq > feed.seq:
                self._tell(flow.flow_id, await self._looked(feed))
        if any(listener.flow_id is None for listener in self._listeners):
            self._tell(None, [self._runs(found.flows)])
        self._last = found.flows[-1].number

    async def _looked(self, feed: RunFeed) -> list[Message]:
        try:
            return await run_in_threadpool(feed.look)
        except FlowNotFoundError:
            return [Message.of("end", {"status": "purged"})]

    def _tell(self, flow_id: str | None, messages: list[Message]) -> None:
        for listener in self._listeners:
            if listener.flow_id == flow_id:
                listener.tell(messages)
