"""Text that is used in this process and shown, stored and sent nowhere."""

from __future__ import annotations

import os
from typing import Any, Final, Self, SupportsIndex

from graflow.exceptions import ConfigError

MASK: Final = "***"

_provided: dict[str, str] = {}


class Secret(str):
    """A password, token or URL with credentials.

    Compares, hashes and behaves as the text it holds, but prints as `***`, also where C code reads it (JSON encoders).
    A pickle holds its name only; the loaded one takes its value from `provide_secret` or from the environment variable
    of that name, when it is first needed.

    Args:
        value: The text.
        name: The environment variable that holds it in other processes.
    """

    __slots__ = ("_value", "name")

    _value: str | None
    name: str | None

    def __new__(cls, value: str, name: str | None = None) -> Self:
        return cls._made(revealed(value), name or getattr(value, "name", None))

    @classmethod
    def reference(cls, name: str | None) -> Self:
        """A secret known by name only."""
        return cls._made(None, name)

    @classmethod
    def _made(cls, value: str | None, name: str | None) -> Self:
        made = super().__new__(cls, MASK)
        made._value = value
        made.name = name
        return made

    def reveal(self) -> str:
        """The text itself.

        Raises:
            ConfigError: When it was loaded from a pickle and this process does not know it; names the secret.
        """
        known = self._known()
        if known is None:
            if self.name is None:
                raise ConfigError("A secret without a name was left out of a pickle; give it again in the settings")
            raise ConfigError(
                f"The secret {self.name} is not known in this process: set the environment variable {self.name}, or "
                f"call graflow.redis.config.provide_secret({self.name!r}, ...)"
            )
        return known

    def _known(self) -> str | None:
        if self._value is not None or self.name is None:
            return self._value
        return _provided.get(self.name) or os.environ.get(self.name) or None

    def is_known(self) -> bool:
        """Whether `reveal` has something to return."""
        return self._known() is not None

    def __str__(self) -> str:
        return MASK

    def __repr__(self) -> str:
        return repr(MASK)

    def __format__(self, spec: str) -> str:
        return format(MASK, spec)

    def __eq__(self, other: object) -> bool:
        mine = self._known()
        if isinstance(other, Secret):
            return self is other or (mine is not None and mine == other._known())
        return mine == other if isinstance(other, str) else NotImplemented

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self._known())

    def __bool__(self) -> bool:
        return self._known() != ""

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _memo: dict[int, Any]) -> Self:
        return self

    def __reduce_ex__(self, _protocol: SupportsIndex) -> tuple[Any, ...]:
        return type(self).reference, (self.name,)


def revealed(value: Any) -> Any:
    """The text of a secret; anything else as it is."""
    return value.reveal() if isinstance(value, Secret) else value


def provide_secret(name: str, value: str | None) -> None:
    """Tell this process a secret by its name, before the environment is asked; None forgets it."""
    if value is None:
        _provided.pop(name, None)
    else:
        _provided[name] = revealed(value)


def _delegate(name: str) -> None:
    plain = getattr(str, name)

    def method(self: Secret, *args: Any, **kwargs: Any) -> Any:
        return plain(self.reveal(), *args, **kwargs)

    method.__name__ = name
    setattr(Secret, name, method)


for _name in dir(str):
    if callable(getattr(str, _name)) and _name not in {
        *dir(object),
        *vars(Secret),
        "__getnewargs__",
        "__rmod__",
        "maketrans",
    }:
        _delegate(_name)
for _name in ("__lt__", "__le__", "__gt__", "__ge__"):
    _delegate(_name)
