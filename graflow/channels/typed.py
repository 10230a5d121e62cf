"""Channels whose messages are checked against a TypedDict."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, ClassVar, ForwardRef, get_type_hints

from graflow.channels.base import Channel, ChannelLock
from graflow.channels.schemas import (
    CycleNotificationMessage,
    DataTransferMessage,
    TaskErrorMessage,
    TaskProgressMessage,
    TaskResultMessage,
    WorkflowStateMessage,
)
from graflow.exceptions import ConfigError

_CHECKED_TYPES: dict[str, type] = {kind.__name__: kind for kind in (str, int, float, bool, list, dict)}


class TypedChannel(Channel):
    """A channel that takes and gives only messages which conform to a TypedDict.

    A message conforms when it is a dict with every required field and no other than the declared ones, and its fields
    annotated exactly `str`, `int`, `float`, `bool`, `list` or `dict` are instances of that, or ints for `float`; other
    annotations are not checked. Elements of lists (`append`, `prepend`) are not checked either.

    Attributes:
        message_type: The TypedDict.

    Raises:
        ValueError: `message_type` is no TypedDict.
    """

    def __init__(self, channel: Channel, message_type: type) -> None:
        super().__init__(channel.name)
        self.message_type = _require_typed_dict(message_type)
        self._channel = channel

    def send(self, key: str, message: Mapping[str, Any], ttl: float | None = None) -> None:
        """Store a message.

        Raises:
            TypeError: It does not conform.
        """
        self._store("Message", key, message, ttl)

    def receive(self, key: str, default: object = None) -> Any:
        """The message, or `default` when there is none or what is there does not conform."""
        value = self._channel.get(key)
        return value if _validate_typed_dict(value, self.message_type) else default

    def set(self, key: str, value: object, ttl: float | None = None) -> None:
        """Store a message.

        Raises:
            TypeError: It does not conform.
        """
        self._store("Value", key, value, ttl)

    def get(self, key: str, default: object = None) -> Any:
        return self.receive(key, default)

    def delete(self, key: str) -> bool:
        return self._channel.delete(key)

    def exists(self, key: str) -> bool:
        return self._channel.exists(key)

    def keys(self) -> list[str]:
        return self._channel.keys()

    def clear(self) -> None:
        self._channel.clear()

    def append(self, key: str, value: object, ttl: float | None = None) -> int:
        return self._channel.append(key, value, ttl)

    def prepend(self, key: str, value: object, ttl: float | None = None) -> int:
        return self._channel.prepend(key, value, ttl)

    def atomic_add(self, key: str, amount: float = 1) -> int | float:
        return self._channel.atomic_add(key, amount)

    def lock(self, key: str, timeout: float = 10.0) -> ChannelLock:
        return self._channel.lock(key, timeout)

    def _store(self, noun: str, key: str, value: object, ttl: float | None) -> None:
        if not _validate_typed_dict(value, self.message_type):
            raise TypeError(f"{noun} does not conform to {self.message_type.__name__} (key {key!r})")
        self._channel.set(key, value, ttl)


class ChannelTypeRegistry:
    """The message types of this process by name."""

    _types: ClassVar[dict[str, type]] = {
        "task_result": TaskResultMessage,
        "task_progress": TaskProgressMessage,
        "task_error": TaskErrorMessage,
        "workflow_state": WorkflowStateMessage,
        "data_transfer": DataTransferMessage,
        "cycle_notification": CycleNotificationMessage,
    }

    @classmethod
    def register(cls, name: str, message_type: type) -> None:
        """Add a message type, or replace the one of that name.

        Raises:
            ValueError: It is no TypedDict.
        """
        cls._types[name] = _require_typed_dict(message_type)

    @classmethod
    def get(cls, name: str) -> type | None:
        return cls._types.get(name)

    @classmethod
    def create_channel(cls, channel: Channel, type_name: str) -> TypedChannel:
        """A typed view of a channel.

        Raises:
            ConfigError: No message type has that name.
        """
        message_type = cls._types.get(type_name)
        if message_type is None:
            known = ", ".join(sorted(cls._types))
            raise ConfigError(f"Message type '{type_name}' not registered; register it or use one of: {known}")
        return TypedChannel(channel, message_type)


def _is_typed_dict(cls: Any) -> bool:
    return isinstance(cls, type) and issubclass(cls, dict) and hasattr(cls, "__required_keys__")


def _validate_typed_dict(data: object, cls: type) -> bool:
    """Whether the data conforms to a TypedDict."""
    if not isinstance(data, dict):
        return False
    fields, required, checked = _shape(cls)
    return (
        required <= data.keys()
        and data.keys() <= fields
        and all(_fits(data[name], kind) for name, kind in checked if name in data)
    )


def _fits(value: object, kind: type) -> bool:
    """Whether a field holds what type checkers accept for it: an int will do for a float."""
    return isinstance(value, kind) or (kind is float and isinstance(value, int))


def _require_typed_dict(cls: type) -> type:
    if not _is_typed_dict(cls):
        raise ValueError(f"message_type must be a TypedDict, not {cls!r}")
    return cls


@lru_cache(maxsize=256)
def _shape(cls: type) -> tuple[frozenset[str], frozenset[str], tuple[tuple[str, type], ...]]:
    """Fields, required fields, and the fields whose type is checked."""
    try:
        hints = get_type_hints(cls)
    except (NameError, AttributeError, TypeError):
        # An annotation names something local to the function that defines the class, or is no type.
        hints = dict(cls.__annotations__)
    checked = ((name, _checked_type(hint)) for name, hint in hints.items())
    return (
        frozenset(hints),
        frozenset(getattr(cls, "__required_keys__", ())),
        tuple((name, kind) for name, kind in checked if kind is not None),
    )


def _checked_type(hint: object) -> type | None:
    text = hint.__forward_arg__ if isinstance(hint, ForwardRef) else None
    if text is not None:
        return _CHECKED_TYPES.get(text)
    return hint if isinstance(hint, type) and _CHECKED_TYPES.get(hint.__name__) is hint else None
