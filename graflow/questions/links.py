"""Signed links: whoever has one may answer one question as one person, until its time is over."""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Final, NamedTuple

from graflow.exceptions import SignatureError
from graflow.signing import SigningKeys

_PURPOSE: Final = "answer"
_LONGEST: Final = 2048  # characters
_ID: Final = re.compile(r"[A-Za-z0-9-]{1,100}")


class Link(NamedTuple):
    """What a link says.

    Attributes:
        question_id: The question.
        person: Who answers with it.
        until: Until when it holds, seconds since the epoch.
        roles: The roles in which they are asked, as whoever made the link says.
    """

    question_id: str
    person: str
    until: float
    roles: tuple[str, ...] = ()


def link_token(keys: SigningKeys, link: Link) -> str:
    """The end of the address of a link."""
    payload = _encoded(json.dumps(link, separators=(",", ":")).encode())
    return f"{payload}.{keys.sign(payload.encode(), purpose=_PURPOSE).replace(':', '~')}"


def link_of(keys: SigningKeys, token: str, at: float) -> Link:
    """What a token says, when it was made with these keys and holds.

    Raises:
        SignatureError: It was not, or its time is over.
    """
    link = signed_link(keys, token)
    if at >= link.until:
        raise SignatureError("The time of this link is over; ask for another one")
    return link


def signed_link(keys: SigningKeys, token: str) -> Link:
    """What a token says that was made with these keys, whether or not its time is over.

    Raises:
        SignatureError: It was not.
    """
    payload, _, signature = token[:_LONGEST].partition(".")
    keys.verify(payload.encode("utf-8", "replace"), signature.replace("~", ":", 1), purpose=_PURPOSE)
    link = _link(payload)
    if link is None:
        raise SignatureError("The link is malformed")
    return link


def claimed_link(token: str) -> Link | None:
    """What a token says, whoever has made it; None where that can name no question or nobody."""
    link = _link(token[:_LONGEST].partition(".")[0])
    is_one = link is not None and _ID.fullmatch(link.question_id) and link.person.isprintable()
    return link if is_one else None


def _link(payload: str) -> Link | None:
    try:
        question_id, person, until, roles = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return Link(str(question_id), str(person), float(until), tuple(map(str, roles)))
    except (ValueError, TypeError, RecursionError, OverflowError, binascii.Error):
        return None


def _encoded(payload: bytes) -> str:
    return base64.urlsafe_b64encode(payload).decode().rstrip("=")
