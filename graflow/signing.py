"""Keys and signatures: HMAC-SHA256 over exactly the bytes that are sent or kept, bound to what they are for.

A signature says that a holder of the key made the bytes for this purpose and place. It is checked in constant time, and
always before anything in the bytes is decoded.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import os
import re
import secrets
import stat
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, Self

from graflow.exceptions import ConfigError, SignatureError
from graflow.secret import Secret, revealed

KEY_VARIABLE: Final = "GRAFLOW_SIGNING_KEY"
KEY_FILE_VARIABLE: Final = "GRAFLOW_SIGNING_KEY_FILE"
MIN_KEY_BYTES: Final = 32
_DERIVED: Final = 256  # places whose keys are remembered
_FRAME: Final = b"graflow-hmac-sha256-1"
_KEY_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_FORM: Final = "write 'key id:base64' pairs, at least 32 random bytes each; `graflow keygen` makes one"


class SigningKeys:
    """Keys by id; the first one signs, all verify. Never pickled: a loaded one asks its own process for the keys.

    Args:
        keys: At least one; None for those of this process, which are looked for when they are first needed.
        source: Where they come from: the environment, or "user" for the key of `user`.

    Raises:
        ConfigError: When an id is malformed, a key too short, or none is given.
    """

    def __init__(self, keys: Mapping[str, bytes] | None, *, source: str = KEY_VARIABLE) -> None:
        self._known = None if keys is None else self._checked(keys)
        self._source = source
        self._derived: dict[tuple[str, ...], dict[bytes, bytes]] = {}

    @staticmethod
    def _checked(keys: Mapping[str, bytes]) -> dict[str, bytes]:
        for key_id, key in keys.items():
            if not _KEY_ID.fullmatch(key_id):
                raise ConfigError(f"A key id must consist of letters, digits and '._-'; {_FORM}")
            if len(key) < MIN_KEY_BYTES:
                raise ConfigError(f"The signing key '{key_id}' is shorter than {MIN_KEY_BYTES} bytes; {_FORM}")
        if not keys:
            raise ConfigError(f"No signing key is given; {_FORM}")
        return dict(keys)

    @classmethod
    def parse(cls, text: str, *, source: str = KEY_VARIABLE) -> Self:
        """Keys from `key id:base64` pairs, separated by white space or commas; lines may be comments (`#`).

        Raises:
            ConfigError: When a pair is malformed or a key too short; shows no part of any key.
        """
        keys: dict[str, bytes] = {}
        for line in revealed(text).splitlines():
            if line.lstrip().startswith("#"):
                continue
            for pair in line.replace(",", " ").split():
                key_id, found, encoded = pair.partition(":")
                key = _decoded(encoded)
                if not found or key is None:
                    raise ConfigError(f"A signing key is malformed; {_FORM}")
                if key_id in keys:
                    raise ConfigError("Two signing keys have the same id")
                keys[key_id] = key
        return cls(keys, source=source)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Self | None:
        """Keys of `GRAFLOW_SIGNING_KEY`, else of the file that `GRAFLOW_SIGNING_KEY_FILE` names, else None.

        Raises:
            ConfigError: When they are malformed or the file cannot be read.
        """
        text = environ.get(KEY_VARIABLE)
        if text:
            return cls.parse(text)
        path = environ.get(KEY_FILE_VARIABLE)
        return cls.from_file(path) if path else None

    @classmethod
    def given(cls, text: str | None) -> Self | None:
        """Keys as settings give them, in the form of `parse`; else those that this process knows by now, else None.

        Raises:
            ConfigError: As `parse` and `from_environment`.
        """
        if text is None:
            known = Secret.reference(KEY_VARIABLE)
            return cls.parse(known) if known.is_known() else cls.from_environment()
        return cls.parse(text)

    @classmethod
    def from_file(cls, path: str | Path) -> Self:
        """Keys of a file in the form of `parse`, which must be its owner's alone.

        Raises:
            ConfigError: When it cannot be read, is open to others, or holds no valid key.
        """
        return cls.parse(_private_text(Path(path)))

    @classmethod
    def user(cls) -> Self:
        """The key of this user on this machine, made at its first use.

        It is `graflow/signing.key` below `$XDG_STATE_HOME` or `~/.local/state`, readable by its owner only.

        Raises:
            ConfigError: When the file belongs to somebody else or others may read it.
        """
        path = user_key_path()
        if not path.exists():
            _make_user_key(path)
        if path.stat().st_uid != os.geteuid():
            raise ConfigError(f"The signing key file {path} must belong to you: chown it, or delete it")
        return cls.parse(_private_text(path), source="user")

    @property
    def ids(self) -> list[str]:
        """Ids of all keys, the signing one first."""
        return list(self._table())

    def sign(self, payload: bytes, *, purpose: str, bound_to: Sequence[str] = ()) -> str:
        """The signature of a payload.

        Args:
            payload: Exactly the bytes that the receiver will verify.
            purpose: What they are; a signature for one purpose holds for no other.
            bound_to: Where they belong, for example run, group and index.

        Returns:
            `<key id>:<base64url mac>`.
        """
        key_id, key = next(iter(self._table().items()))
        return f"{key_id}:{_to_text(_mac(key_id, key, payload, purpose, bound_to))}"

    def verify(self, payload: bytes, signature: str, *, purpose: str, bound_to: Sequence[str] = ()) -> None:
        """Return when the signature holds.

        Raises:
            SignatureError: When it is malformed, made with an unknown key, or does not hold.
        """
        key_id, _, encoded = signature.partition(":") if type(signature) is str else ("", "", "")
        if not _KEY_ID.fullmatch(key_id):
            raise SignatureError("The signature is missing or malformed")
        key = self._table().get(key_id)
        if key is None:
            raise SignatureError(f"The signature was made with the unknown key '{key_id}'; known are {self.ids}")
        expected = _to_text(_mac(key_id, key, payload, purpose, bound_to))
        if not hmac.compare_digest(expected.encode(), encoded.encode("utf-8", "replace")):
            raise SignatureError(f"The signature does not hold: the {purpose} was changed, or made for another place")

    def derive(self, purpose: str, *, bound_to: Sequence[str]) -> dict[bytes, bytes]:
        """Keys for one purpose and place by id, the signing one first: what they sign holds nowhere else."""
        place = (purpose, *bound_to)
        found = self._derived.get(place)
        if found is None:
            found = {
                key_id.encode(): _mac(key_id, key, b"", f"key for {purpose}", bound_to)
                for key_id, key in self._table().items()
            }
            if len(self._derived) >= _DERIVED:
                self._derived.clear()  # those in use are soon made again
            self._derived[place] = found
        return found

    def _table(self) -> dict[str, bytes]:
        if self._known is None:
            loaded = type(self).user() if self._source == "user" else self._from_process()
            self._known = loaded._table()
        return self._known

    @classmethod
    def _from_process(cls) -> Self:
        known = Secret.reference(KEY_VARIABLE)
        keys = None if known.is_known() else cls.from_environment()
        return keys if keys is not None else cls.parse(known)

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), None, source=self._source), ()

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _memo: dict[int, Any]) -> Self:
        return self

    def __repr__(self) -> str:
        return f"SigningKeys(ids={list(self._known or ())})"


def generate_key(key_id: str | None = None) -> str:
    """A new key as `key id:base64`, from 32 random bytes; the id is random when not given.

    Raises:
        ConfigError: When the id holds other characters than letters, digits and `._-`.
    """
    key_id = key_id if key_id is not None else f"k{secrets.token_hex(4)}"
    if not _KEY_ID.fullmatch(key_id):
        raise ConfigError("A key id must consist of letters, digits and '._-'")
    return f"{key_id}:{base64.b64encode(secrets.token_bytes(MIN_KEY_BYTES)).decode('ascii')}"


def write_key_file(path: Path, key: str) -> None:
    """Write a key to a new file that only its owner may read.

    Raises:
        ConfigError: When there is a file of that name, or none can be made.
    """
    try:
        with open(path, "x", encoding="ascii", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            os.fchmod(file.fileno(), 0o600)  # whatever the umask is
            file.write(key + "\n")
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError as error:
        raise ConfigError(f"{path} is there already; name another file, or remove it first") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error


def _private_text(path: Path) -> str:
    """What a file holds that nobody else may read or change.

    Raises:
        ConfigError: When others may, or it cannot be read.
    """
    try:
        with path.open(encoding="utf-8") as file:
            found = os.fstat(file.fileno())
            mode = stat.S_IMODE(found.st_mode)
            is_foreign = found.st_uid not in {os.geteuid(), 0}
            # What root lends to a group, as secrets are mounted into containers, its members could not read otherwise.
            is_lent = found.st_uid == 0 != os.geteuid() and not mode & 0o027
            if is_foreign or (mode & 0o077 and not is_lent):
                whose = f"belongs to user {found.st_uid}" if is_foreign else f"has mode {mode:04o}"
                raise ConfigError(
                    f"The signing key file {path} {whose}, so that others may read or change it; it must be yours with "
                    "mode 0600: chmod 600 it, or, if somebody may have read it, make another one with graflow keygen "
                    "--out FILE"
                )
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The signing key file {path} cannot be read: {type(error).__name__}") from error


def user_key_path() -> Path:
    """Where the key of `SigningKeys.user` is kept."""
    state = os.environ.get("XDG_STATE_HOME", "")
    base = Path(state) if Path(state).is_absolute() else Path.home() / ".local" / "state"
    return base / "graflow" / "signing.key"


def _make_user_key(path: Path) -> None:
    """Write a key whole or not at all; of two processes at once, the first one's stays."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    write_key_file(draft, generate_key(f"user-{secrets.token_hex(4)}"))
    try:
        os.link(draft, path)
    except FileExistsError:
        return
    finally:
        draft.unlink()


def _mac(key_id: str, key: bytes, payload: bytes, purpose: str, bound_to: Sequence[str]) -> bytes:
    """HMAC of all parts, each behind its length, so that no two lists of parts give the same bytes."""
    parts = (_FRAME, key_id.encode(), purpose.encode(), *(place.encode() for place in bound_to), payload)
    framed = [piece for part in parts for piece in (len(part).to_bytes(8, "big"), part)]
    return hmac.digest(key, b"".join(framed), "sha256")


def _to_text(mac: bytes) -> str:
    return base64.urlsafe_b64encode(mac).rstrip(b"=").decode("ascii")


def _decoded(text: str) -> bytes | None:
    try:
        return base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError):
        return None
