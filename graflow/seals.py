"""What says that a holder of a key made bytes for one place: a mark, the key's id, a MAC, then the bytes themselves."""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from typing import Final

from graflow.exceptions import SignatureError

_SEALED: Final = b"S"  # what is not sealed begins with another mark
_MAC_BYTES: Final = 32
_LONGEST_ID: Final = 64


class Seal:
    """Seals what is written and opens what is read; a seal holds for its table, purpose and place alone.

    Args:
        table: Keys by id, the signing one first, as `SigningKeys.derive` makes them for one thing; with none nothing is
            sealed, and what others have sealed is read unverified.
    """

    def __init__(self, table: Mapping[bytes, bytes]) -> None:
        self._table = table

    def seal(self, content: bytes, purpose: str, *place: str) -> bytes:
        """The content with its seal in front; the content itself without keys.

        Args:
            content: What is to be believed.
            purpose: What it is, in one word.
            place: Where it belongs, such as an index; no part of it holds a line break, and only the last one spaces.
        """
        for key_id, key in self._table.items():  # the first one signs
            return b"".join((_SEALED, key_id, b":", _mac(key, content, purpose, place), content))
        return content

    def open(self, sealed: bytes, purpose: str, *place: str) -> bytes:
        """The content, once its seal holds; nothing of it is decoded before that.

        Raises:
            SignatureError: When this process has keys, and the seal is missing or does not hold.
        """
        if not self._table:
            return content_of(sealed)
        if sealed[:1] != _SEALED:
            raise SignatureError(f"The {purpose} is not signed: whoever wrote it has no signing key, this process has")
        key_id, start = _head_of(sealed)
        key = self._table.get(key_id)
        if key is None:
            raise SignatureError(f"The {purpose} is signed with a key that is not known here")
        content = sealed[start:]
        if not hmac.compare_digest(_mac(key, content, purpose, place), sealed[start - _MAC_BYTES : start]):
            raise SignatureError(f"The signature does not hold: the {purpose} was changed, or made for another place")
        return content


def content_of(sealed: bytes) -> bytes:
    """The content of what may be sealed; no seal is verified.

    Raises:
        SignatureError: When the seal is malformed.
    """
    return sealed[_head_of(sealed)[1] :] if sealed[:1] == _SEALED else sealed


def _head_of(sealed: bytes) -> tuple[bytes, int]:
    """The key's id, and where the content begins."""
    colon = sealed.find(b":", 1, _LONGEST_ID + 2)
    start = colon + 1 + _MAC_BYTES
    if colon < 0 or len(sealed) < start:
        raise SignatureError("A signature is malformed")
    return sealed[1:colon], start


def _mac(key: bytes, content: bytes, purpose: str, place: Sequence[str]) -> bytes:
    return hmac.digest(key, b"%s\n%s" % (" ".join((purpose, *place)).encode(), content), "sha256")
