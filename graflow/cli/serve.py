"""Durable flows. Here: over HTTP."""

from __future__ import annotations

import ipaddress
import signal
import socket
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn, Protocol

import click

from graflow.cli.flows.modules import load_flows
from graflow.cli.flows.options import clear_errors, flows, store
from graflow.exceptions import ConfigError
from graflow.flows.runner import FlowRunner

_NEEDED: Final = ("fastapi", "uvicorn")
_PORT: Final = 8000
_DEMOS: Final = "graflow.demos"
_LAST_ANSWERS: Final = 3  # seconds that requests have to end when the server does


class Demo(Protocol):
    """What an entry point of the group `graflow.demos` is: everything private, with a flow that runs."""

    def __call__(self) -> AbstractContextManager[FlowRunner]: ...


@click.command()
@flows
@store
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), help=f"Port; 0 for any that is free [default: {_PORT}].")
@click.option("--root-path", default="", metavar="PATH", help="Prefix under which a proxy shows the server.")
@click.option("--allow-host", "allowed_hosts", metavar="NAME", multiple=True, help="Host name to answer to as well.")
@click.option(
    "--token-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Lines 'view TOKEN' and 'operate TOKEN'; beside GRAFLOW_API_TOKEN and GRAFLOW_API_VIEW_TOKEN.",
)
@click.option("--on-workers", is_flag=True, help="Have workers run the flows, not this server.")
@click.option("--concurrency", type=click.IntRange(1), default=8, show_default=True, help="Flows to run here at once.")
@click.option("--demo", is_flag=True, help="Start everything private, with a flow over real files, for a first look.")
def serve(
    modules: Sequence[str],
    store: str | None,
    host: str,
    port: int | None,
    root_path: str,
    allowed_hosts: Sequence[str],
    token_file: Path | None,
    on_workers: bool,
    concurrency: int,
    demo: bool,
) -> None:
    """Serve flows over HTTP: start, watch and repair them.

    The server keeps nothing: killed at any time, what it ran goes on in the next one. It listens on this machine alone,
    unless tokens say who may use it.
    """
    if demo and (store or modules or on_workers):
        raise click.UsageError(
            "--demo has a store, flows and workers of its own: leave out --store, --flows, --on-workers"
        )
    with clear_errors():
        _require_extra()
        place = _Place(host, port, root_path, tuple(allowed_hosts))
        if demo:
            click.echo("Starting a private Redis and two workers …", err=True)
            with _demo() as runner:
                _serve(runner, place, token_file, is_demo=True)
            return
        load_flows(modules)
        runner = FlowRunner(store, backend="redis" if on_workers else None, max_concurrent=concurrency)
        _serve(runner, place, token_file, is_demo=False)


@dataclass(frozen=True)
class _Place:
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


def _require_extra() -> None:
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"graflow serve needs {' and '.join(missing)}, not installed here: pip install 'graflow-celery[api]'"
        )


def _demo() -> AbstractContextManager[FlowRunner]:
    demos = entry_points(group=_DEMOS)
    if not demos:
        raise ConfigError("There is no demo here; it comes with: pip install 'graflow-celery[api,embedded]'")
    found: Demo = next(iter(demos)).load()
    return found()


def _serve(runner: FlowRunner, place: _Place, token_file: Path | None, *, is_demo: bool) -> None:
    """Serve until Ctrl-C, or SIGTERM."""
    import uvicorn  # noqa: PLC0415 - an extra

    from graflow.api.app import create_app  # noqa: PLC0415 - needs it
    from graflow.api.http.auth import OPERATE_VARIABLE, Auth  # noqa: PLC0415 - as above

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
