"""Names, ids and errors of any kind in lines of log, tables, drawings and on a terminal."""

from __future__ import annotations

import io
import json
import logging
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel
from rich.console import Console

import graflow
import graflow_celery
from graflow import task, workflow
from graflow.cli.output import json_line
from graflow.drawing.text import draw_ascii
from graflow.text.shown import argument, get_logger, one_line, printable
from graflow.trace.console import ConsoleTracer
from graflow.trace.logging import LoggingTracer
from graflow.trace.progress import ProgressTracer
from graflow_celery.worker import celery_tasks
from tests.scenario.test_examples import read_terminal

ODD = "x\x1b]0;owned\x07\x1b[2J\u202e\x9b31m\nFORGED\r\u2028end"
SHOWN = r"x\x1b]0;owned\x07\x1b[2J\u202e\x9b31m\nFORGED\r\u2028end"


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What a program whose handler is on the root logger has in its log."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield stream
    root.removeHandler(handler)
    root.setLevel(before)


def test_what_would_steer_a_terminal_is_written_out_and_other_text_stays() -> None:
    assert one_line(ODD) == SHOWN
    assert one_line("Größe 日本 🙂 \\x1b") == "Größe 日本 🙂 \\x1b"
    assert one_line("\udc80").encode() == rb"\udc80", "what is no text at all can be written, too"
    assert printable("Größe\n日本\t\x9b\r\nend") == "Größe\n  日本\\t\\x9b\\r\n  end"


def test_a_line_of_log_stays_one_line_whatever_it_tells_of(lines: io.StringIO) -> None:
    log = get_logger("graflow.some")
    log.warning("Run %s: %.3s of %d in %.1f s, %r", ODD, "\n\n\n\n", 3, 0.25, ValueError(ODD))
    log.warning("%(name)s of %(number)d", {"name": ODD, "number": 3})
    log.warning("nothing to tell 100%")
    first, second, third = lines.getvalue().splitlines()
    assert first.startswith(rf"WARNING Run {SHOWN}: \n\ of 3 in 0.2 s, ValueError('x\x1b]")
    assert second == f"WARNING {SHOWN} of 3"
    assert third == "WARNING nothing to tell 100%"


def test_a_traceback_in_a_log_has_no_line_that_begins_like_another_one(lines: io.StringIO) -> None:
    error = ValueError(ODD)
    error.add_note("INFO noted\nFORGED too")
    try:
        raise error
    except ValueError:
        get_logger("graflow.some").exception("It failed")
    head, *rest = lines.getvalue().split("\n")[:-1]
    assert head == "ERROR It failed"
    assert [line for line in rest if not line.startswith("  ")] == []
    assert "\x1b" not in lines.getvalue()
    assert "  ValueError: x\\x1b]0;owned" in lines.getvalue()


def test_every_logger_of_ours_and_those_of_celerys_worker_keep_lines(lines: io.StringIO) -> None:
    sources = [path for each in (graflow, graflow_celery) for path in Path(each.__file__ or "").parent.rglob("*.py")]
    assert [
        path for path in sources if re.search(r"^_log = logging", path.read_text(encoding="utf-8"), re.MULTILINE)
    ] == []
    assert celery_tasks is not None  # imported by workers: what Celery says of messages is kept in line, too
    logging.getLogger("celery.app.trace").error("Task %(name)s raised %(exc)s", {"name": ODD, "exc": ODD})
    logging.getLogger("celery.worker.strategy").info("Task %s received", ODD)
    assert lines.getvalue() == f"ERROR Task {SHOWN} raised {SHOWN}\nINFO Task {SHOWN} received\n"


def test_tracers_show_names_and_errors_in_lines(lines: io.StringIO, capsys: pytest.CaptureFixture[str]) -> None:
    own = logging.getLogger("somebody.elses")
    for tracer in (LoggingTracer(own, level=logging.INFO), ConsoleTracer()):
        with workflow(f"flow\n{ODD}", tracer=tracer) as flow:

            @task(id="bad\n\x1b[2J")
            def bad() -> None:
                raise ValueError(ODD)

            with pytest.raises(ValueError, match="owned"):
                flow.execute()
    said = [line for line in lines.getvalue().splitlines() if "flow" in line or "bad" in line]
    assert said
    assert all(line.startswith(("INFO ", "DEBUG ", "WARNING ")) for line in said)
    printed = capsys.readouterr().out
    assert "TRACE START: flow\\nx\\x1b" in printed
    assert "\x1b" not in lines.getvalue() + printed
    assert not [line for line in printed.splitlines() if line.startswith(("FORGED", "x"))]


def test_a_bar_and_a_drawing_have_names_in_lines() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=200, color_system=None)

    with workflow(f"flow {ODD}", tracer=ProgressTracer(console=console, delay=0.0)) as flow:

        @task(id=f"in {ODD}")
        def inside() -> None:
            pass

        flow.execute()
    drawn = console.file.getvalue()  # type: ignore[attr-defined]
    assert f"flow {SHOWN}" in drawn
    assert "]0;owned\x07" not in drawn
    assert draw_ascii(flow.graph).splitlines()[1] == "[1] in " + SHOWN.replace(r"\n", "\n").splitlines()[0]


def test_json_for_a_terminal_is_the_same_json_without_what_steers_it() -> None:
    class Fact(BaseModel):
        name: str

    line = json_line(Fact(name=ODD))
    assert line.isprintable()
    assert json.loads(line) == {"name": ODD}
    assert json_line(Fact(name="Größe")) == '{"name":"Größe"}'


def test_on_a_real_terminal_a_table_and_an_error_send_nothing_but_rows(tmp_path: Path) -> None:
    table = f"from graflow.cli.output import Rows, show; show(Rows(['name'], [[{ODD!r}]]))"
    command = "import sys; sys.argv = ['graflow', 'flow', 'show', *sys.argv[1:]]; from graflow.cli.main import main"
    assert on_terminal("-c", table, folder=tmp_path)[1].strip() == SHOWN
    (tmp_path / "flows.db").touch()
    said = on_terminal("-c", f"{command}; main()", ODD, "--store", f"sqlite:///{tmp_path}/flows.db", folder=tmp_path)
    assert "".join(said).startswith(r"Error: Flow x\x1b]0;owned\x07\x1b[2J\u202e\x9b31m")
    assert [line for line in said if line.startswith("FORGED")] == []


def on_terminal(*arguments: str, folder: Path) -> list[str]:
    """What Python shows on a terminal of 200 columns."""
    reader, terminal = pty.openpty()
    environment = {**os.environ, "COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1"}
    with subprocess.Popen(
        [sys.executable, *arguments], stdin=terminal, stdout=terminal, stderr=terminal, env=environment, cwd=folder
    ) as running:
        os.close(terminal)
        with os.fdopen(reader, "rb", buffering=0) as screen:
            seen = b"".join(iter(lambda: read_terminal(screen), b""))
    assert running.returncode in {0, 2}, seen
    return seen.decode().split("\r\n")


def test_numbers_stay_numbers_for_formats() -> None:
    assert [argument(value) for value in (1, 2.5, True)] == [1, 2.5, True]
