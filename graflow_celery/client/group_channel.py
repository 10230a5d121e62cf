"""The channel of a group whose members run elsewhere.

Members that cannot reach the channel get the values that their parameters take from it. Where a member can, all of them
share a Redis channel: the parent's own when it is one, else one of this run, filled from the parent's channel and
merged back into it when the group has ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import redis

from graflow.channels.base import Channel
from graflow.channels.branch import BranchChannel
from graflow.channels.redis_channel import RedisChannel
from graflow.codec import to_jsonable
from graflow.core.envelopes.references import classes_of
from graflow.core.memberships import is_group
from graflow.core.nodes.arguments import RESULT_SUFFIX, fillable_parameters
from graflow.core.nodes.plain import Task
from graflow.core.nodes.wrapper import TaskWrapper
from graflow.core.serialization import signed_pickles
from graflow.exceptions import ConfigError, PayloadError
from graflow.values.blobs import TakenBlobs
from graflow_celery.deployment import Deployment
from graflow_celery.worker.overlay import Laid, deletion_of, lay_over

_ABSENT: Final = object()
_KEPT: Final = 7 * 86400.0  # seconds that the channel of a run lives when nobody drops it
_ENDED: Final = frozenset({"completed", "terminated"})
_CLOSE: Final = 60.0  # seconds; a key that has hardly less left than that has no time to live of its own


def reaches_context(task: Any) -> bool:
    """Whether a task can do more with its run than take arguments and return a value."""
    if is_group(task):
        return any(reaches_context(member) for member in task.tasks)
    if isinstance(task, TaskWrapper):
        return task.inject_context or task.handler_type != "direct"
    return type(task) is not Task


class _ServedChannels:
    """Channels of groups that have ended: needed while the run may be resumed, dropped when it has come to its end."""

    error: Exception | None = None

    def __init__(self, root: Any) -> None:
        self._root = root
        self._served: list[tuple[RedisChannel, list[str]]] = []

    def add(self, channel: RedisChannel, keys: list[str]) -> None:
        self._served.append((channel, keys))

    def check(self) -> None:
        """Nothing here keeps a run from going on."""

    def release(self) -> None:
        if self._root.stop_reason not in _ENDED:
            return
        with suppress(redis.exceptions.RedisError):  # they expire, too
            for channel, keys in self._served:
                channel.drop(keys)


class GroupChannel:
    """How the members of one group see the channel of the context that the group runs in.

    Args:
        deployment: Where run-scoped channels live.
        context: The context of the group.
        run_key: Names a run-scoped channel.
        tasks: The members, and what they drag along.
        kept: Seconds that a run-scoped channel stays after the end.
    """

    def __init__(
        self, deployment: Deployment, context: Any, run_key: str, tasks: Sequence[Any], *, kept: float
    ) -> None:
        self._deployment = deployment
        self._context = context
        self._kept = kept
        self._parent: Channel = context.ledger.channel
        self._own: RedisChannel | None = None
        self._root: RedisChannel | None = None
        self._laid: list[tuple[BranchChannel, str, str]] = []  # whose private value lies over which key, and its mark
        self._filled: dict[str, Any] = {}
        self._is_attached = False
        self.name, self.prefix = "", deployment.settings.key_prefix
        self.overlay: dict[str, Laid] = {}
        self.unsendable: dict[str, str] = {}
        self.seeds: dict[str, Any] = {}
        self.blobs = TakenBlobs()
        if any(reaches_context(task) for task in tasks):
            self._share(run_key)
        else:
            self.seeds = self._values_for(tasks)

    # -- members that only take arguments --------------------------------------------------------------------------

    def _values_for(self, tasks: Iterable[Any]) -> dict[str, Any]:
        """What the channel holds under the names of the parameters, in typed JSON."""
        wanted: dict[str, Any] = {}
        for task in _wrappers_in(tasks):
            for name in fillable_parameters(task.func):
                if name not in task.bound_arguments:
                    wanted.setdefault(name, task)
        found: dict[str, Any] = {}
        for name, task in wanted.items():
            for key in (name + RESULT_SUFFIX, name):
                value = self._parent.get(key, _ABSENT)
                is_failure = isinstance(value, BaseException) and not self._context.has_completed(name)
                if value is _ABSENT or (is_failure and key != name):
                    continue
                try:
                    found[key] = to_jsonable(
                        value,
                        where=f"the value of channel key '{key}'",
                        near=classes_of(task),
                        pickles=signed_pickles(self._deployment.keys, "seed", self._context.session_id),
                        blobs=self.blobs,
                    )
                except TypeError as error:
                    raise PayloadError(
                        f"Task '{task.task_id}' takes argument '{name}' from the channel: {error}", error
                    ) from error
                break
        return found

    # -- members that share a channel ------------------------------------------------------------------------------

    def _share(self, run_key: str) -> None:
        layers, root = [], self._parent
        while isinstance(root, BranchChannel):
            layers.append(root)
            root = root._parent
        if isinstance(root, RedisChannel) and self._is_ours(root):
            self._check_keys(root)
            self.name, self.prefix = root.name, root.key_prefix
            self.unsendable = dict(getattr(root, "_gaps", {}))
            for layer in reversed(layers):
                own, unsendable = lay_over(self.overlay, layer, root, run_key)
                self._laid += [(layer, key, mark) for key, mark in own.items()]
                self.unsendable.update(unsendable)
            self._root = root
        else:
            self.name = run_key
            place = {**self._deployment.connection, "key_prefix": self.prefix}
            self._own = RedisChannel(run_key, signing_keys=self._deployment.keys, **place)

    def _check_keys(self, channel: RedisChannel) -> None:
        """Members sign what they write and believe what is signed, where their group has a key."""
        if channel.is_signed == (self._deployment.keys is not None):
            return
        have, lack = ("channel", "group") if channel.is_signed else ("group", "channel")
        raise ConfigError(
            f"The {have} has a signing key and the {lack} has none, so that the run and its members would not believe "
            f"what they write to channel {channel.name!r}; give both the same signing_key, or set GRAFLOW_SIGNING_KEY"
        )

    def _is_ours(self, channel: RedisChannel) -> bool:
        """Whether a Redis channel lives where the workers of this deployment look."""
        if getattr(channel, "_gaps", None) is not None:
            return True
        return self._deployment.holds(self._context.config)

    def fill(self) -> None:
        """Write the parent's values to the channel of this run, before any member can run.

        What is there already stays: an earlier process, or an earlier try of the group, went on from these values.
        """
        if self._own is not None:
            self._own.set_missing(self._sendable(), ttl=_KEPT)

    def attach(self) -> None:
        """Go on with what an earlier process has filled."""
        self._is_attached = True
        if self._own is not None:
            self._sendable()

    def _sendable(self) -> dict[str, Any]:
        """The parent's values, as far as they can be sent; changes are told by comparison with them."""
        self._filled = {}
        for key in self._parent.keys():  # noqa: SIM118 - a channel is no mapping
            value = self._parent.get(key, _ABSENT)
            if value is not _ABSENT and key not in self.unsendable:
                self._filled[key] = value
        return self._filled

    def plan_gaps(self) -> None:
        """Find out what cannot be sent before the members' envelopes say so."""
        if self._own is None:
            return
        for key in self._parent.keys():  # noqa: SIM118 - a channel is no mapping
            try:
                self._own.check(key, self._parent.get(key))
            except TypeError as error:
                self.unsendable[key] = str(error)

    def merge_back(self) -> None:
        """Do to the parent's channel what the members did to the shared one, which then has served."""
        for layer, key, mark in self._laid:
            if self._root is not None and self._root.is_published(mark):
                layer.forget(key)
        if self._own is None:
            return
        present = self._own.keys()
        for key in present:
            before, after = self._filled.get(key, _ABSENT), self._own.get(key, _ABSENT)
            if after is not _ABSENT and not (before is not _ABSENT and _is_same(before, after)):
                _apply_change(self._parent, key, before, after, self._limit_of(key))
        for key in self._filled.keys() - set(present):
            if self._own.is_published(deletion_of(key)):
                self._parent.delete(key)
        self._own.expire(self._kept, present)
        root = self._context.root
        if root.holdings.held:
            root.holdings.hold("channels", lambda: _ServedChannels(root)).add(self._own, present)

    def _limit_of(self, key: str) -> float | None:
        """The time to live that a member gave to a key of the shared channel, as far as that can be told."""
        if self._is_attached or self._own is None:
            return None
        left = self._own.time_to_live(key)
        return None if left is None or (key in self._filled and left > _KEPT - _CLOSE) else left

    def discard(self) -> None:
        """Let the channel of this run expire when its outcomes do; until then the group can be attached to."""
        if self._own is not None:
            self._own.expire(self._kept)


