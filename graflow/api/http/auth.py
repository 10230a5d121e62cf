"""Who may do what: tokens with roles, and sessions of browsers made from them."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, NamedTuple

from fastapi import Depends, Request

from graflow.exceptions import ConfigError
from graflow.signing import SigningKeys

OPERATE_VARIABLE: Final = "GRAFLOW_API_TOKEN"
VIEW_VARIABLE: Final = "GRAFLOW_API_VIEW_TOKEN"
SESSION_COOKIE: Final = "graflow_session"
SESSION_SECONDS: Final = 12 * 3600
_SHORTEST: Final = 16
_HASHED: Final = "sha256:"
_LONGEST_NAME: Final = 200
_FILE_LINE: Final = (
    "a line is 'view TOKEN' or 'operate TOKEN', or has sha256:HEX instead of the token, and behind that, for the token "
    "of one person, who that is and which roles they have: 'operate TOKEN ann release,finance'"
)


class Role(StrEnum):
    """What somebody may do: `view` reads, `operate` changes as well."""

    VIEW = "view"
    OPERATE = "operate"

    def includes(self, other: Role) -> bool:
        """Whether it may do all that another one may."""
        return self is other or self is Role.OPERATE


class Token(NamedTuple):
    """What lets somebody in.

    Attributes:
        role: What they may do.
        token: The token, or `sha256:` and its hex digest.
        subject: Who has it; None where that is not said.
        roles: What `of=["role:..."]` of a question may name them by.
    """

    role: Role
    token: str
    subject: str | None = None
    roles: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Identity:
    """Who sent a request.

    Attributes:
        role: What they may do.
        name: What journals call them: the subject of their token; `http` with letters of its digest where it has none.
        is_session: Whether a browser's session says so, which sends itself along with whatever a page asks.
        roles: What questions may name them by, beside their name.
    """

    role: Role
    name: str = "http"
    is_session: bool = False
    roles: frozenset[str] = frozenset()


class Auth:
    """The tokens of a server; without any, everybody who reaches it may do everything.

    A session is a signed text in the browser's cookie, so that it outlives the server, and holds with each server that
    has the token and the keys; it ends after twelve hours, with its token, or here when it is ended. Without keys it is
    signed with the digest of the token, which then lets in whoever reads it in the file of tokens.

    Args:
        tokens: What each holder of one has: role, token, and, where it is somebody's own, their name and their roles.
        keys: Sign sessions; None for none.

    Raises:
        ConfigError: For a token that is too short to be one, or a digest that is none.
    """

    def __init__(self, tokens: Iterable[Token | tuple[Role, str]] = (), keys: SigningKeys | None = None) -> None:
        self._keys = keys
        self._holders: dict[bytes, Identity] = {}
        for given in tokens:
            token = Token(*given)
            digest = _given_digest(token.token)
            holder = Identity(token.role, _subject_of(token) or f"http:{_holder(digest)}", roles=token.roles)
            if self._holders.get(digest, holder) != holder:
                raise ConfigError("A token has two roles, or two holders; give each a token of its own")
            self._holders[digest] = holder
        self._ended: dict[str, int] = {}

    @classmethod
    def configured(cls, token_file: Path | None = None, environment: Mapping[str, str] | None = None) -> Auth:
        """The tokens of a file and of the environment (`GRAFLOW_API_TOKEN`, `GRAFLOW_API_VIEW_TOKEN`), and its keys.

        Raises:
            ConfigError: When the file cannot be read, or holds something else; when the signing keys are malformed.
        """
        known = os.environ if environment is None else environment
        named = ((Role.OPERATE, OPERATE_VARIABLE), (Role.VIEW, VIEW_VARIABLE))
        tokens = [Token(role, known[variable]) for role, variable in named if known.get(variable)]
        given = [*tokens, *(() if token_file is None else _tokens_of(token_file))]
        return cls(given, SigningKeys.from_environment(known) if given else None)

    @property
    def is_open(self) -> bool:
        """Whether there are no tokens."""
        return not self._holders

    def of_token(self, token: str) -> Identity | None:
        """Whose token this is; None for nobody's."""
        found = self._find(_digest(token))
        return None if found is None else self._holders[found]

    def of_session(self, session: str, now: float) -> Identity | None:
        """Whose session this is; None for nobody's, and one that is over."""
        holder, _, rest = session.partition(".")
        until, _, _ = rest.partition(".")
        found = next((digest for digest in self._holders if _holder(digest) == holder), None)
        if found is None or not until.isdecimal() or len(until) > 12 or session in self._ended:
            return None
        body, _, seal = session.rpartition(".")
        told = seal.encode("utf-8", "replace")
        if int(until) <= now or not any(hmac.compare_digest(each.encode(), told) for each in self._seals(found, body)):
            return None
        return replace(self._holders[found], is_session=True)

    def begin_session(self, token: str, now: float) -> str | None:
        """A new session for the holder of a token; None for nobody's."""
        found = self._find(_digest(token))
        if found is None:
            return None
        body = f"{_holder(found)}.{int(now) + SESSION_SECONDS}.{secrets.token_hex(16)}"
        return f"{body}.{self._seals(found, body)[0]}"

    def end_session(self, session: str, now: float) -> None:
        """Have a session hold no longer, as far as this process is asked."""
        if self.of_session(session, now) is not None:
            self._ended = {each: until for each, until in self._ended.items() if until > now}
            self._ended[session] = int(session.split(".")[1])

    def _seals(self, digest: bytes, body: str) -> list[str]:
        """What may stand behind a session: by each key, that which signs first."""
        secrets_of_keys = [b""] if self._keys is None else self._keys.derive("sessions", bound_to=()).values()
        return [_seal(secret + digest, body) for secret in secrets_of_keys]

    def _find(self, digest: bytes) -> bytes | None:
        # All are compared, so that the time tells nothing of which one came near.
        return max((known for known in self._holders if hmac.compare_digest(known, digest)), default=None)


