"""Each example runs as its readers run it: as a program, from the folder above."""

from __future__ import annotations

import io
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from examples.stdlib_tasks import list_shards
from tests.support import wait_until

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"

PRINTED = {
    "01_basics.py": """
        alone: hello, world
        the function itself: hello, function
        with arguments: hello, argument
        first: hello, Ada
        last: hello, Grace
        in a workflow: HELLO, WORLD! (task shout, pass 1)
        attempts: 3
    """,
    "02_workflows.py": """
        nodes: ['fetch', 'largest', 'measures', 'smallest', 'spread']
        the join runs once
        spread: 2
        order: ['fetch', 'smallest', 'largest', 'measures', 'spread']
        the join runs once
        again: 2
        from 'largest': 20
        error: Task 'fails' failed: ValueError: no data today - cause: ValueError
    """,
    "03_data_flow.py": """
        label: 5 kg
        report: ['produced', 'reported 5 kg', '1 of 2', 'runs: 1']
        literal: pieces
    """,
    "04_dynamic_tasks.py": """
        terminated - nothing left to do
        cities: seen Oslo and seen Rome
        halved to: 10.0
        canceled: Workflow canceled by task 'big': too big
    """,
    "05_groups_and_policies.py": """
        strict: failed [('broken', 'unreachable')]
        best_effort: 2 answers
        at_least_2: 2 answers
        critical: failed [('broken', 'unreachable')]
        threading: total 30
        direct: total 30
    """,
    "06_checkpoints.py": """
        load runs
        train runs
        publish runs
        crashed: Task 'publish' failed: ConnectionError: the shop is closed
        files: ['trained.meta.json', 'trained.pkl', 'trained.sig', 'trained.state.json']
        resumed at step 2, stage 'trained'
        publish runs
        value: published 6
    """,
    "08_distributed.py": """
        amounts: [90, 105]
        taxes: [16, 19]
        scaled[0] of 3: 0, attempt 1
        scaled[1] of 3: 10, attempt 1
        scaled[2] of 3: 20, attempt 1
    """,
}


