"""Why a Redis cannot be reached, in words: what is wrong with it, then what to do about it, without secrets."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeVar

from graflow.redis.clients import load_redis
from graflow.redis.config import concerns_server, connection_of, describe_server
from graflow.redis.named import DEFAULT_URL, URL_VARIABLE, usual_place
from graflow.redis.refusals import for_now
from graflow.secret import revealed

_E = TypeVar("_E", bound=BaseException)
Words = Callable[[str], str]

NO_HOST: Final = "there is no host of that name"
_FILES: Final = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")
_PATIENCE: Final = 1.0  # seconds that a server is asked which language it speaks
_TOO_MANY: Final = "max number of clients reached"
_HANGS_UP: Final = ("closed by server", "Connection reset", "Broken pipe")


def why_unreachable(what: str, connection: Mapping[str, Any], error: BaseException, said: Words) -> str:
    """What is wrong and what to do, as a sentence.

    Args:
        what: The server's part, such as `The Redis of record`.
        connection: The connection keys as they were given.
        error: What its client raised.
        said: The words under which the caller gave a connection key, such as `backend_config['url']`.
    """
    parts = connection_of(connection)
    server = describe_server(parts)
    refusal = for_now(error)
    if refusal is not None:
        return f"{what} at {server} {refusal.why}"
    words = _words(connection, said)
    if isinstance(error, load_redis().exceptions.MaxConnectionsError):
        return (
            f"{what} at {server} was not asked: this process has no connection left for it ({error}); "
            f"raise {said('max_connections')}, or wait for fewer things at once"
        )
    if isinstance(error, load_redis().exceptions.AuthenticationError):
        fault = "" if parts.get("password") else ", and none is given"
        return f"{what} at {server} refuses the username or password{fault}; {words['login']}"
    if _answers_oddly(error) and not _speaks_tls(parts):
        return f"What answers at {server} is no Redis ({type(error).__name__}); {words['correct']}"
    fault, remedy = _fault(parts, error)
    return f"{what} at {server} does not answer: {fault}; {remedy.format_map(words)}"


def told(error: _E, connection: Mapping[str, Any]) -> _E:
    """An error of a channel's client, of the same type, with a text that says what is wrong and what to do."""
    if usual_place() and "url" not in connection and describe_server(None) == describe_server(connection):
        connection = {}  # which is how it was found
    return type(error)(why_unreachable("The Redis", connection, error, lambda key: f"its {key}"))


# -- what to do --------------------------------------------------------------------------------------------------------


def _words(connection: Mapping[str, Any], said: Words) -> dict[str, str]:
    """What remedies speak of, under the names by which the caller gave it."""
    if not concerns_server(connection) and usual_place() is None:
        given = f"set {URL_VARIABLE}, without which {DEFAULT_URL} is taken"
        return dict.fromkeys(("correct", "plain", "tls"), given) | {"login": given, "authority": said("ssl_ca_certs")}
    server = " or ".join(_keys_of_server(connection, said))
    has_url = bool(connection.get("url")) or not concerns_server(connection)
    return {
        "correct": f"correct {server}",
        "login": f"correct {server if has_url and not connection.get('password') else said('password')}",
        "authority": said("ssl_ca_certs"),
        "plain": f"write redis:// for rediss:// in {server}" if has_url else f"leave {said('ssl')} out",
        "tls": f"write rediss:// for redis:// in {server}" if has_url else f"set {said('ssl')} to True",
    }


def _keys_of_server(connection: Mapping[str, Any], said: Words) -> list[str]:
    if not concerns_server(connection):
        return [usual_place() or URL_VARIABLE]
    for keys in (("url",), ("unix_socket_path",), ("sentinels", "master_name"), ("host", "port")):
        if connection.get(keys[0]):
            return list(dict.fromkeys(said(key) for key in keys if connection.get(key)))
    return [said("host")]


# -- what is wrong -----------------------------------------------------------------------------------------------------


def fault_of_line(error: BaseException) -> str | None:
    """Why there is no line to a server of any kind; None when there is one, or it is not known."""
    for cause in _chain(error):
        if isinstance(cause, socket.gaierror):
            return NO_HOST
        if isinstance(cause, ConnectionRefusedError):
            return "nothing listens there"
        if isinstance(cause, FileNotFoundError):
            return "there is no such socket"
    return None


