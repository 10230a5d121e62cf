"""A `LocalCluster` and the program around it: output, children, what its members find, and the time after its block."""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from graflow.exceptions import ConfigError
from graflow_celery import LocalCluster, RecordUnreachableError, submit
from tests.integration import members
from tests.support import PrivateRedis, wait_until

pytestmark = pytest.mark.redis


def spoken(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, *, quiet: bool) -> str:
    with (
        caplog.at_level(logging.INFO),
        LocalCluster(workers=1, imports=[members], quiet=quiet) as cluster,
    ):
        submit(members.speaks.map(["a", "b"]), cluster.backend_config, run_id="talk").results(timeout=120)
    said = capfd.readouterr()
    return said.out + said.err


def test_what_members_print_and_log_is_shown_with_run_index_and_task_in_front(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    lines = spoken(capfd, caplog, quiet=False).splitlines()
    for name in ("a", "b"):
        index = "ab".index(name)
        assert f"talk[{index}] speaks[{index}]: said {name}" in lines
        assert any(
            line.startswith(f"talk[{index}] speaks[{index}]: ") and line.endswith(f"logged {name}") for line in lines
        )
    assert sum(line.endswith(": and more") for line in lines) == 2
    assert not any("succeeded" in line for line in lines), "nothing about messages"


def test_a_quiet_cluster_shows_none_of_it(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    assert "said" not in (text := spoken(capfd, caplog, quiet=True))
    assert "logged" not in text


def test_other_programs_that_members_start_have_the_environment_of_this_one(
    cluster: LocalCluster, config: dict[str, Any]
) -> None:
    names = ["PYTHONPATH", "GRAFLOW_SYS_PATH", "GRAFLOW_MEMBER_OUTPUT"]
    found = submit(members.environment.map(names), config).results(timeout=120)
    assert found == [os.environ.get("PYTHONPATH"), None, None]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_member_may_use_multiprocessing(method: str, config: dict[str, Any]) -> None:
    assert submit(members.in_a_pool.map([method]), config).results(timeout=60) == [[1, 4, 9]]


def submit_here(config: dict[str, Any]) -> list[Any]:
    return submit(members.double.map([1, 2]), config).results(timeout=120)


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_its_configuration_works_in_a_child_process_of_the_program(method: str, config: dict[str, Any]) -> None:
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert pool.apply(submit_here, (config,)) == [2, 4]


def test_a_pickle_of_its_configuration_holds_no_secret_and_ends_with_it() -> None:
    with LocalCluster(workers=0) as cluster:
        config = cluster.backend_config
        kept = pickle.dumps(config)
        secrets = [config["url"].reveal(), config["signing_key"].reveal()]
        assert not any(secret.encode() in kept for secret in secrets)
        loaded = pickle.loads(kept)
        assert [loaded["url"].reveal(), loaded["signing_key"].reveal()] == secrets
    with pytest.raises(ConfigError, match="LocalCluster, which has ended"):
        pickle.loads(kept)["url"].reveal()


@pytest.mark.slow
@pytest.mark.parametrize("own", [True, False], ids=["private", "given"])
def test_a_handle_that_is_used_after_the_block_says_so_at_once(own: bool, redis_server: PrivateRedis) -> None:
    with LocalCluster(workers=1, imports=[members], redis=None if own else redis_server.url, quiet=True) as cluster:
        config = cluster.backend_config
        done, waiting = (submit(members.double.map([1]), {**config, "queue": queue}) for queue in ("graflow", "nobody"))
        if own:
            assert done.results(timeout=120) == [2]
    if own:
        assert done.results() == [2]
    for call in (waiting.results, waiting.status, lambda: submit(members.double.map([1]), config)):
        begun = time.monotonic()
        with pytest.raises(RecordUnreachableError, match=r"LocalCluster of this run has ended"):
            call()
        assert time.monotonic() - begun < 20, "nobody waits for a server that is gone for good"


def test_a_cluster_says_what_it_is() -> None:
    cluster = LocalCluster(workers=0, concurrency=2)
    assert repr(cluster) == "LocalCluster(not running)"
    with cluster:
        assert repr(cluster).startswith("LocalCluster(0 workers of 2 slots, redis at 127.0.0.1:")
        assert cluster.redis_url.reveal().split(":")[2].split("@")[0] not in repr(cluster)


@pytest.mark.slow
def test_busy_workers_have_one_time_to_end_in_all_and_it_is_said_what_is_waited_for(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with LocalCluster(workers=3, imports=[members]) as cluster:
        cluster.stop_seconds = 3.0
        handle = submit(members.patient.map(range(3)), cluster.backend_config)
        wait_until(lambda: handle.status().running == 3)
        begun = time.monotonic()
    assert time.monotonic() - begun < 8, "not three seconds for each of the three"
    told = capfd.readouterr().err
    assert "LocalCluster: waiting up to 3 s for 3 running members; Ctrl-C ends them at once" in told


FORKS = """
import os
from graflow_celery import LocalCluster
with LocalCluster(workers=0) as cluster:
    if os.fork() == 0:
        raise SystemExit(0)  # runs the end of the block, and what is registered for the exit
    os.wait()
    print(repr(cluster))
    import redis
    print(redis.Redis.from_url(cluster.redis_url.reveal()).ping())
"""


@pytest.mark.slow
def test_a_forked_child_that_leaves_the_block_does_not_end_the_cluster(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", FORKS], capture_output=True, text=True, timeout=60, cwd=Path.cwd(), check=True
    )
    assert ended.stdout.splitlines()[1] == "True"


LATE = """
from graflow_celery import LocalCluster, submit
with LocalCluster(workers=1, quiet=True) as cluster:
    import late_tasks
    print(submit(late_tasks.thrice.map([1, 2]), cluster.backend_config, then=late_tasks.summed).results(timeout=120))
"""


def test_tasks_of_any_module_of_the_program_run_without_being_named(tmp_path: Path) -> None:
    (tmp_path / "late_tasks.py").write_text(
        "from graflow import task\n@task\ndef thrice(x): return 3 * x\n@task\ndef summed(values): return sum(values)\n",
        encoding="utf-8",
    )
    program = tmp_path / "program.py"
    program.write_text(LATE, encoding="utf-8")
    ended = subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, timeout=60, cwd=tmp_path, check=False
    )
    assert ended.stdout == "[3, 6]\n", ended.stderr
