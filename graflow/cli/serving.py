"""Flows over HTTP, on a socket of this machine; needs the extra `api`."""

from __future__ import annotations

import ipaddress
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

import click
import uvicorn

from graflow.api.app import create_app
from graflow.api.http.auth import OPERATE_VARIABLE, Auth
from graflow.exceptions import ConfigError
from graflow.flows.runner import FlowRunner

_PORT: Final = 8000
_LAST_ANSWERS: Final = 3  # seconds that requests have to end when the server does


@dataclass(frozen=True)
class Place:
    """Where a server listens, and under which names."""

    host: str
    port: int | None
    root_path: str
    allowed_hosts: tuple[str, ...]

    @property
    def is_private(self) -> bool:
        """Whether only this machine reaches it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @contextmanager
    def listening(self, *, is_any_port_good: bool) -> Iterator[socket.socket]:
        """The socket; that of the default port may be another one where that is as good.

        Raises:
            ConfigError: When the address cannot be had.
        """
        ports = [_PORT, 0] if self.port is None and is_any_port_good else [_PORT if self.port is None else self.port]
        for port in ports:
            try:
                family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
                found = socket.create_server((self.host, port), family=family)
            except (OSError, UnicodeError) as error:
                why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
                if port == ports[-1]:
                    raise ConfigError(f"Port {port} of {self.host} cannot be had: {why}; give another --port") from None
                continue
            # Connections have it from here: asyncio sees to it only for sockets that are made for TCP by name, and an
            # answer in two parts would wait for the client's acknowledgement, some 40 ms.
            found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with found:
                yield found
            return

    def address(self, listener: socket.socket) -> str:
        """What to give a browser on this machine."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        shown = "127.0.0.1" if name == "0.0.0.0" else "[::1]" if name == "[::]" else name  # noqa: S104 - compared
        return f"http://{shown}:{listener.getsockname()[1]}{self.root_path.rstrip('/')}/"


def serve_flows(runner: FlowRunner, place: Place, token_file: Path | None, *, is_demo: bool) -> None:
    """Serve until Ctrl-C, or SIGTERM."""
    auth = Auth.configured(token_file)
    if auth.is_open and not place.is_private:
        raise ConfigError(
            f"Whoever reaches {place.host} could do everything, since there is no token: set {OPERATE_VARIABLE} or "
            "give --token-file, or serve 127.0.0.1 alone"
        )
    app = create_app(
        runner, auth=auth, root_path=place.root_path, allowed_hosts=(*place.allowed_hosts, _host_name(place.host))
    )
    settings = uvicorn.Config(
        app,
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_LAST_ANSWERS,
    )
    with place.listening(is_any_port_good=is_demo) as listener:
        click.echo(f"Serving {_flows_of(runner)} at {place.address(listener)}")
        if auth.is_open:
            click.echo(
                "Every user of this machine may do everything: a token keeps others out (--token-file)", err=True
            )
        elif not place.is_private and not place.allowed_hosts:
            click.echo("Only requests to this address itself are answered: --allow-host NAME for others", err=True)
        signal.signal(signal.SIGTERM, _end)  # comes through when the server has ended
        try:
            uvicorn.Server(settings).run(sockets=[listener])
        except KeyboardInterrupt:
            click.echo("Stopped; what ran goes on with the next server of this store", err=True)


def _end(number: int, _: FrameType | None) -> NoReturn:
    """Leave by way of whatever there is to close."""
    raise SystemExit(128 + number)


def _host_name(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _flows_of(runner: FlowRunner) -> str:
    names = runner.player.registry.names()
    if not names:
        return "no flows (--flows names modules that have some)"
    return f"{len(names)} flow{'s' if len(names) > 1 else ''} ({', '.join(names[:5])}{', …' if len(names) > 5 else ''})"