def run_example(name: str, *arguments: str, home: Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GRAFLOW_")}
    return subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:__main__", str(EXAMPLES / name), *arguments],
        cwd=cwd,
        env={**environment, "XDG_STATE_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def lines_of(text: str) -> list[str]:
    return [line.strip() for line in text.strip().splitlines()]


def needing_a_server(name: str) -> list[pytest.MarkDecorator]:
    return [pytest.mark.redis] if name.startswith("08") else []


@pytest.mark.parametrize("name", [pytest.param(name, marks=needing_a_server(name)) for name in sorted(PRINTED)])
def test_an_example_prints_what_it_promises(name: str, tmp_path: Path) -> None:
    done = run_example(name, home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert lines_of(done.stdout) == lines_of(PRINTED[name])


def test_a_run_waits_for_an_approval_and_goes_on(tmp_path: Path) -> None:
    done = run_example("approval.py", home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert lines_of(done.stdout) == lines_of("""
        build runs
        check runs
        stopped: waiting
        open: Publish graflow 0.2 as beta?
        first answer: True
        second answer: False
        resumed, saved for: feedback_timeout
        value: graflow 0.2 is published as beta
    """)


def test_the_pictures_show_every_task(tmp_path: Path) -> None:
    done = run_example("07_visualisation.py", home=tmp_path)
    assert done.returncode == 0, done.stderr
    defined, ran, edges, mermaid = re.split(r"\n\n(?=ran:|edges|Mermaid)", done.stdout)
    for picture in (defined, ran, mermaid):
        assert all(name in picture for name in ("fetch", "work", "store"))
    assert "['pictures', 'fetch', 'work', 'clean', 'check', 'store']" in ran
    assert "('work', 'clean')" in edges


def test_every_numbered_example_is_run_and_short() -> None:
    numbered = sorted(path.name for path in EXAMPLES.glob("[0-9]*.py"))
    assert numbered == sorted([*PRINTED, "07_visualisation.py"])
    assert {name: length for name in numbered if (length := len((EXAMPLES / name).read_text().splitlines())) > 60} == {}


def test_examples_run_from_any_folder_and_leave_nothing_there(tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    for name in ("01_basics.py", "06_checkpoints.py"):
        assert run_example(name, home=tmp_path, cwd=folder).returncode == 0
    assert list(folder.iterdir()) == []


REPORT = ("The most complex functions", "The slowest members", "Both give the same numbers.")


WITHOUT_SERVERS = [pytest.param(name, marks=pytest.mark.slow) for name in ("threading", "direct")]


@pytest.mark.parametrize("backend", [*WITHOUT_SERVERS, pytest.param("redis", marks=pytest.mark.redis)])
def test_the_report_on_the_standard_library_is_the_same_on_every_backend(backend: str, tmp_path: Path) -> None:
    done = run_example("stdlib_report.py", "--backend", backend, "--limit", "6", home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert all(part in done.stdout for part in REPORT)
    assert "in 6 shards" in done.stdout
    assert "Traceback" not in done.stderr
    assert "%" not in done.stderr, "a progress bar was drawn although nobody looks"


@pytest.mark.parametrize("backend", ["threading", pytest.param("redis", marks=[pytest.mark.redis, pytest.mark.slow])])
def test_on_a_terminal_each_run_of_the_report_has_a_bar_that_ends_with_its_time(backend: str, tmp_path: Path) -> None:
    home = {**os.environ, "XDG_STATE_HOME": str(tmp_path), "TERM": "xterm", "COLUMNS": "120"}
    reader, terminal = pty.openpty()
    with os.fdopen(reader, "rb", buffering=0) as screen:
        report = subprocess.Popen(
            [sys.executable, str(EXAMPLES / "stdlib_report.py"), "--backend", backend, "--limit", "6"],
            cwd=ROOT,
            env={key: value for key, value in home.items() if not key.startswith("GRAFLOW_")},
            stdout=subprocess.PIPE,
            stderr=terminal,
            text=True,
        )
        os.close(terminal)
        drawn = b"".join(iter(lambda: read_terminal(screen), b"")).decode()
        printed, _ = report.communicate(timeout=240)

    assert report.returncode == 0, drawn
    times = re.search(r"([\d.]+) s on the \w+ backend, ([\d.]+) s one after another", printed)
    assert times, printed
    for name, seconds in zip((f"on the {backend} backend", "one after another"), times.groups(), strict=True):
        *_, last = re.findall(rf"{name} \W+ +(\d+)/(\d+) ([\d.]+) s", re.sub(r"\x1b\[[\d;?]*\w", "", drawn))
        assert last[:2] == ("6", "6")
        assert float(last[2]) == pytest.approx(float(seconds), abs=0.15)


def read_terminal(screen: io.FileIO) -> bytes:
    """What a program drew next; nothing after its end, which Linux tells with an error."""
    try:
        return screen.read(65536)
    except OSError:
        return b""


def children_of(pid: int) -> set[int]:
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, timeout=10, check=True)
    pairs = [tuple(map(int, line.split())) for line in listed.stdout.splitlines()]
    return {child for child, parent in pairs if parent == pid}


def is_alive(pid: int) -> bool:
    listed = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, timeout=10, check=False
    )
    return bool(listed.stdout.strip()) and not listed.stdout.startswith("Z")


def interrupt(example: str, home: Path, processes: int) -> None:
    """Interrupt an example once it has so many processes: it says so, and leaves none of them, and no file."""
    folder = home / "tmp"
    folder.mkdir()
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GRAFLOW_")}
    program = subprocess.Popen(
        [sys.executable, str(EXAMPLES / example)],
        cwd=ROOT,
        env={**environment, "TMPDIR": str(folder), "XDG_STATE_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        wait_until(lambda: len(children_of(program.pid)) >= processes, timeout=60)
        started = children_of(program.pid)
        program.send_signal(signal.SIGINT)
        printed, _ = program.communicate(timeout=60)
    finally:
        program.kill()
    assert program.returncode == 1
    assert printed.strip().endswith("Interrupted; nothing is left behind.")
    wait_until(lambda: not any(map(is_alive, started)))
    assert list(folder.iterdir()) == []


@pytest.mark.redis
def test_an_interrupted_report_leaves_no_process_behind(tmp_path: Path) -> None:
    interrupt("stdlib_report.py", tmp_path, 3)  # the Redis and two workers


def test_a_flow_that_asks_outlives_its_process_and_completes_once_it_is_answered(tmp_path: Path) -> None:
    done = run_example("flows/approval.py", home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert lines_of(done.stdout) == lines_of("""
        asked: Which release of graflow?
        killed; the flow is queued, its question open
        answered by ann
        completed: graflow 0.2 is published as beta
        begun: draft 1, choose 1, publish 1
    """)


def test_two_people_have_to_say_yes_and_nobody_says_it_twice(tmp_path: Path) -> None:
    done = run_example("flows/two_approvers.py", home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert lines_of(done.stdout) == lines_of("""
        Pay 1200 to Turing Machines? of ann, bob, carol
        ann: AnswerRefusedError
        mallory: NotAskedError
        1 of 2 answers, so it is open
        paid 1200, approved by ann, bob
        voted refused refused voted
    """)


def test_documents_are_analysed_with_and_without_a_store(tmp_path: Path) -> None:
    printed = []
    for store in ("off", f"sqlite:///{tmp_path}/flows.db"):
        done = run_example("flows/document_analysis.py", "docs", "--top", "3", "--store", store, home=tmp_path)
        assert done.returncode == 0, done.stderr
        report, _, end = done.stdout.rpartition("\nFlow ")
        assert re.fullmatch(r"\S+: 4 steps in \d+\.\d\d s\n", end)
        printed.append(report)
    assert printed[0] == printed[1]
    assert all(part in report for part in ("The longest", "The hardest to read", "Keywords"))


@pytest.mark.redis
@pytest.mark.slow
def test_a_flow_that_is_killed_in_its_group_on_workers_finishes_and_measures_nothing_twice(tmp_path: Path) -> None:
    done = run_example("flows/crash_demo.py", "--limit", "200", home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "nobody looks"
    figures = dict(re.findall(r"^(reused|adopted|run after|run again).*? +(\d+) *$", done.stdout, re.MULTILINE))
    assert "Flow documents is completed: 200 documents" in done.stdout
    assert int(figures["reused"]) >= 60
    assert int(figures["adopted"]) > 0, "the workers went on while no process ran the flow"
    assert figures["run again"] == "0"
    assert re.search(r"^pages +adopted +2 *$", done.stdout, re.MULTILINE)
    assert re.search(r"^discover +reused +1 *$", done.stdout, re.MULTILINE)
    assert done.stdout.endswith("Every document was measured once.\n")


@pytest.mark.redis
@pytest.mark.slow
def test_an_interrupted_crash_demo_leaves_no_process_and_no_file_behind(tmp_path: Path) -> None:
    interrupt("flows/crash_demo.py", tmp_path, 4)  # the Redis, two workers, and who runs the flow


def test_the_report_fans_out_over_at_least_a_hundred_members() -> None:
    shards = list_shards()
    assert len(shards) >= 100
    assert len({shard["name"] for shard in shards}) == len(shards)
