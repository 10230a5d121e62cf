"""Commands of `graflow` that ask servers, and workers started from the command line."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from graflow import parallel
from graflow.cli.main import graflow
from graflow.signing import SigningKeys
from graflow_celery import LocalCluster, submit
from graflow_celery.deployment import deployment_of
from graflow_celery.record.keys import RUN_KEYS
from tests.integration import members
from tests.support import wait_until
from tests.worker_support import celery_worker

pytestmark = pytest.mark.redis


@pytest.fixture(autouse=True)
def environment(cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAFLOW_REDIS_URL", cluster.redis_url.reveal())


def run(*arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(graflow, arguments)
    assert done.exit_code == code, done.output
    return done.output


def test_keygen_prints_a_key_that_can_be_used() -> None:
    text = run("keygen", "--id", "mine").strip()
    assert text.startswith("mine:")
    assert SigningKeys.parse(text).ids == ["mine"]
    assert run("keygen", "--id", "not mine", code=1) == "Error: A key id must consist of letters, digits and '._-'\n"


def test_a_run_is_counted_shown_and_printed(config: dict[str, Any]) -> None:
    handle = submit(members.fail_odd.map(range(3)), backend_config=config)
    assert "FAILED" in run("watch", handle.run_id, code=1)
    assert json.loads(run("status", handle.run_id, "--json"))["succeeded"] == 2
    assert handle.run_id in run("status", handle.run_id).replace("\n", "")
    lines = [json.loads(line) for line in run("results", handle.run_id, "--json").splitlines()]
    assert [line.get("value") for line in lines] == [0, None, 2]
    assert lines[1]["error"].items() >= {"type": "ValueError", "message": "1 is odd"}.items()
    assert "in fail_odd" in lines[1]["error"]["traceback"]
    assert lines[0]["started_at"] <= lines[0]["finished_at"]


def test_results_are_a_table_of_what_came_of_each_member(config: dict[str, Any]) -> None:
    handle = submit(members.fail_odd.map(range(3), name="odd"), backend_config=config)
    head, *rows, last = run("results", handle.run_id).splitlines()
    assert head.split() == ["index", "task", "status", "attempts", "error"]
    assert [row.split()[:4] for row in rows] == [
        ["0", "odd[0]", "SUCCEEDED", "1"],
        ["1", "odd[1]", "FAILED", "1"],
        ["2", "odd[2]", "SUCCEEDED", "1"],
    ]
    assert rows[1].endswith("ValueError: 1 is odd")
    assert last == (
        f"{handle.run_id}: 3 of 3 members have ended, 1 without success; "
        f"graflow retry {handle.run_id} has them run again"
    )
    assert [row.split()[0] for row in run("results", handle.run_id, "--failed").splitlines()[1:-1]] == ["1"]


@pytest.mark.parametrize("batch_size", [1, "auto"])
def test_what_members_printed_and_logged_is_kept_with_their_outcomes(config: dict[str, Any], batch_size: Any) -> None:
    config = {**config, "batch_size": batch_size}
    handle = submit(members.speaks.map(["a", "b\x1b[2J"]), config)
    failing = submit(members.speaks_and_fails.map(["c"]), config)
    silent, _ = submit(members.double.map([1, 2]), config).outcomes(timeout=120)
    told = [line.split(" ", 3) for line in run("results", handle.run_id, "--logs").splitlines()[3:-1]]
    assert [(line[0], line[2], line[3].strip()) for line in told if line[2] == "OUT"] == [
        (f"{handle.run_id}[0]", "OUT", "said a"),
        (f"{handle.run_id}[0]", "OUT", "and more"),
        (f"{handle.run_id}[1]", "OUT", "said b\\x1b[2J"),
        (f"{handle.run_id}[1]", "OUT", "and more"),
    ]
    failed = json.loads(run("results", failing.run_id, "--json", "--logs"))
    assert [(line["level"], line["text"]) for line in failed["logs"]] == [("OUT", "said c")]
    assert failed["started_at"][:16] <= failed["logs"][0]["at"][:16] <= failed["finished_at"][:16]
    assert silent.logs == ()


def test_results_can_be_seen_before_the_end(config: dict[str, Any], tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    group = parallel(members.noop(x=7, task_id="quick"), members.held(mark=str(mark), task_id="slow"))
    handle = submit(group, backend_config=config)
    wait_until(lambda: handle.status().succeeded == 1)
    (line,) = run("results", handle.run_id, "--now", "--json").splitlines()
    assert json.loads(line)["value"] == 7
    assert f"{handle.run_id}: 1 of 2 members have ended\n" in run("results", handle.run_id, "--now")
    assert "not wait" in run("results", handle.run_id, "--now", "--timeout", "1", code=2)
    assert "has not ended; wait until it has" in run("retry", handle.run_id, code=1)
    mark.touch()
    handle.results(20)


def test_what_failed_runs_again(config: dict[str, Any], tmp_path: Path) -> None:
    handle = submit(members.needs_file.starmap([(x, str(tmp_path)) for x in range(4)]), backend_config=config)
    handle.outcomes(20)
    (tmp_path / "file").touch()
    assert run("retry", handle.run_id, "--index", "1") == f"{handle.run_id}: 1 member runs again: 1\n"
    run("watch", handle.run_id, code=1)
    assert run("retry", handle.run_id, "--failed") == f"{handle.run_id}: 1 member runs again: 3\n"
    run("watch", handle.run_id)
    assert "nothing of group run" in run("retry", handle.run_id, code=1)
    assert "no member 9; its members are 0 to 3" in run("retry", handle.run_id, "--index", "9", code=1)
    assert "exclude each other" in run("retry", handle.run_id, "--index", "1", "--failed", code=2)
    assert "no-such-run" in run("retry", "no-such-run", code=1)


def test_watching_shows_the_progress_of_members(
    config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    mark = tmp_path / "end"
    handle = submit(members.reports_and_waits.map([str(mark)]), backend_config=config)
    wait_until(handle.progress)
    timer = threading.Timer(1.5, mark.touch)
    timer.start()
    shown = run("watch", handle.run_id)
    assert "1 of 2 half" in shown
    assert "DONE" in shown


def test_a_wait_of_the_watcher_may_be_limited(config: dict[str, Any]) -> None:
    handle = submit(members.noop.map([1]), backend_config={**config, "queue": "nobody"})
    assert "0 of 1" in run("watch", handle.run_id, "--timeout", "0.7", code=1)
    handle.cancel()


def test_open_runs_are_listed_and_cancelled(config: dict[str, Any]) -> None:
    handle = submit(members.noop.map([1]), backend_config={**config, "queue": "nobody"}, run_id="listed")
    assert "listed" in run("runs")
    assert "cancelled" in run("cancel", handle.run_id)
    assert "ended already" in run("cancel", handle.run_id)
    assert "listed" not in run("runs")


def lines_of(*arguments: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run(*arguments, "--json").splitlines()]


def test_a_list_of_runs_is_never_cut_whatever_they_are_called(config: dict[str, Any]) -> None:
    group = members.noop.map([1, 2, 3], name="shards-of-a-group-with-a-rather-long-name-" * 3)
    handle = submit(group, backend_config={**config, "queue": "nobody"}, run_id="long-" * 20)
    (row,) = [line.split() for line in run("runs").splitlines() if handle.run_id in line]
    assert row[:5] == [handle.run_id, group.task_id, "RUNNING", "3", "3"]
    handle.cancel()


def test_runs_that_have_ended_are_listed_on_request(config: dict[str, Any]) -> None:
    handle = submit(members.fail.map([1]), backend_config=config, policy="best_effort")
    handle.outcomes(timeout=120)
    assert handle.run_id not in run("runs")
    assert handle.run_id in run("runs", "--all")
    (facts,) = [facts for facts in lines_of("runs", "--all") if facts["run_id"] == handle.run_id]
    assert (facts["state"], facts["failed"], facts["queue"]) == ("DONE", 1, "graflow")
    assert facts["opened_at"] <= facts["finished_at"]


def test_a_run_that_vanished_does_not_spoil_the_list(config: dict[str, Any]) -> None:
    handle = submit(members.noop.map([1]), backend_config={**config, "queue": "nobody"}, run_id="vanished")
    deployment = deployment_of(config)
    keys = deployment.record.keys
    deployment.client.delete(keys.run("vanished", "header"))
    (damaged,) = [line.split() for line in run("runs").splitlines() if line.startswith("vanished")]
    assert damaged[2] == "DAMAGED"
    deployment.client.delete(*(keys.run("vanished", name) for name in RUN_KEYS))
    assert "vanished" not in run("runs")
    deployment.record.delete(handle.run_id)


def test_why_a_run_was_ended_is_shown(config: dict[str, Any]) -> None:
    handle = submit(members.noop.map([1]), backend_config={**config, "queue": "nobody"})
    run("cancel", handle.run_id)
    assert "cancelled from the command line" in run("status", handle.run_id)
    assert lines_of("status", handle.run_id)[0]["reason"] == "cancelled from the command line"


def test_live_workers_are_listed_with_what_they_consume_and_may_run(cluster: LocalCluster) -> None:
    found = lines_of("workers")
    assert {worker["pid"] for worker in found} == {worker.pid for worker in cluster.workers}
    for worker in found:
        assert worker["queues"] == ["graflow"]
        assert members.__name__ in worker["modules"]
        assert worker["keys"] == ["local"]
    assert all(worker["worker"] in run("workers") for worker in found)


def test_queues_are_listed_with_those_that_nobody_consumes(config: dict[str, Any]) -> None:
    handle = submit(members.noop.map([1, 2]), backend_config={**config, "queue": "lonely", "batch_size": 1})
    found = {facts["queue"]: facts for facts in lines_of("queues")}
    (run_of_it,) = (facts for facts in lines_of("runs") if facts["run_id"] == handle.run_id)
    oldest = run_of_it["opened_at"]
    counted = {"messages": 2, "workers": 0, "slots": 0, "done": 0}
    assert found["lonely"] == {"queue": "lonely", **counted, "oldest": oldest}
    assert found["graflow"]["workers"] == len(lines_of("workers"))
    assert ["lonely", "2", "0", "0"] in [line.split()[:4] for line in run("queues").splitlines()]
    handle.cancel()


def test_a_watcher_that_gives_up_says_so_on_a_line_of_its_own(config: dict[str, Any]) -> None:
    handle = submit(members.noop.map([1]), backend_config={**config, "queue": "nobody"})
    shown = run("watch", handle.run_id, "--timeout", "0.2", code=1)
    assert shown.startswith("Error: ")
    handle.cancel()


@pytest.mark.parametrize("key_id", ["a:b", "a,b", ""])
def test_a_key_id_that_cannot_be_written_is_an_error(key_id: str) -> None:
    assert "letters, digits" in run("keygen", "--id", key_id, code=1)


def test_a_run_that_does_not_exist_is_an_error() -> None:
    assert "no-such-run" in run("status", "no-such-run", code=1)


def test_the_commands_belong_to_celery_too() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "graflow_celery", "graflow", "keygen", "--id", "x"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("x:")


@pytest.mark.slow
def test_a_worker_logs_what_it_runs_and_which_members_failed(no_workers: LocalCluster, tmp_path: Path) -> None:
    mine = {**no_workers.backend_config, "queue": "logged", "batch_size": 4}
    with celery_worker(mine, tmp_path, "-c", "1", "-l", "INFO", "--graflow-import", members.__name__) as log:
        handle = submit(members.fail_odd.map(range(4)), backend_config=mine, policy="best_effort")
        assert handle.results(timeout=120) == [0, None, 2, None]
    text = log.read_text(encoding="utf-8")
    assert f"{members.__name__}; signing keys: local" in text
    lines = text.splitlines()
    assert [line.partition(": Run ")[2] or line.partition("] Run ")[2] for line in lines if "WARNING" in line] == [
        f"{handle.run_id}: fail_odd[{index}] failed: ValueError: {index} is odd" for index in (1, 3)
    ]
    assert "Task fail_odd" not in text
    (told,) = [line for line in lines if f"Run {handle.run_id}: 4 of fail_odd in " in line]
    assert told.endswith(" s: 2 SUCCEEDED, 2 FAILED")


@pytest.mark.slow
def test_whoever_sweeps_logs_which_members_were_lost_and_how(
    no_workers: LocalCluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mine = {**no_workers.backend_config, "queue": "lost", "max_attempts": 2}
    with celery_worker(mine, tmp_path, "-c", "2", "-l", "WARNING", "--graflow-import", members.__name__) as log:
        handle = submit(members.suicide.map([1]), backend_config=mine)
        assert handle.outcomes(timeout=120)[0].state == "LOST"
        lost = f"Run {handle.run_id}: LOST suicide[0], whose workers were lost each time (killed by SIGKILL)"
        again = f"Run {handle.run_id}: workers were lost; run again: suicide[0]"
        for line in (again, lost):
            wait_until(lambda line=line: line in log.read_text(encoding="utf-8") + caplog.text)


@pytest.mark.slow
def test_a_worker_that_is_asked_to_stop_leaves_the_table_of_workers(no_workers: LocalCluster, tmp_path: Path) -> None:
    config = {**no_workers.backend_config, "queue": "short"}
    record = deployment_of(config).record
    with celery_worker(config, tmp_path):
        assert "short@here" in {worker.worker_id for worker in record.live_workers()}
    assert "short@here" not in {worker.worker_id for worker in record.live_workers()}
