"""`graflow flow …`: what it prints, what it does, and the status that it ends with."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from graflow import task
from graflow.cli.flows.watching import Watcher
from graflow.cli.main import graflow
from graflow.flows import FlowRunner
from graflow.flows.recording.identity import this_owner
from graflow.state import FlowState, FlowStatus, FlowStepState
from graflow.state.sqlite import SqliteStore
from graflow.state.statuses import Move
from graflow_celery import LocalCluster
from tests.scenario.test_examples import read_terminal
from tests.state.support import begin, completed, group_row, member, move, started
from tests.support import wait_until
from tests.unit.test_command import WITHOUT_CELERY

ROOT = Path(__file__).resolve().parents[2]
FLOWS = "tests.flows.command_flows"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the commands run, with a store of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.setenv("GRAFLOW_FLOW_STORE", f"sqlite:///{tmp_path}/flows.db")
    monkeypatch.setenv("GRAFLOW_FLOWS", FLOWS)
    return tmp_path


def flow(*arguments: object, code: int = 0) -> Result:
    done = CliRunner().invoke(graflow, ["flow", *map(str, arguments)], prog_name="graflow")
    assert done.exit_code == code, done.output
    return done


def squares(folder: Path, flow_id: str, *more: str, code: int = 0) -> FlowState:
    done = flow("run", "squares", f"folder={folder}", *more, "--id", flow_id, "--quiet", "--json", code=code)
    return FlowState.model_validate_json(done.stdout)


def state_of(flow_id: str) -> FlowState | None:
    with FlowRunner(os.environ["GRAFLOW_FLOW_STORE"], recovery=False) as runner:
        return runner.store.get_flow_state(flow_id)


def table(text: str) -> dict[str, list[str]]:
    """The cells of each row by the first one."""
    return {cells[0]: cells[1:] for line in text.splitlines() if len(cells := re.split(r"  +", line.strip())) > 2}


# -- kept values -------------------------------------------------------------------------------------------------------


def kept(times: int) -> list[str]:
    """Ids of flows whose step has a cache, run here for the numbers 0, 0, 1, 1, …"""

    @task(cache=True)
    def half(x: int) -> float:
        return x / 2

    def build(x: int) -> None:
        half(task_id="halved", x=x)

    with FlowRunner(os.environ["GRAFLOW_FLOW_STORE"], recovery=False) as runner:
        runner.register(build, "halves")
        return [runner.execute("halves", {"x": number // 2}).flow_id for number in range(times)]


def test_why_a_step_has_its_outcome_is_told(folder: Path) -> None:
    first, again, other = kept(3)
    assert flow("explain", first, "halved").stdout.splitlines()[:2] == [
        "halved completed",
        "  No kept value was given: nothing is kept of 'half'",
    ]
    told = flow("explain", again, "halved").stdout
    assert told.startswith("halved cached\n")
    assert f"the same code and inputs as in step 'halved' of flow '{first}'" in told
    assert '  inputs {"x": 0}' in told
    data = json.loads(flow("explain", other, "halved", "--json").stdout)
    assert (data["status"], data["cache"]["hit"], data["cache"]["differs"]) == ("completed", False, ["input 'x'"])
    assert "has begun no step 'helved'; near names: halved" in flow("explain", first, "helved", code=2).stderr
    assert table(flow("show", again).stdout)["halved"][0] == "cached"


def test_kept_values_are_forgotten(folder: Path) -> None:
    kept(3)
    assert flow("clear-cache", "unknown").stdout == "Forgot 0 kept values\n"
    assert flow("clear-cache", "half", "--json").stdout == '{"cleared": 2}\n'
    kept(1)
    assert flow("clear-cache").stdout == "Forgot 1 kept value\n"


# -- running -----------------------------------------------------------------------------------------------------------


def test_a_flow_runs_and_what_became_of_its_steps_is_a_table(folder: Path) -> None:
    done = flow("run", "squares", f"folder={folder}", "count=4", "--id", "s1")
    assert done.stdout.startswith("squares s1 completed\n")
    assert '  inputs {"folder": ' in done.stdout
    assert "  value 14\n" in done.stdout
    rows = table(done.stdout)
    assert rows["step"] == ["status", "attempts", "took", "error"]
    assert rows["squares"][:2] == ["completed: 4 completed of 4", "1"]
    assert rows["total"][0] == "completed"
    told = [line[9:] for line in done.stderr.splitlines()]  # behind the time
    assert told[-1] == "flow s1 is completed"
    assert any(line.startswith("step squares is completed (4 completed, of 4; after ") for line in told)


def test_what_came_of_flows_is_counted(folder: Path) -> None:
    squares(folder, "s1")
    shown = flow("stats", "--since", "1h").stdout
    assert shown.startswith("1 flows: 1 completed, 100.0% of those that ended by themselves\n")
    assert table(shown)["squares: squares"][:4] == ["1", "0", "0", "0"]
    assert json.loads(flow("stats", "--name", "squares", "--json").stdout)["flows"] == {"completed": 1}
    assert flow("stats", "--name", "other").stdout == "0 flows: none\n"


@pytest.mark.parametrize("command", ["resume", "show", "watch", "pause", "cancel"])
def test_a_flow_that_is_not_there_is_named(folder: Path, command: str) -> None:
    squares(folder, "s1")
    assert flow(command, "nobody", code=2).output == f"Error: Flow nobody not found in sqlite:///{folder}/flows.db\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--members", "squars"], "Flow 's1' has begun no step 'squars'; near names: squares"),
        (["--members", "squares", "--visit", "3"], "Flow 's1' has begun no visit 3 of step 'squares'; it has 1"),
        (["--members", "total"], "Step total is no group; --members names one"),
    ],
)
def test_members_are_those_of_a_group(folder: Path, arguments: list[str], said: str) -> None:
    squares(folder, "s1")
    assert said in flow("show", "s1", *arguments, code=2).output


def test_a_flow_that_this_command_does_not_know_is_asked_for_by_its_module(folder: Path) -> None:
    squares(folder, "s1")
    command = [sys.executable, "-m", "graflow", "flow", "resume", "s1", "--dry-run"]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "GRAFLOW_FLOWS": ""}
    done = subprocess.run(command, check=False, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.endswith("import the module that has its @flow; the command line has --flows for it\n")


def test_what_utf8_cannot_write_is_shown_all_the_same(folder: Path) -> None:
    with FlowRunner(os.environ["GRAFLOW_FLOW_STORE"], recovery=False) as runner:
        runner.register(lambda: task("halves")(lambda: ["\ud83d", {"a": 1.5}]), "half_a_character")
        flow_id = runner.execute("half_a_character").flow_id
    assert FlowState(**json.loads(flow("show", flow_id, "--json").stdout)).outputs == ["\ud83d", {"a": 1.5}]
    assert '"\\ud83d"' in flow("show", flow_id).stdout


def test_the_same_id_runs_once_and_other_inputs_are_refused(folder: Path) -> None:
    first = squares(folder, "s1")
    assert squares(folder, "s1") == first
    assert (folder / "ran").read_text().split().count("100") == 1
    done = flow("run", "squares", f"folder={folder}", "count=5", "--id", "s1", code=2)
    assert done.output.startswith("Error: Flow 's1' exists already, with other inputs")


def test_a_flow_that_fails_ends_the_command_with_1_and_goes_on_when_it_is_resumed(folder: Path) -> None:
    (folder / "fail1").touch()
    failed = squares(folder, "s1", code=1)
    assert flow("run", "squares", f"folder={folder}", "--id", "s1", code=1).stderr.endswith(
        "It goes on with: graflow flow resume s1\n"
    )
    assert failed.status is FlowStatus.FAILED
    shown = flow("show", "s1").stdout
    assert table(shown)["squares"][0] == "failed: 2 completed, 1 failed of 3"
    members = table(flow("show", "s1", "--members", "squares", "--status", "failed").stdout)
    assert members["squares[1]"][-1] == "ValueError: 1 is"
    again = ["--store", f"sqlite:///{folder}/flows.db", "--flows", FLOWS]
    told = flow("run", "squares", f"folder={folder}", "--id", "s1", *again, code=1).stderr
    assert told.endswith(f"It goes on with: graflow flow resume s1 {' '.join(again)}\n")
    (folder / "fail1").unlink()
    done = flow("resume", "s1")
    assert done.stdout.startswith("squares s1 completed")
    assert "first" not in done.stderr, "what was so before is no change"
    assert sorted((folder / "ran").read_text().split()) == ["0", "1", "100", "2"]


@pytest.mark.slow
def test_a_flow_whose_code_has_changed_is_told_the_command_that_takes_it(folder: Path) -> None:
    program = """
