"""Ctrl-C while a flow runs: the first asks for a pause, the second ends it at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import click

from graflow.cli.output import printable
from graflow.exceptions import GraflowError
from graflow.flows import FlowRunner


@contextmanager
def pausing_on_interrupt(runner: FlowRunner, flow_id: str) -> Iterator[Callable[[], bool]]:
    """A block in which Ctrl-C pauses a flow after its running steps; whether that happened is asked of what it gives.

    A second one is an ordinary `KeyboardInterrupt`, which cuts the running step short.
    """
    happened = threading.Event()
    before = signal.getsignal(signal.SIGINT)

    def pause() -> None:
        try:
            runner.pause_flow(flow_id, "interrupted from the keyboard")
        except GraflowError as error:  # it has just ended, or was never begun
            click.echo(printable(str(error)), err=True)

    def interrupted(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        happened.set()
        click.echo(
            "\nPausing after the steps that run. Ctrl-C again stops them at once; they run again when the flow goes on",
            err=True,
        )
        threading.Thread(target=pause, name="graflow-pause", daemon=True).start()

    is_handled = before is signal.default_int_handler and threading.current_thread() is threading.main_thread()
    if is_handled:
        signal.signal(signal.SIGINT, interrupted)
    try:
        yield happened.is_set
    finally:
        if is_handled:
            signal.signal(signal.SIGINT, before)
