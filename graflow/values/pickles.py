"""Values that have no other form, as signed pickles: both sides need the key."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from graflow.exceptions import PayloadError, SignatureError
from graflow.signing import SigningKeys

_PURPOSE: Final = "value"


@dataclass(slots=True)
class Pickles:
    """Pickles of values that belong to one place.

    Attributes:
        keys: Keys that sign and verify; without any, nothing is pickled and no pickle is loaded.
        bound_to: The place, for example run, group and index.
        dumps: Makes the bytes.
        loads: Makes the value, from bytes whose signature holds.
    """

    keys: SigningKeys | None
    bound_to: Sequence[str]
    dumps: Callable[[Any], bytes]
    loads: Callable[[bytes], Any]

    def take(self, value: Any) -> list[str]:
        """Signature and bytes of a value; the keys are there.

        Raises:
            Exception: Whatever its class raises when it is pickled.
        """
        if self.keys is None:
            raise PayloadError("No signing key is set")
        content = self.dumps(value)
        signature = self.keys.sign(content, purpose=_PURPOSE, bound_to=self.bound_to)
        return [signature, base64.b64encode(content).decode("ascii")]

    def make(self, content: Any) -> Any:
        """The value, when the signature holds for this place.

        Raises:
            PayloadError: When it does not, or the value cannot be loaded here.
        """
        if self.keys is None:
            raise PayloadError(
                "A pickled value is refused because this process has no signing key: set GRAFLOW_SIGNING_KEY here to "
                "the sender's key"
            )
        if type(content) is not list or [type(part) for part in content] != [str, str]:
            raise PayloadError("A pickled value must hold signature and bytes as text")
        signature, text = content
        data = base64.b64decode(text, validate=True)
        try:
            self.keys.verify(data, signature, purpose=_PURPOSE, bound_to=self.bound_to)
        except SignatureError as error:
            raise PayloadError(f"A pickled value is refused: {error}", error) from error
        try:
            return self.loads(data)
        except Exception as error:  # signed code of a user, which runs when it is loaded
            raise PayloadError(
                f"A pickled value cannot be loaded here: {type(error).__name__}: {error}", error
            ) from error