def _is_same(before: Any, after: Any) -> bool:
    """Whether a value came back as it was sent; frames and arrays, which compare item by item, by their data."""
    if type(before) is not type(after):
        return False
    try:
        return bool(before == after)
    except ValueError:
        return bool(to_jsonable(before) == to_jsonable(after))


def _apply_change(parent: Channel, key: str, before: Any, after: Any, ttl: float | None) -> None:
    """Repeat a change as the operation it was, so that what others did to the parent meanwhile is kept."""
    old = [] if before is _ABSENT else before
    if isinstance(after, list) and isinstance(old, list):
        start = _place_of(old, after)
        if start is not None and len(after) > len(old):
            for value in reversed(after[:start]):
                parent.prepend(key, value, ttl)
            for value in after[start + len(old) :]:
                parent.append(key, value, ttl)
            return
    number = 0 if before is _ABSENT else before
    if ttl is None and _is_number(after) and _is_number(number):
        parent.atomic_add(key, after - number)
        return
    parent.set(key, after, ttl)


def _place_of(part: list[Any], whole: list[Any]) -> int | None:
    """Where a list is found within another one."""
    starts = range(len(whole) - len(part) + 1)
    found = (start for start in starts if not part or whole[start] == part[0])
    return next((start for start in found if whole[start : start + len(part)] == part), None)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _wrappers_in(tasks: Iterable[Any]) -> Iterable[TaskWrapper]:
    """Every task with parameters, members of groups included."""
    for task in tasks:
        if is_group(task):
            yield from _wrappers_in(task.tasks)
        elif isinstance(task, TaskWrapper) and task.resolve_keyword_args:
            yield task


def as_shared_fields(channel: GroupChannel) -> Mapping[str, Any]:
    """The part of what members share that is about the channel."""
    return {
        "channel": channel.name,
        "channel_prefix": channel.prefix,
        "unsendable": channel.unsendable,
        "overlay": channel.overlay,
        "seeds": channel.seeds,
    }
