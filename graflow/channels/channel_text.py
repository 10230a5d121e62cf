"""The values of one channel as JSON text, sealed with a key where there is one."""

from __future__ import annotations

import json
from typing import Any

from graflow.channels.base import NOT_A_LIST
from graflow.codec import decode, encode, parse_json, to_jsonable
from graflow.core.serialization import signed_pickles
from graflow.exceptions import PayloadError, SignatureError
from graflow.seals import Seal
from graflow.signing import SigningKeys
from graflow.values.pickles import Pickles

_OF_A_NUMBER = b"-0123456789"


class ChannelText:
    """Writes and reads the values under the keys of a channel.

    With keys each text is sealed for its key, and so is each element of a list; a number is not, since the server adds
    to it, and is nothing but a number when it is read.

    Args:
        prefix: The namespace that the channel lies in.
        name: Of the channel.
        keys: Seal and open values and pickles; those of this process when None.
    """

    def __init__(self, prefix: str, name: str, keys: SigningKeys | None) -> None:
        self._name = name
        self._keys = keys or SigningKeys.given(None)
        place = (prefix, name)
        self._seal = Seal({} if self._keys is None else self._keys.derive("channel", bound_to=place))

    @property
    def is_signed(self) -> bool:
        """Whether there are keys."""
        return self._keys is not None

    def described(self, key: str) -> str:
        """A key in a sentence."""
        return f"key {key!r} of channel {self._name!r}"

    def encoded(self, key: str, value: object) -> bytes:
        """The text of a value.

        Raises:
            TypeError: When it cannot be kept.
        """
        text = self._json(key, value)
        return text if text[:1] in _OF_A_NUMBER else self._seal.seal(text, "value", _quoted(key))

    def encoded_element(self, key: str, value: object) -> bytes:
        """The text of an element of a list; errors as those of `encoded`."""
        return self._seal.seal(self._json(key, value), "element", _quoted(key))

    def _json(self, key: str, value: object) -> bytes:
        if value is None or type(value) in {str, bool, int}:
            return encode(value).encode()
        return encode(value, where=self.described(key), pickles=self.pickles_of(key)).encode()

    def decoded(self, key: str, reply: bytes | list[bytes] | int) -> Any:
        """The value of a text, or of the texts of a list, as Redis gives them.

        Raises:
            PayloadError: When it is none that a channel has written; with keys, none that a holder of one has written.
        """
        if isinstance(reply, int):
            raise PayloadError(f"{self.described(key)} holds neither text nor a list: something else wrote it")
        pickles = self.pickles_of(key)
        try:
            if isinstance(reply, bytes):
                return decode(self._opened(key, reply), pickles=pickles)
            place = _quoted(key)
            return [decode(self._seal.open(text, "element", place), pickles=pickles) for text in reply]
        except SignatureError as error:
            raise PayloadError(
                f"{self.described(key)} is not believed: {error}. Whoever writes to a channel needs the key: as "
                "signing_key in its configuration, or as GRAFLOW_SIGNING_KEY or GRAFLOW_SIGNING_KEY_FILE",
                error,
            ) from error
        except PayloadError as error:
            raise PayloadError(f"{self.described(key)} cannot be read", error) from error

    def elements(self, key: str, reply: bytes) -> list[bytes]:
        """The elements of a list that was kept as one text, each as a text of its own that is the same to the letter.

        Raises:
            TypeError: When the text is no list.
            PayloadError: As `decoded`.
        """
        if not isinstance(self.decoded(key, reply), list):
            raise TypeError(f"{self.described(key)} is something else: {NOT_A_LIST}")
        texts = [
            json.dumps(item, allow_nan=False, separators=(",", ":")) for item in parse_json(self._opened(key, reply))
        ]
        place = _quoted(key)
        return [self._seal.seal(text.encode(), "element", place) for text in texts]

    def _opened(self, key: str, reply: bytes) -> bytes:
        return reply if reply[:1] in _OF_A_NUMBER else self._seal.open(reply, "value", _quoted(key))

    def check(self, key: str, value: object) -> None:
        """Make sure that a value can be kept.

        Raises:
            TypeError: When it cannot; the text names place and type.
        """
        to_jsonable(value, where=f"channel key '{key}'", pickles=self.pickles_of(key))

    def pickles_of(self, key: str) -> Pickles:
        """Takes what has no other form, bound to this key."""
        return signed_pickles(self._keys, "channel", self._name, key)


def _quoted(key: str) -> str:
    """A key without line breaks."""
    return encode(key)
