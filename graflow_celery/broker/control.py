"""Celery's remote control where there is a key: commands that change a worker are signed, and obeyed once.

Looking at a worker needs no key, nor does asking for events, which monitors live on.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from celery.app.control import Control
from celery.worker.control import Panel
from kombu import pidbox
from kombu.utils.uuid import uuid

from graflow.exceptions import PayloadError, SignatureError
from graflow.signing import SigningKeys
from graflow.text.shown import get_logger
from graflow_celery.wire.payload import canonical

_log = get_logger(__name__)

_PURPOSE: Final = "control"
_LIFE: Final = 120.0  # seconds for which a command may be on its way, clocks that differ included
_REMEMBERED: Final = 10_000  # commands
_FOR_ALL: Final = frozenset({"enable_events", "disable_events", "heartbeat"})
_SIGNED_PARTS: Final = ("method", "arguments", "destination", "pattern", "matcher", "sent_at", "nonce")


def needs_signature(command: object, pattern: object = None) -> bool:
    """Whether a command changes what a worker does.

    `hello` brings what others have revoked, and a pattern of names may take its reader for ever.
    """
    if not isinstance(command, str) or command == "hello" or pattern:
        return True
    told = Panel.meta.get(command)
    return not (command in _FOR_ALL or (told is not None and told.type == "inspect"))


def _signed_part(body: Mapping[str, Any]) -> bytes:
    return canonical({name: body.get(name) for name in _SIGNED_PARTS}, "a command")


class _SigningProducer:
    """Adds a signature to each command that needs one; replies pass."""

    def __init__(self, producer: Any, keys: Callable[[], SigningKeys | None]) -> None:
        self._producer = producer
        self._keys = keys

    def publish(self, message: dict[str, Any], **options: Any) -> Any:
        if "method" in message and needs_signature(message["method"], message["pattern"]):
            keys = self._keys()
            if keys is not None:
                message.update(sent_at=time.time(), nonce=uuid())
                message["signature"] = keys.sign(_signed_part(message), purpose=_PURPOSE)
        return self._producer.publish(message, **options)


class VerifyingNode(pidbox.Node):
    """A worker's end of remote control."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._obeyed: OrderedDict[str, None] = OrderedDict()

    def handle_message(self, body: Any, message: Any = None) -> Any:
        keys = None
        if needs_signature(body.get("method"), body.get("pattern")):
            mailbox: Any = self.mailbox
            keys = mailbox.keys()
        if keys is not None:
            try:
                self._verify(body, keys)
            except (SignatureError, PayloadError) as error:
                return self._refuse(body, str(error))
        return super().handle_message(body, message)

    def _verify(self, body: Mapping[str, Any], keys: SigningKeys) -> None:
        """Return when a command is signed, of now, and new."""
        if "signature" not in body:
            raise SignatureError(
                "it is not signed, and this worker has a signing key; give GRAFLOW_SIGNING_KEY to whoever sends it"
            )
        keys.verify(_signed_part(body), body["signature"], purpose=_PURPOSE)
        if abs(time.time() - body["sent_at"]) > _LIFE:
            raise SignatureError(f"it was sent more than {_LIFE:g} s ago, or by a clock that differs by as much")
        if body["nonce"] in self._obeyed:
            raise SignatureError("it was obeyed before")
        self._obeyed[body["nonce"]] = None
        if len(self._obeyed) > _REMEMBERED:
            self._obeyed.popitem(last=False)

    def _refuse(self, body: Mapping[str, Any], why: str) -> None:
        named, reply_to = body.get("destination"), body.get("reply_to")
        if isinstance(named, list) and named and self.hostname not in named:
            return
        _log.warning("Command %.100s is refused: %s", body.get("method"), why)
        if isinstance(reply_to, dict) and {"exchange", "routing_key"} <= reply_to.keys():
            place = {name: reply_to[name] for name in ("exchange", "routing_key")}
            self.reply({self.hostname: {"error": f"refused: {why}"}}, ticket=body.get("ticket"), **place)


class Mailbox(pidbox.Mailbox):
    """Signs the commands that need it."""

    node_cls = VerifyingNode
    keys: Callable[[], SigningKeys | None] = staticmethod(lambda: None)

    @contextmanager
    def producer_or_acquire(self, producer: Any = None, channel: Any = None) -> Iterator[_SigningProducer]:
        with super().producer_or_acquire(producer, channel) as held:
            yield _SigningProducer(held, self.keys)


class SignedControl(Control):
    """Remote control of an application's workers."""

    Mailbox = Mailbox

    def __init__(self, app: Any = None) -> None:
        super().__init__(app)
        self.mailbox.keys = lambda: app.graflow_settings.keys
