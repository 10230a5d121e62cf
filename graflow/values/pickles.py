"""Values that have no other form, as signed pickles: both sides need the key."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from graflow.exceptions import PayloadError, SignatureError
from graflow.foreign import attempt
from graflow.signing import SigningKeys
from graflow.values.base import parts_of, text_of

_PURPOSE: Final = "value"


@dataclass(slots=True)
class Pickles:
    """Pickles of values that belong to one place.

    Attributes:
        keys: Keys that sign and verify; without any, nothing is pickled and no pickle is loaded.
        bound_to: The place, for example run, group and index.
        dumps: Makes the bytes.
        loads: Makes the value, from bytes whose signature holds.
        fingerprint: Tells values apart where pickles of equal ones may differ; written beside them when given.
    """

    keys: SigningKeys | None
    bound_to: Sequence[str]
    dumps: Callable[[Any], bytes]
    loads: Callable[[bytes], Any]
    fingerprint: Callable[[object], str] | None = None

    def take(self, value: object) -> list[str]:
        """Signature and bytes of a value; the keys are there.

        Raises:
            Exception: Whatever its class raises when it is pickled.
        """
        if self.keys is None:
            raise PayloadError("No signing key is set")
        content = self.dumps(value)
        signature = self.keys.sign(content, purpose=_PURPOSE, bound_to=self.bound_to)
        written = [signature, base64.b64encode(content).decode("ascii")]
        return written if self.fingerprint is None else [*written, self.fingerprint(value)]

    def make(self, content: object) -> Any:
        """The value, when the signature holds for this place.

        Raises:
            PayloadError: When it does not, or the value cannot be loaded here.
        """
        if self.keys is None:
            raise PayloadError(
                "A pickled value is refused because this process has no signing key: set GRAFLOW_SIGNING_KEY here to "
                "the sender's key"
            )
        signature, text, *_ = map(text_of, parts_of(content, 2, 3))
        data = base64.b64decode(text, validate=True)
        try:
            self.keys.verify(data, signature, purpose=_PURPOSE, bound_to=self.bound_to)
        except SignatureError as error:
            raise PayloadError(f"A pickled value is refused: {error}", error) from error

        def refuse(error: Exception) -> NoReturn:
            raise PayloadError(
                f"A pickled value cannot be loaded here: {type(error).__name__}: {error}", error
            ) from error

        return attempt(lambda: self.loads(data), refuse)