def identity_of(request: Request) -> Identity:
    """Who sent a request that was let in."""
    found: Identity = request.scope["graflow.identity"]
    return found


Asker = Annotated[Identity, Depends(identity_of)]
"""The annotation by which a handler asks who sent a request."""


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _given_digest(token: str) -> bytes:
    if token.startswith(_HASHED):
        try:
            digest = bytes.fromhex(token.removeprefix(_HASHED))
        except ValueError:
            digest = b""
        if len(digest) != hashlib.sha256().digest_size:
            raise ConfigError("sha256: of a token is followed by the 64 hex digits of its digest")
        return digest
    if len(token) < _SHORTEST:
        raise ConfigError(
            f"A token has at least {_SHORTEST} characters, as that of: python -c 'import secrets; "
            "print(secrets.token_urlsafe(32))'"
        )
    return _digest(token)


def _holder(digest: bytes) -> str:
    return hashlib.sha256(b"graflow holder " + digest).hexdigest()[:12]


def _subject_of(token: Token) -> str | None:
    names = [*token.roles, *(() if token.subject is None else (token.subject,))]
    for name in names:
        if not 0 < len(name) <= _LONGEST_NAME or ":" in name or not name.isprintable():
            raise ConfigError(
                f"Who has a token, and their roles, are names of up to 200 characters without ':': {name!r}"
            )
    return token.subject


def _seal(secret: bytes, body: str) -> str:
    return hmac.new(b"graflow session " + secret, body.encode("utf-8", "replace"), hashlib.sha256).hexdigest()


def _tokens_of(path: Path) -> list[Token]:
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The file of tokens {path} cannot be read: {error}") from None
    tokens = []
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if not 2 <= len(words) <= 4 or words[0] not in set(Role):
            raise ConfigError(f"Line {number} of the file of tokens {path}: {_FILE_LINE}")
        subject, roles = (*words[2:], None, None)[:2]
        tokens.append(Token(Role(words[0]), words[1], subject, frozenset((roles or "").split(",")) - {""}))
    if not tokens:
        raise ConfigError(f"The file of tokens {path} holds none: {_FILE_LINE}")
    return tokens