from graflow import task
from graflow.flows import flow

@task
def price():
    return {}

@task
def paid(price):
    {}

@flow("paying")
def paying():
    price >> paid
"""
    path = folder / "paying_flow.py"

    def command(price: int, paid: str, *arguments: str, code: int) -> Result:
        path.write_text(program.format(price, paid))
        done = subprocess.run(
            [sys.executable, "-m", "graflow", "flow", *arguments, "--flows", str(path)],
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stderr
        return done.stderr

    command(1, "raise ValueError", "run", "paying", "--id", "p1", code=1)
    following = f"graflow flow resume p1 --on-change reuse --flows {path}"
    for arguments in (["resume", "p1"], ["retry", "p1", "paid"]):
        assert command(2, "return price", *arguments, code=1).rstrip().endswith(f"what changed: {following}")
    command(2, "return price", "resume", "p1", "--on-change", "reuse", code=0)

    command(1, "import os; os.abort()", "run", "paying", "--id", "p2", code=-signal.SIGABRT)
    told = command(2, "return price", "run", "paying", "--id", "p2", code=1)
    assert told.endswith(f"It goes on with: {following.replace('p1', 'p2')}\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "sqares"], "Flow sqares not found: no flow has this name; near names: squares"),
        (["run", "squares"], "Inputs of flow 'squares' do not fit: folder: is required"),
        (["run", "squares", "folder=x", "count=many", "x=1"], "count: Input should be a valid integer"),
        (["run", "squares", "folder=x", "count=many", "x=1"], "x: is no input of this flow; inputs are folder, count"),
        (["run", "squares", "folder"], "Inputs are given as key=value, not 'folder'"),
        (["run", "squares", "folder=a", "folder=b"], "The input 'folder' is given twice"),
        (["run", "squares", "folder=@none.json"], "folder: none.json cannot be read: No such file"),
        (["list", "--store", "sqlite:///none.db"], "none.db: no flow has been run there yet"),
        (["list", "--store", "http://here"], "No store has an address like 'http://…'"),
        (["show", "nobody", "--status", "failed"], "name their group with --members"),
        (["cleanup", "--older-than", "soon"], "'soon' is no duration; write seconds, or 90s, 15min, 2h, 30d, 4w"),
        (["run", "squares", "--flows", "no.such"], "--flows no.such cannot be imported: ModuleNotFoundError"),
        (["run", "squares", "--flows", "./no.py"], "--flows ./no.py: there is no such file"),
        (["rnu"], "No such command 'rnu'; did you mean 'run'?"),
    ],
)
def test_wrong_use_ends_with_2_and_says_what_is_wrong(folder: Path, arguments: list[str], said: str) -> None:
    done = flow(*arguments, code=2)
    assert said in done.output
    assert "Traceback" not in done.output


@pytest.mark.parametrize(
    ("given", "got"),
    [
        ("text=plain words", ["plain words", 0.0, 3, None]),
        ("text=12", ["12", 0.0, 3, None]),
        ("text=null", ["null", 0.0, 3, None]),
        ('text="in quotes"', ["in quotes", 0.0, 3, None]),
        ("text=a=b", ["a=b", 0.0, 3, None]),
        ("number=1e3", ["", 1000.0, 3, None]),
        ("maybe=null", ["", 0.0, None, None]),
        ('items=["a", "b"]', ["", 0.0, 3, ["a", "b"]]),
        ("items=@list.json", ["", 0.0, 3, ["c"]]),
    ],
)
def test_an_input_is_json_or_the_text_itself_as_its_type_asks(folder: Path, given: str, got: list[Any]) -> None:
    (folder / "list.json").write_text('["c"]')
    done = flow("run", "echo", given, "--quiet", "--json")
    assert json.loads(done.stdout)["outputs"] == got


def test_inputs_under_secret_names_are_not_shown(folder: Path) -> None:
    squares(folder, "s1", "api_token=open-sesame")
    for arguments in (("show", "s1"), ("show", "s1", "--json"), ("list", "--json")):
        assert "open-sesame" not in flow(*arguments).stdout


def test_flows_are_loaded_from_a_file_under_the_name_that_other_processes_know(folder: Path) -> None:
    (folder / "mine").mkdir()
    (folder / "mine" / "own_flows.py").write_text(
        "from graflow import task\nfrom graflow.flows import flow\n"
        "@task\ndef name(): return __name__\n"
        "@flow('named')\ndef named(): name(task_id='name')\n"
    )
    done = flow("run", "named", "--flows", "mine/own_flows.py", "--quiet", "--json")
    assert json.loads(done.stdout)["outputs"] == "mine.own_flows"


def test_tracebacks_show_the_code_that_failed_and_nothing_of_ours(folder: Path) -> None:
    (folder / "fail1").touch()
    squares(folder, "s1", code=1)
    for arguments in (("--traceback",), ("--members", "squares", "--traceback")):
        shown = flow("show", "s1", *arguments).stdout
        assert "in measure\n" in shown
        assert shown.endswith("ValueError: 1 is\nout of order\n")
        assert "engine.py" not in shown
    assert "Traceback" not in flow("show", "s1").stdout


# -- plans -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def failed(folder: Path) -> str:
    (folder / "fail1").touch()
    return squares(folder, "s1", code=1).flow_id


def test_a_dry_run_says_what_is_kept_adopted_and_run_and_does_nothing(folder: Path, failed: str) -> None:
    before = state_of(failed)
    rows = table(flow("resume", failed, "--dry-run").stdout)
    assert rows["first"] == ["kept", "-", "is completed"]
    assert rows["squares"][:2] == ["adopted", "2 kept, 1 adopted or run again"]
    assert rows["total"][0] == "run first time"
    rows = table(flow("retry", failed, "squares", "--dry-run").stdout)
    assert rows["squares"] == ["run again", "2 completed, 1 failed", "is retried: 1 of 3 members, the others are kept"]
    rows = table(flow("retry", failed, "first", "--downstream", "all", "--dry-run").stdout)
    assert [rows[step][0] for step in ("first", "squares", "total")] == ["run again", "run again", "run first time"]
    rows = table(flow("fork", failed, "squares", "--dry-run").stdout)
    assert [rows[step][0] for step in ("first", "squares")] == ["kept", "run again"]
    refused = flow("cancel", failed, "--dry-run", code=1).stdout
    assert "It would be refused: Flow 's1' is failed and cannot be cancelled" in refused
    assert state_of(failed) == before


def test_a_plan_as_json_is_held_to_by_its_digest(folder: Path, failed: str) -> None:
    plan = json.loads(flow("resume", failed, "--dry-run", "--json").stdout)
    assert {step["step"]: step["action"] for step in plan["steps"]}["first"] == "reuse"
    (folder / "fail1").unlink()
    flow("retry", failed, "squares", "--quiet")
    done = flow("retry", failed, "squares", "--plan", plan["digest"], "--quiet", code=2)
    assert "holds no longer" in done.output


def test_a_fork_is_another_flow_that_keeps_what_came_before(folder: Path, failed: str) -> None:
    (folder / "fail1").unlink()
    done = flow("fork", failed, "squares", "label=again", "--id", "s2", "--quiet")
    assert done.stdout.startswith("squares s2 completed")
    assert table(done.stdout)["first"][0] == "reused"
    assert "from s1 squares" in done.stdout
    assert (folder / "ran").read_text().split().count("100") == 1


# -- looking -----------------------------------------------------------------------------------------------------------


def test_flows_are_listed_by_state_name_text_and_age_in_pages(folder: Path) -> None:
    for number in range(3):
        squares(folder, f"s{number}", f"label=label{number}")
    flow("run", "echo", "--quiet", "--id", "e")

    def ids(*arguments: object) -> list[str]:
        return [json.loads(line)["flow_id"] for line in flow("list", "--json", *arguments).stdout.splitlines()]

    assert ids() == ["e", "s2", "s1", "s0"]
    assert ids("--name", "echo") == ["e"]
    assert ids("--search", "LABEL1") == ["s1"]
    assert ids("--status", "failed") == []
    assert ids("--status", "completed", "--status", "failed", "--since", "1h", "--limit", 2) == ["e", "s2"]
    first = flow("list", "--limit", 3)
    assert table(first.stdout)["s2"][:3] == ["squares", "completed", "3 completed"]
    assert "has given the cursor '?'" in flow("list", "--cursor", "?", code=2).output
    (cursor,) = re.findall(r"--cursor (\S+)", first.stderr)
    assert ids("--limit", 3, "--cursor", cursor) == ["s0"]
    assert flow("list", "--status", "lost").output == "No flows\n"


def test_a_flow_is_drawn_into_a_file(folder: Path) -> None:
    squares(folder, "s1")
    assert flow("show", "s1", "--svg", "graph.svg").stdout == ""
    assert (folder / "graph.svg").read_text(encoding="utf-8") == flow("show", "s1", "--svg", "-").stdout
    assert ">squares: completed<" in (folder / "graph.svg").read_text(encoding="utf-8")
    assert "leave out --members" in flow("show", "s1", "--svg", "-", "--members", "squares", code=2).stderr


def test_members_come_in_pages(folder: Path) -> None:
    squares(folder, "s1", "count=5")
    first = flow("show", "s1", "--members", "squares", "--limit", 2, "--json")
    assert [json.loads(line)["index"] for line in first.stdout.splitlines()] == [0, 1]
    (cursor,) = re.findall(r"--cursor (\S+)", first.stderr)
    rest = flow("show", "s1", "--members", "squares", "--cursor", cursor)
    assert list(table(rest.stdout))[1:] == ["squares[2]", "squares[3]", "squares[4]"]


def test_cleanup_removes_what_ended_long_ago(folder: Path) -> None:
    squares(folder, "s1")
    assert flow("cleanup", "--older-than", "1h").stdout == "Removed 0 flows\n"
    assert flow("cleanup", "--older-than", "0", "--json").stdout == '{"removed": 1}\n'
    assert flow("list").output == "No flows\n"


def test_a_flow_that_waits_is_paused_and_cancelled_at_once(folder: Path, failed: str) -> None:
    assert flow("cancel", failed, code=2).output.startswith("Error: Flow 's1' is failed")
    assert flow("pause", failed, code=2).output.startswith("Error: Flow 's1' is failed")
    assert "It would be refused: Flow 's1' is failed" in flow("pause", failed, "--dry-run", code=1).stdout


# -- processes ---------------------------------------------------------------------------------------------------------


class Running:
    """The command in a process of its own."""

    def __init__(self, *arguments: str, stdout: int = subprocess.PIPE) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "graflow", "flow", *arguments],
            env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "100"},
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ended(self, code: int) -> tuple[str, str]:
        out, err = self.process.communicate(timeout=60)
        assert self.process.returncode == code, (out, err)
        return out, err or ""


@pytest.fixture
def held(folder: Path) -> Iterator[Running]:
    """A flow whose group runs, and goes on when the file is gone."""
    (folder / "hold1").touch()
    running = Running("run", "squares", f"folder={folder}", "--id", "s1")
    try:
        wait_until(lambda: (state := state_of("s1")) and state.current_step == "squares", 60)
        yield running
    finally:
        (folder / "hold1").unlink(missing_ok=True)
        running.process.kill()
        running.process.communicate()


@pytest.mark.slow
def test_ctrl_c_pauses_after_the_running_step_and_says_what_a_second_one_does(folder: Path, held: Running) -> None:
    held.process.send_signal(signal.SIGINT)
    wait_until(lambda: len(pauses_of("s1")) == 1)
    (folder / "hold1").unlink()
    out, err = held.ended(130)
    assert "Ctrl-C again stops them at once; they run again when the flow goes on" in err
    assert err.endswith("Interrupted; it goes on with: graflow flow resume s1\n")
    assert table(out)["squares"][0].startswith("completed")
    assert "total" not in table(out)
    flow("resume", "s1", "--quiet")
    assert (folder / "ran").read_text().split().count("1") == 1


def pauses_of(flow_id: str) -> list[str]:
    with FlowRunner(os.environ["GRAFLOW_FLOW_STORE"], recovery=False) as runner:
        return [line.kind for line in runner.events(flow_id) if line.kind == "request.pause"]


@pytest.mark.slow
def test_a_second_ctrl_c_stops_the_running_step_which_runs_again(folder: Path, held: Running) -> None:
    held.process.send_signal(signal.SIGINT)
    wait_until(lambda: len(pauses_of("s1")) == 1)
    held.process.send_signal(signal.SIGINT)
    wait_until(lambda: state_of("s1").status is FlowStatus.PAUSED)
    (folder / "hold1").unlink()
    held.ended(130)
    assert table(flow("show", "s1").stdout)["squares"][0].startswith("paused: ")
    assert "squares" in flow("resume", "s1", "--quiet").stdout
    assert state_of("s1").status is FlowStatus.COMPLETED


@pytest.mark.slow
def test_ctrl_c_while_another_process_runs_the_flow_ends_only_the_waiting(folder: Path, held: Running) -> None:
    waiting = Running("run", "squares", f"folder={folder}", "--id", "s1")
    wait_until(lambda: waiting.process.stderr.readline().endswith("flow s1 is running\n"), 60)
    waiting.process.send_signal(signal.SIGINT)
    _, err = waiting.ended(130)
    assert err.endswith("Flow s1 goes on in another process; only waiting for it has ended\n")
    assert pauses_of("s1") == []
    (folder / "hold1").unlink()
    held.ended(0)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_command_that_is_given_again_goes_on_at_once(
    folder: Path, held: Running, number: signal.Signals
) -> None:
    held.process.send_signal(number)
    held.process.communicate(timeout=60)
    assert held.process.returncode == -number
    (folder / "hold1").unlink()
    if number is signal.SIGTERM:
        assert state_of("s1").status is FlowStatus.QUEUED, "it was handed over"
    else:
        assert f":{held.process.pid}, which is gone" in flow("show", "s1").stdout
        doctor = CliRunner().invoke(graflow, ["doctor"]).stdout
        assert "1 flow wait for a process, such as s1" in doctor
    assert squares(folder, "s1").status is FlowStatus.COMPLETED
    ran = (folder / "ran").read_text().split()
    assert ran.count("100") == ran.count("1") == 1


@pytest.mark.slow
def test_watching_ends_with_the_flow_and_prints_a_line_for_each_change(folder: Path, held: Running) -> None:
    watching = Running("watch", "s1")
    seen: list[str] = []
    reader = threading.Thread(target=lambda: seen.extend(iter(watching.process.stdout.readline, "")))
    reader.start()
    wait_until(lambda: any("step squares is running" in line for line in seen), 60)
    assert flow("pause", "s1").stdout.endswith("It pauses after its running steps\n")
    (folder / "hold1").unlink()
    held.ended(1)
    assert watching.process.wait(60) == 1
    reader.join(60)
    watching.process.communicate()
    assert seen[-1].endswith("flow s1 is paused\n")
    assert all(re.match(r"\d\d:\d\d:\d\d (step|flow) ", line) for line in seen)


@pytest.mark.slow
def test_on_a_terminal_a_flow_is_a_tree_that_grows(folder: Path, held: Running) -> None:
    reader, terminal = pty.openpty()
    watching = Running("watch", "s1", stdout=terminal)
    os.close(terminal)
    text = ""
    with os.fdopen(reader, "rb", buffering=0) as screen:
        for drawn in iter(lambda: read_terminal(screen), b""):
            text += re.sub(r"\x1b\[[\d;?]*\w", "", drawn.decode(errors="replace"))
            if "└─ ● squares" in text:
                (folder / "hold1").unlink(missing_ok=True)
    watching.ended(0)
    assert "├─ ✓ first completed" in text
    assert re.search(r"━+ 2/3  (1 pending, 2|2) completed", text), text
    assert "squares s1 completed" in text


@pytest.mark.parametrize("is_gone", [False, True])
def test_ctrl_c_ends_watching_and_tells_whether_the_flow_goes_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch, is_gone: bool
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Watcher, "watch", interrupted)
    host, pid, start = this_owner().split(":")
    with closing(SqliteStore(folder / "flows.db")) as store:
        begin(store, owner=f"{host}:{pid}:{'1' * is_gone}{start}")
    told = "The process of flow f1 is gone; it goes on with: graflow flow resume f1" if is_gone else "Flow f1 goes on; "
    assert flow("watch", "f1", code=130).stderr.startswith(told)


# -- workers -----------------------------------------------------------------------------------------------------------


def test_members_that_workers_run_are_running_before_the_flow_hears_of_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Views:
        @staticmethod
        def running(run_key: str, *, with_progress: bool = False) -> list[dict[str, Any]]:
            asked.append(run_key)
            return [{"index": index, "status": "running", "attempts": 1, "worker": "w1"} for index in (1, 3)]

    asked: list[str] = []
    plug_in = SimpleNamespace(load=lambda: lambda _: Views)
    monkeypatch.setattr("graflow.flows.plugged.entry_points", lambda group: [plug_in])
    with closing(SqliteStore(folder / "flows.db")) as store:
        begin(store, owner=this_owner())
        move(store, Move.STEP, steps=(started("load"),))
        flow("show", "f1")
        assert asked == [], "there is no group"
        move(store, Move.STEP, steps=(group_row(4),), members=(member(0),))
        assert table(flow("show", "f1").stdout)["g"][0] == "running: 1 completed, 2 running, 1 pending of 4"

        def members(*more: str) -> list[str]:
            rows = flow("show", "f1", "--members", "g", "--json", *more).stdout.splitlines()
            return [f"{row.index} {row.status}" for row in map(FlowStepState.model_validate_json, rows)]

        assert members() == ["0 completed", "1 running", "2 pending", "3 running"]
        assert members("--status", "running") == ["1 running", "3 running"]
        assert members("--status", "pending") == ["2 pending"]
        assert members("--status", "running", "--limit", "1") == ["1 running"]
        assert members("--status", "running", "--cursor", "1") == ["3 running"]
        asked.clear()
        move(store, Move.STEP, steps=(completed("g"),))
        flow("show", "f1", "--members", "g")
        assert asked == [], "it has ended"


@pytest.mark.redis
@pytest.mark.slow
def test_workers_run_a_flow_that_the_command_only_begins(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = os.environ["GRAFLOW_FLOW_STORE"]
    monkeypatch.delenv("GRAFLOW_FLOW_STORE")
    with LocalCluster(workers=1, imports=[FLOWS]) as cluster:
        store = cluster.redis_url.reveal()
        monkeypatch.setenv("GRAFLOW_REDIS_URL", store)
        monkeypatch.setenv("GRAFLOW_SIGNING_KEY", cluster.backend_config["signing_key"].reveal())
        refused = flow("run", "squares", f"folder={folder}", "--on-workers", "--store", own, code=2)
        assert "Workers cannot reach the store sqlite://" in refused.output
        (folder / "fail1").touch()
        begun = flow("run", "squares", f"folder={folder}", "--id", "s1", "--on-workers")
        assert begun.stdout == "s1\n"
        assert begun.stderr.startswith("It is kept in redis://")
        assert "flow s1 is failed: " in flow("watch", "s1", "--store", store, code=1).stdout
        (folder / "fail1").unlink()
        assert flow("resume", "s1", "--on-workers").stdout == "s1\n"
        flow("watch", "s1", "--store", store)
        assert "completed: 3 completed of 3" in flow("show", "s1", "--store", store).stdout


# -- help --------------------------------------------------------------------------------------------------------------

COMMANDS = ("run", "resume", "retry", "fork", "list", "show", "watch", "pause", "cancel", "cleanup")


def test_help_stands_under_headings_and_fits_sixty_columns() -> None:
    shown = flow("--help").stdout
    assert re.findall(r"^(\w.*):$", shown, re.MULTILINE) == [
        "Options",
        "Running flows",
        "Looking at flows",
        "Stopping and clearing up",
    ]
    for command in ((), *((name,) for name in COMMANDS)):
        helped = CliRunner().invoke(graflow, ["flow", *command, "--help"], prog_name="graflow", terminal_width=60)
        assert max(map(len, helped.output.splitlines())) <= 60


@pytest.mark.slow
def test_it_works_where_celery_is_not_installed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_celery = WITHOUT_CELERY.replace('"redis"', '"graflow_celery"')

    def run(*arguments: str, program: str = without_celery, code: int = 0) -> str:
        command = [sys.executable, "-W", "ignore", "-c", program, "flow", *arguments]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == code, done.stderr
        return done.stdout or done.stderr

    assert "squares s1 completed" in run("run", "squares", f"folder={folder}", "--id", "s1")
    assert "s1" in run("list")
    with closing(SqliteStore(folder / "flows.db")) as store:
        begin(store)
        move(store, Move.STEP, steps=(group_row(3),))
    assert "running: 3 pending of 3" in run("show", "f1"), "nobody is there who knows of workers"
    on_workers = ["run", "squares", f"folder={folder}", "--on-workers"]
    assert run(*on_workers, code=1) == "Error: No module named 'graflow_celery'\n"
    monkeypatch.setenv("GRAFLOW_FLOWS", "")
    told = run("list", "--store", "redis://localhost:1/0", program=WITHOUT_CELERY, code=1)
    assert told.startswith("Error: Talking to Redis needs the package redis, which cannot be imported here")
