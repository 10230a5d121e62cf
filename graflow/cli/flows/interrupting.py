"""Ctrl-C while a flow runs: the first asks for a pause, the second ends it at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

import click

from graflow.cli.flows.options import named_again
from graflow.exceptions import GraflowError
from graflow.flows import FlowRunner
from graflow.flows.recording.identity import this_owner
from graflow.text.shown import one_line, printable

_PAUSING: Final = (
    "Pausing after the steps that run. Ctrl-C again stops them at once; they run again when the flow goes on"
)


class Interruption:
    """What Ctrl-C means for a flow that a command waits for.

    Args:
        runner: Whose flow it is.
        flow_id: The flow.

    Attributes:
        is_asked: Whether Ctrl-C was given.
        is_elsewhere: Whether the flow goes on in another process, so that only waiting for it has ended.
    """

    def __init__(self, runner: FlowRunner, flow_id: str) -> None:
        self._runner = runner
        self._flow_id = flow_id
        self.is_asked = False
        self.is_elsewhere = False

    def handle(self, _number: int, _frame: FrameType | None) -> None:
        """The handler of the first Ctrl-C; a second one is an ordinary `KeyboardInterrupt`."""
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self.is_asked = True
        # The main thread may be anywhere, also inside of the store.
        threading.Thread(target=self._answer, name="graflow-interrupt", daemon=True).start()

    def _answer(self) -> None:
        try:
            record = self._runner.store.get_record(self._flow_id)
            if record is not None and record.owner not in {None, this_owner()}:
                self.is_elsewhere = True
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
                return
            click.echo(f"\n{_PAUSING}", err=True)
            self._runner.pause_flow(self._flow_id, "interrupted from the keyboard")
        except GraflowError as error:  # it has just ended, or was never begun
            click.echo(printable(error), err=True)

    def last_words(self) -> str:
        """What there is to say when the command ends before the flow."""
        if self.is_elsewhere:
            return f"Flow {one_line(self._flow_id)} goes on in another process; only waiting for it has ended"
        which = f"{one_line(self._flow_id)}{named_again('store', 'modules')}"
        return f"Interrupted; it goes on with: graflow flow resume {which}"


@contextmanager
def interruptible(runner: FlowRunner, flow_id: str) -> Iterator[Interruption]:
    """A block that waits for a flow, in which the first Ctrl-C pauses the flow after its running steps."""
    interruption, before = Interruption(runner, flow_id), signal.getsignal(signal.SIGINT)
    is_handled = before is signal.default_int_handler and threading.current_thread() is threading.main_thread()
    if is_handled:
        signal.signal(signal.SIGINT, interruption.handle)
    try:
        yield interruption
    finally:
        if is_handled:
            signal.signal(signal.SIGINT, before)
