"""The values of one channel as JSON text, with what has no other form as pickles that are signed for their key."""

from __future__ import annotations

from typing import Any

from graflow.codec import decode, encode, to_jsonable
from graflow.core.serialization import signed_pickles
from graflow.exceptions import PayloadError
from graflow.signing import SigningKeys
from graflow.values.pickles import Pickles


class ChannelText:
    """Writes and reads the values under the keys of a channel.

    Args:
        name: Of the channel.
        keys: Sign and verify pickles; those of the environment when None.
    """

    def __init__(self, name: str, keys: SigningKeys | None) -> None:
        self._name = name
        self._keys = keys

    def described(self, key: str) -> str:
        """A key in a sentence."""
        return f"key {key!r} of channel {self._name!r}"

    def encoded(self, key: str, value: object) -> str:
        """The text of a value.

        Raises:
            TypeError: When it cannot be kept.
        """
        if value is None or type(value) in {str, bool, int}:
            return encode(value)
        return encode(value, where=self.described(key), pickles=self._pickles(key))

    def decoded(self, key: str, reply: bytes | int) -> Any:
        """The value of a text, as Redis gives it.

        Raises:
            PayloadError: When it is none that a channel has written.
        """
        if isinstance(reply, int):
            raise PayloadError(f"{self.described(key)} holds neither text nor a list: something else wrote it")
        try:
            return decode(reply, pickles=self._pickles(key))
        except PayloadError as error:
            raise PayloadError(f"{self.described(key)} cannot be read", error) from error

    def check(self, key: str, value: object) -> None:
        """Make sure that a value can be kept.

        Raises:
            TypeError: When it cannot; the text names place and type.
        """
        to_jsonable(value, where=f"channel key '{key}'", pickles=self._pickles(key))

    def _pickles(self, key: str) -> Pickles:
        if self._keys is None:
            self._keys = SigningKeys.from_environment()
        return signed_pickles(self._keys, "channel", self._name, key)