def _fault(parts: Mapping[str, Any], error: BaseException) -> tuple[str, str]:
    """What is wrong, and what to do about it in the terms of `_words`."""
    causes = list(_chain(error))
    unread = _unreadable_file(parts) if any(isinstance(cause, OSError) for cause in causes) else None
    if unread is not None:
        return f"the file of its {unread}, {str(parts[unread])!r}, cannot be read here", "correct that name"
    of_line = fault_of_line(error)
    if of_line is not None:
        return of_line, "{correct}" if of_line == NO_HOST else "start it, or {correct}"
    untrusted = next((cause for cause in causes if isinstance(cause, ssl.SSLCertVerificationError)), None)
    if untrusted is not None:
        why = untrusted.verify_message.rstrip(".")
        return f"its certificate is not accepted ({why})", "name its authority by {authority}, or {correct}"
    if any(_TOO_MANY in str(cause) for cause in causes):
        return "it has as many clients as it takes", "raise its maxclients, or end some"
    if any(isinstance(cause, PermissionError) for cause in causes):
        return "this user may not open its socket", "change its permissions, or {correct}"
    if isinstance(error, load_redis().sentinel.MasterNotFoundError):
        return "no Sentinel that answers knows this master", "start them, or {correct}"
    return _language_fault(parts, error, causes)


def _unreadable_file(parts: Mapping[str, Any]) -> str | None:
    """Which option of TLS names a file that is not there, or is not for this user."""
    if not parts.get("ssl"):
        return None
    given = [name for name in _FILES if parts.get(name)]
    return next((name for name in given if not os.access(str(parts[name]), os.R_OK)), None)


def _language_fault(parts: Mapping[str, Any], error: BaseException, causes: list[BaseException]) -> tuple[str, str]:
    """The same for a server that is there, but may speak TLS where we do not, or the reverse."""
    of_tls = next((cause.reason for cause in causes if isinstance(cause, ssl.SSLError)), None)
    if parts.get("ssl") and _speaks_plainly(parts):
        return "it speaks no TLS", "{plain}"
    if of_tls:
        return f"TLS fails ({of_tls})", "set what it asks for by the ssl_ options, or {correct}"
    if not parts.get("ssl") and _hangs_up(error, causes) and _speaks_tls(parts):
        return "it speaks TLS only", "{tls}"
    if any(isinstance(cause, TimeoutError | load_redis().exceptions.TimeoutError) for cause in causes):
        return "it is silent", "look for a firewall on the way, or {correct}"
    fault = "it closes the connection" if _hangs_up(error, causes) else type(error).__name__
    return fault, "see in its log why, or {correct}"


def _answers_oddly(error: BaseException) -> bool:
    return isinstance(error, load_redis().exceptions.InvalidResponse | UnicodeDecodeError)


def _hangs_up(error: BaseException, causes: list[BaseException]) -> bool:
    return _answers_oddly(error) or any(text in str(cause) for cause in causes for text in _HANGS_UP)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


# -- which language a server speaks ------------------------------------------------------------------------------------


def _speaks_plainly(parts: Mapping[str, Any]) -> bool:
    """Whether a server answers a greeting in the clear; nothing secret is said to it."""
    try:
        with _opened(parts) as line:
            line.sendall(b"PING\r\n")
            return line.recv(1) in {b"+", b"-"}
    except OSError:
        return False


def _speaks_tls(parts: Mapping[str, Any]) -> bool:
    """Whether a server shakes hands for TLS, whatever its certificate is: nothing is said to it."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with _opened(parts) as line, context.wrap_socket(line):
            return True
    except ssl.SSLError as error:
        return "ALERT" in (error.reason or "")
    except OSError:
        return False


def _opened(parts: Mapping[str, Any]) -> socket.socket:
    """A line to a server that is named by host and port.

    Raises:
        OSError: When there is none.
    """
    if "port" not in parts:
        raise OSError("no port")
    return socket.create_connection((str(revealed(parts["host"])), int(parts["port"])), timeout=_PATIENCE)
