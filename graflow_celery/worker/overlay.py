"""The channel of a group on workers: the shared one, and over it what a member wrote and has not published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from graflow.channels.branch import BranchChannel, ChannelWrite, Pending, as_write
from graflow.channels.redis_channel import RedisChannel
from graflow.codec import from_jsonable, to_jsonable
from graflow.exceptions import PayloadError
from graflow_celery.deployment import Deployment
from graflow_celery.errors import TRY_AGAIN
from graflow_celery.wire.envelope import SharedPayload

Laid = Sequence[Any]  # marks, whether the key is deleted, its value as typed JSON, its time to live


def deletion_of(key: str) -> str:
    """The mark that tells that members have deleted a key of the channel that they share."""
    return f"deleted:{key}"


class ChannelWithGaps(RedisChannel):
    """The channel that the members of a group share, some of whose values could not be sent.

    What a member does with it is part of its work, and waits for its server as its outcome does.
    """

    def __init__(self, shared: SharedPayload, deployment: Deployment) -> None:
        place = {**deployment.connection, "key_prefix": shared.channel_prefix}
        super().__init__(shared.channel, signing_keys=deployment.keys, **place)
        self._server.patience, self._server.waits_for = deployment.patience.member, TRY_AGAIN
        self._gaps = dict(shared.unsendable)

    def get(self, key: str, default: object = None) -> Any:
        if key in self._gaps and not super().exists(key):
            raise PayloadError(f"Channel key '{key}' could not be sent to the worker: {self._gaps[key]}")
        return super().get(key, default)

    def exists(self, key: str) -> bool:
        return key in self._gaps or super().exists(key)

    def delete(self, key: str) -> bool:
        present = self.exists(key)
        self.publish(ChannelWrite(key, None, deleted=True), (), once=False)
        return present

    def publish(self, write: ChannelWrite, marks: Sequence[str], *, once: bool) -> None:
        # Whoever takes the changes back cannot tell a key that was deleted from one that got lost.
        super().publish(write, [*marks, deletion_of(write.key)] if write.deleted else marks, once=once)


class OverlaidChannel(BranchChannel):
    """The view that each member of such a group has, in whatever process it runs.

    Whoever first appends to a key, adds to it or locks it publishes the value that lies over it, once for all of them:
    a mark in Redis tells the others, and the enclosing member when the group has ended.

    Args:
        channel: What all of them share.
        overlay: What lies over it, by key.
    """

    def __init__(self, channel: RedisChannel, overlay: Mapping[str, Laid]) -> None:
        super().__init__(channel)
        self._shared = channel
        self._laid: dict[str, tuple[list[str], Pending]] = {}
        for key, (marks, deleted, value, ttl) in overlay.items():
            if deleted:
                self.lay_deleted(key)
            else:
                self.set(key, from_jsonable(value, pickles=channel.pickles_of(key)), ttl)
            self._laid[key] = list(marks), self._pending[key]

    def marks_of(self, key: str) -> list[str]:
        """What tells that the value over this key has been published."""
        return self._laid[key][0] if key in self._laid else []

    def view(self, key: str, default: object = None) -> Any:
        self._uncover(key)
        return super().view(key, default)

    def exists(self, key: str) -> bool:
        self._uncover(key)
        return super().exists(key)

    def keys(self) -> list[str]:
        self._uncover(*self._laid)
        return super().keys()

    def writes(self, besides: AbstractSet[str] = frozenset()) -> list[ChannelWrite]:
        self._uncover(*self._laid)
        return super().writes(besides)

    def _uncover(self, *keys: str) -> None:
        """Take away what others have published from over these keys."""
        for key in keys:
            marks = self.marks_of(key)
            if marks and self._shared.is_published(marks[0]):
                with self._lock:
                    _, original = self._laid.pop(key, (marks, None))
                    if self._pending.get(key) is original:
                        self._pending.pop(key, None)

    def _publish(self, key: str) -> None:
        with self._lock:
            marks, original = self._laid.pop(key, ([], None))
            if not marks:
                super()._publish(key)
                return
            pending = self._pending.pop(key)
            self._shared.publish(as_write(key, pending), marks, once=pending is original)


def lay_over(
    overlay: dict[str, Laid], layer: BranchChannel, channel: RedisChannel, origin: str
) -> tuple[dict[str, str], dict[str, str]]:
    """Put what is private in a layer over what lies below it.

    Args:
        overlay: What lies there by key; changed in place.
        layer: The view of a member.
        channel: What members share below all layers.
        origin: Names the group run, so that marks are the same again when it is attached to.

    Returns:
        The marks by key that tell when another process publishes a value of this layer, and the reasons by key why
        values cannot be sent.
    """
    own: dict[str, str] = {}
    unsendable: dict[str, str] = {}
    for write in layer.writes():
        key = write.key
        below = list(overlay[key][0]) if key in overlay else []
        marks = layer.marks_of(key) if isinstance(layer, OverlaidChannel) else []
        if not marks:
            marks = [f"{origin}:{len(below)}:{key}", *below]
            own[key] = marks[0]
        overlay.pop(key, None)
        try:
            value = None
            if not write.deleted:
                value = to_jsonable(write.value, where=f"channel key '{key}'", pickles=channel.pickles_of(key))
        except TypeError as error:
            unsendable[key] = str(error)
            continue
        overlay[key] = marks, write.deleted, value, write.ttl
    return own, unsendable
