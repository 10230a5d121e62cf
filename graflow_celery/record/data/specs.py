"""The specification of a group as text, signed by whoever opens the group and believed only with that signature."""

from __future__ import annotations

import secrets
from functools import lru_cache
from typing import Final, NamedTuple

from graflow.exceptions import GraflowRuntimeError, GroupNotFoundError, PayloadError, SignatureError
from graflow.signing import SigningKeys
from graflow_celery.errors import RecordDamagedError
from graflow_celery.record.data.groups import GroupSpec

_PURPOSE: Final = "group"
_MARK: Final = b',"signature":"'
_END: Final = b'"}'

_CLAIMED: Final = 64  # runs whose specification a process has at hand


class Known(NamedTuple):
    """What was read of a run, and the opener that tells it from what others open under the same id."""

    opener: bytes
    spec: GroupSpec | None


class Specs:
    """Writes and reads specifications; for use from several threads.

    Args:
        keys: Without any nothing is signed, and what others have signed is read unverified.
    """

    def __init__(self, keys: SigningKeys | None) -> None:
        self._keys = keys
        self.read = lru_cache(maxsize=64)(self._read)
        """As `_read`; one group is read many times, so each text is verified and parsed once."""
        self._claimed: dict[str, Known] = {}

    def write(self, spec: GroupSpec) -> str:
        """The specification as JSON text; with keys its last members are a random `nonce` and the `signature`."""
        text = spec.to_json()
        if self._keys is None:
            return text
        body = f'{text[:-1]},"nonce":"{secrets.token_hex(16)}"'
        signature = self._keys.sign(f"{body}}}".encode(), purpose=_PURPOSE, bound_to=(spec.run_id,))
        return f'{body},"signature":"{signature}"}}'

    def known(self, run_id: str) -> Known:
        """What earlier claims have told of a run, so that it need not be sent with each."""
        return self._claimed.get(run_id) or Known(b"", None)

    def claimed(self, run_id: str, opener: bytes, written: bytes, known: Known) -> GroupSpec:
        """The specification that a claim answers: none where it is `known`; raises what `read` raises."""
        if not written and known.spec is not None:
            return known.spec
        spec: GroupSpec = self.read(written, run_id)
        if len(self._claimed) >= _CLAIMED:
            self._claimed.clear()
        self._claimed[run_id] = Known(opener, spec)
        return spec

    def _read(self, text: bytes, run_id: str) -> GroupSpec:
        """The specification in the record of a run.

        Raises:
            GroupNotFoundError: When it is the specification of another run.
            SignatureError: When this process has keys, and the text is unsigned, was changed, or is another run's.
            RecordDamagedError: When it cannot be read.
        """
        if self._keys is not None:
            body, found, rest = text.rpartition(_MARK)
            if not found:
                raise SignatureError(
                    f"Group run '{run_id}' is not signed: whoever opened it has no signing key, this process has"
                )
            signature = rest.removesuffix(_END).decode("ascii", "replace")
            self._keys.verify(body + b"}", signature, purpose=_PURPOSE, bound_to=(run_id,))
        try:
            spec = GroupSpec.from_json(text)
        except (PayloadError, GraflowRuntimeError) as error:
            raise RecordDamagedError(run_id, str(error)) from error
        if spec.run_id != run_id:  # of a deployment whose prefix goes on where ours ends
            raise GroupNotFoundError(run_id)
        return spec
