"""Text that is used in this process and shown, stored and sent nowhere."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, Final, Self, SupportsIndex, TypeVar, cast

from graflow.exceptions import ConfigError

MASK: Final = "***"

_Method = TypeVar("_Method", bound=Callable[..., Any])

_provided: dict[str, str] = {}


def _on_text(method: _Method) -> _Method:
    """The method of `str` as one of `Secret`, which applies it to what the secret reveals."""

    @wraps(method)
    def applied(secret: Secret, /, *args: Any, **kwargs: Any) -> Any:
        return method(secret.reveal(), *args, **kwargs)

    return cast("_Method", applied)


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

    # What a text can do, each on the text itself: `str` alone would do it on the mask.
    __add__ = _on_text(str.__add__)
    __contains__ = _on_text(str.__contains__)
    __ge__ = _on_text(str.__ge__)
    __getitem__ = _on_text(str.__getitem__)
    __gt__ = _on_text(str.__gt__)
    __iter__ = _on_text(str.__iter__)
    __le__ = _on_text(str.__le__)
    __len__ = _on_text(str.__len__)
    __lt__ = _on_text(str.__lt__)
    __mod__ = _on_text(str.__mod__)
    __mul__ = _on_text(str.__mul__)
    __rmul__ = _on_text(str.__rmul__)
    capitalize = _on_text(str.capitalize)
    casefold = _on_text(str.casefold)
    center = _on_text(str.center)
    count = _on_text(str.count)
    encode = _on_text(str.encode)
    endswith = _on_text(str.endswith)
    expandtabs = _on_text(str.expandtabs)
    find = _on_text(str.find)
    format = _on_text(str.format)
    format_map = _on_text(str.format_map)
    index = _on_text(str.index)
    isalnum = _on_text(str.isalnum)
    isalpha = _on_text(str.isalpha)
    isascii = _on_text(str.isascii)
    isdecimal = _on_text(str.isdecimal)
    isdigit = _on_text(str.isdigit)
    isidentifier = _on_text(str.isidentifier)
    islower = _on_text(str.islower)
    isnumeric = _on_text(str.isnumeric)
    isprintable = _on_text(str.isprintable)
    isspace = _on_text(str.isspace)
    istitle = _on_text(str.istitle)
    isupper = _on_text(str.isupper)
    join = _on_text(str.join)
    ljust = _on_text(str.ljust)
    lower = _on_text(str.lower)
    lstrip = _on_text(str.lstrip)
    partition = _on_text(str.partition)
    removeprefix = _on_text(str.removeprefix)
    removesuffix = _on_text(str.removesuffix)
    replace = _on_text(str.replace)
    rfind = _on_text(str.rfind)
    rindex = _on_text(str.rindex)
    rjust = _on_text(str.rjust)
    rpartition = _on_text(str.rpartition)
    rsplit = _on_text(str.rsplit)
    rstrip = _on_text(str.rstrip)
    split = _on_text(str.split)
    splitlines = _on_text(str.splitlines)
    startswith = _on_text(str.startswith)
    strip = _on_text(str.strip)
    swapcase = _on_text(str.swapcase)
    title = _on_text(str.title)
    translate = _on_text(str.translate)
    upper = _on_text(str.upper)
    zfill = _on_text(str.zfill)


def revealed(value: object) -> Any:
    """The text of a secret; anything else as it is."""
    return value.reveal() if isinstance(value, Secret) else value


def provided_secrets() -> dict[str, str]:
    """What `provide_secret` has told this process, by name."""
    return _provided


def provide_secret(name: str, value: str | None) -> None:
    """Tell this process a secret by its name, before the environment is asked; None forgets it."""
    if value is None:
        _provided.pop(name, None)
    else:
        _provided[name] = revealed(value)


# -- what is shown of data ---------------------------------------------------------------------------------------------

_SECRET_KEY: Final = re.compile(
    r"pass(word|wd|phrase)?$|secret|token$|api_?key|access_?key|private_?key|credential|^auth(orization)?$",
    re.IGNORECASE,
)


def is_secret_key(key: str) -> bool:
    """Whether values under a key of this name are not shown."""
    return _SECRET_KEY.search(key) is not None


def masked(value: Any) -> Any:
    """Plain JSON without the values under keys that look secret."""
    if isinstance(value, Mapping):
        return {
            key: MASK if is_secret_key(str(key)) and item is not None else masked(item) for key, item in value.items()
        }
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [masked(item) for item in value]
    return value
