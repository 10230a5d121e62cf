"""Durable flows. Here: over HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Protocol

import click

from graflow.cli.flows.modules import load_flows
from graflow.cli.flows.options import clear_errors, flows, store
from graflow.exceptions import ConfigError
from graflow.flows.runner import FlowRunner

_NEEDED: Final = ("fastapi", "uvicorn")
_DEMOS: Final = "graflow.demos"


class Demo(Protocol):
    """What an entry point of the group `graflow.demos` is: everything private, with a flow that runs."""

    def __call__(self) -> AbstractContextManager[FlowRunner]: ...


@click.command()
@flows
@store
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port; 0 for any that is free [default: 8000].")
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
        from graflow.cli.serving import Place, serve_flows  # noqa: PLC0415 - an extra

        place = Place(host, port, root_path, tuple(allowed_hosts))
        if demo:
            click.echo("Starting a private Redis and two workers …", err=True)
            with _demo() as runner:
                serve_flows(runner, place, token_file, is_demo=True)
            return
        load_flows(modules)
        runner = FlowRunner(store, backend="redis" if on_workers else None, max_concurrent=concurrency)
        serve_flows(runner, place, token_file, is_demo=False)


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
