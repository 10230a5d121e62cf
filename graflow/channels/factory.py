"""Channels by the name of their storage."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any, ClassVar

from graflow.channels.base import Channel
from graflow.channels.memory_channel import MemoryChannel
from graflow.channels.redis_channel import RedisChannel
from graflow.exceptions import ConfigError
from graflow.redis.config import concerns_server, connection_of
from graflow.redis.named import usual_prefix


def _redis_channel(name: str, **config: object) -> RedisChannel:
    """Settings that name no server, or prefix, mean the same here as for a group: that of the project."""
    config.setdefault("key_prefix", usual_prefix())
    return RedisChannel(name, **(config if concerns_server(config) else {**config, **connection_of(config)}))


class ChannelFactory:
    """The kinds of storage that this process knows: `memory`, `redis`, and what was registered."""

    _backends: ClassVar[dict[str, Callable[..., Channel]]] = {"memory": MemoryChannel, "redis": _redis_channel}

    @classmethod
    def create_channel(cls, backend: str, name: str, **config: object) -> Channel:
        """A channel of that kind.

        Args:
            backend: The kind of storage.
            name: Of the channel.
            config: What its class takes besides the name.

        Raises:
            ConfigError: The kind is unknown.
        """
        return cls.from_config(backend, name, config)

    @classmethod
    def from_config(cls, backend: str, name: str, config: Mapping[str, Any]) -> Channel:
        """`create_channel` for settings with any keys; a `name` among them is not the channel's."""
        make = cls._backends.get(backend) if isinstance(backend, str) else None
        if make is None:
            raise ConfigError(f"Unknown channel backend {backend!r}; known are: {', '.join(cls._backends)}")
        return make(name, **{key: value for key, value in config.items() if key != "name"})

    @classmethod
    def register_backend(cls, name: str, channel_class: Callable[..., Channel]) -> None:
        """Add a kind of storage, or replace the one of that name; `make` is called with the channel's name."""
        cls._backends[name] = channel_class

    @classmethod
    def get_available_backends(cls) -> list[str]:
        """The kinds that can be used here: `redis` only where redis-py is installed."""
        return [backend for backend in cls._backends if cls.is_backend_available(backend)]

    @classmethod
    def is_backend_available(cls, backend: str) -> bool:
        make = cls._backends.get(backend)
        return make is not None and (make is not _redis_channel or find_spec("redis") is not None)
