"""The command `graflow`: its own commands, plug-ins, help and tables. Commands that ask servers: `test_cli.py`."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from graflow.cli.main import graflow
from graflow.cli.output import Rows
from graflow.exceptions import ConfigError
from graflow.signing import SigningKeys

WITHOUT_CELERY = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"celery", "kombu", "redis"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
from graflow.cli.main import main
main()
"""


def run(*arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(graflow, arguments, prog_name="graflow")
    assert done.exit_code == code, done.output
    return done.output


@pytest.fixture
def plug_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    """Installs a distribution whose module has a command."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)

    def install(name: str, source: str) -> None:
        module = f"plugged_{name}"
        (tmp_path / f"{module}.py").write_text(source, encoding="utf-8")
        metadata = tmp_path / f"{module}-1.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1\n", encoding="utf-8")
        (metadata / "entry_points.txt").write_text(f"[graflow.commands]\n{name} = {module}:{name}\n", encoding="utf-8")

    yield install
    for module in set(sys.modules) - before:
        if module.startswith("plugged_"):
            del sys.modules[module]


GREETING = '''
"""Manners. More of this."""

import click

print("imported")


@click.command()
def greet():
    """Say good morning.

    At any hour.
    """
    click.echo("good morning")
'''


def test_a_plug_in_stands_in_the_help_and_is_imported_when_its_command_runs(plug_in: Callable[..., None]) -> None:
    plug_in("greet", GREETING)
    shown = run("--help")
    assert "Manners:\n" in shown
    assert ["greet", "Say good morning"] in [line.split(maxsplit=1) for line in shown.splitlines()]
    assert "imported" not in shown
    assert run("greet").endswith("good morning\n")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("raise SystemExit('not\\ntoday \\x1b[2J')", r"SystemExit: not today \x1b[2J"),
        ("def", "SyntaxError: invalid syntax (plugged_broken.py, line 1)"),
        ("broken = 1", "plugged_broken:broken is no click command"),
        ("", "AttributeError: module 'plugged_broken' has no attribute 'broken'"),
    ],
)
def test_a_plug_in_that_cannot_be_loaded_is_one_line_and_hurts_no_other(
    plug_in: Callable[..., None], source: str, reason: str
) -> None:
    plug_in("broken", source)
    assert run("broken", code=1) == f"Error: The command 'broken' cannot be loaded: {reason}\n"
    assert "  broken" in run("--help")
    assert run("keygen", "--id", "x").startswith("x:")


def test_no_plug_in_takes_the_place_of_a_command_of_graflow(plug_in: Callable[..., None]) -> None:
    plug_in("keygen", "raise SystemExit('taken over')")
    assert run("keygen", "--id", "x").startswith("x:")
    assert run("--help").count("keygen") == 1


def test_every_command_of_the_package_loads_and_has_a_line_under_a_heading() -> None:
    shown = run("--help").splitlines()
    names = {point.name for point in entry_points(group="graflow.commands") if point.dist.name == "graflow-celery"}
    assert names >= {"runs", "workers", "queues", "status", "watch", "results", "retry", "cancel"}
    for name in names:
        assert f"Usage: graflow {name} " in run(name, "--help")
        (line,) = [line for line in shown if line.startswith(f"  {name} ")]
        assert len(line.split()) > 3
    assert "graflow_celery:" not in shown


def python(*arguments: str, **variables: str) -> str:
    command = [sys.executable, "-W", "ignore", *arguments]
    environment = {**os.environ, **variables}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60).stdout


def test_help_and_own_commands_need_no_celery() -> None:
    assert python("-c", WITHOUT_CELERY, "--help").splitlines()[1:] == python("-m", "graflow", "--help").splitlines()[1:]
    assert SigningKeys.parse(python("-c", WITHOUT_CELERY, "keygen", "--id", "mine").strip()).ids == ["mine"]


def test_a_command_that_needs_celery_says_so_in_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_CELERY, "runs"], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert done.stderr.startswith("Error: The command 'runs' cannot be loaded: ModuleNotFoundError: ")
    assert done.stderr.count("\n") == 1


def test_help_fits_sixty_columns() -> None:
    for command in ((), ("runs",), ("watch",), ("results",), ("retry",), ("keygen",)):
        shown = CliRunner().invoke(graflow, [*command, "--help"], prog_name="graflow", terminal_width=60).output
        assert max(map(len, shown.splitlines())) <= 60


def test_a_shell_completes_commands_with_their_summaries_and_imports_no_plug_in(plug_in: Callable[..., None]) -> None:
    plug_in("greet", GREETING)
    variables = {"_GRAFLOW_COMPLETE": "fish_complete", "COMP_WORDS": "graflow gr", "COMP_CWORD": "gr"}
    path = os.pathsep.join([sys.path[0], *filter(None, [os.environ.get("PYTHONPATH")])])
    code = "import sys; sys.argv = ['graflow']; from graflow.cli.main import main; main()"
    assert python("-c", code, PYTHONPATH=path, **variables) == "plain,greet\tSay good morning\n"


def test_keygen_keeps_its_key_from_others(tmp_path: Path) -> None:
    path = tmp_path / "made.key"
    before = os.umask(0o022)
    try:
        assert run("keygen", "--id", "made", "--out", str(path)) == ""
        assert "is there already" in run("keygen", "--out", str(path), code=1)
        with (tmp_path / "told.key").open("wb") as told:
            subprocess.run([sys.executable, "-m", "graflow", "keygen", "--id", "told"], stdout=told, check=True)
    finally:
        os.umask(before)
    for name in ("made", "told"):
        assert stat.S_IMODE((tmp_path / f"{name}.key").stat().st_mode) == 0o600
        assert SigningKeys.from_file(tmp_path / f"{name}.key").ids == [name]


def test_errors_are_one_line_without_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> str:
        raise ConfigError("no \x1b]0;owned\x07")

    monkeypatch.setattr("graflow.cli.keygen.generate_key", refuse)
    assert run("keygen", code=1) == "Error: no \\x1b]0;owned\\x07\n"


def drawn(rows: Rows, width: int) -> list[str]:
    stream = io.StringIO()
    Console(file=stream, width=width).print(rows)
    return [line.rstrip() for line in stream.getvalue().splitlines()]


COUNTS = Rows(["run", "state", "total", "queues"], [["one", "RUNNING", 12, ["a", "b"]], ["two", "DONE", 3, None]])


def test_rows_are_a_table_where_it_fits() -> None:
    assert drawn(COUNTS, 60) == [
        "run  state    total  queues",
        "one  RUNNING     12  a, b",
        "two  DONE         3  -",
    ]


def test_rows_are_blocks_where_a_table_does_not_fit() -> None:
    assert drawn(COUNTS, 24) == [
        "one",
        "  state RUNNING",
        "  total 12",
        "  queues a, b",
        "two",
        "  state DONE  total 3",
    ]


def test_wide_characters_keep_columns_in_line() -> None:
    assert drawn(Rows(["name", "n"], [["日本", 1], ["ab", 10]]), 60) == ["name   n", "日本   1", "ab    10"]


def test_a_table_of_thousands_of_rows_costs_a_few_calls_a_cell() -> None:
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        lines = drawn(Rows(["step", "status"], [[f"s{number}", "completed"] for number in range(2000)]), 60)
    finally:
        sys.setprofile(None)
    assert lines[-1] == "s1999  completed"
    assert calls < 20 * 4000, f"{calls / 4000:.1f} calls a cell"


def test_what_would_steer_a_terminal_is_written_out() -> None:
    assert drawn(Rows(["name"], [["\x1b[2J\r\n[bold]x[/]\u202e"]]), 60)[1] == r"\x1b[2J\r\n[bold]x[/]\u202e"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("flower", "; it is one of Celery's: celery -A graflow_celery flower"),
        ("worker", "; it is one of Celery's: celery -A graflow_celery worker"),
        ("workres", "; did you mean 'workers'?"),
        ("frobnicate", "; graflow --help lists them"),
    ],
)
def test_an_unknown_command_names_what_may_have_been_meant(name: str, hint: str) -> None:
    assert run(name, code=2).splitlines()[-1] == f"Error: No such command '{name}'{hint}"


def test_celery_says_how_to_get_flower_where_it_is_not_installed(tmp_path: Path) -> None:
    without = (
        "import sys; sys.modules['flower'] = None; from celery.__main__ import main; sys.argv[0] = 'celery'; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", without, "-A", "graflow_celery", "flower", "--port=5555"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr.splitlines()[-1]) == (
        1,
        "Error: Flower is not installed here; install it with: pip install flower",
    )


def test_a_module_that_celery_is_told_to_include_and_is_nowhere_is_named_in_one_line(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "celery", "-A", "graflow_celery", "worker", "--include", "etl_nowhere"],
        cwd=tmp_path,
        env={**environment, "GRAFLOW_REDIS_URL": "redis://127.0.0.1:1/0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1] == (
        "Error: Cannot import the task module 'etl_nowhere': there is no 'etl_nowhere' in the current folder "
        f"({tmp_path}), on PYTHONPATH (not set) or installed here; start in the folder that holds it, or add that to "
        "PYTHONPATH"
    )


@pytest.mark.parametrize("command", [["worker"], ["inspect", "ping"]], ids=" ".join)
def test_a_setting_that_cannot_be_used_is_one_line_of_celerys_commands_too(command: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "celery", "-A", "graflow_celery", *command],
        cwd=tmp_path,
        env={**os.environ, "GRAFLOW_REDIS_URL": "redis://127.0.0.1:1/0", "GRAFLOW_LEASE": "soon"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, "Error: GRAFLOW_LEASE: it takes a number, not 'soon'\n")
