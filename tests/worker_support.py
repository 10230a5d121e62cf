"""`celery -A graflow_celery worker`, as users type it in a folder of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from graflow_celery.deployment import deployment_of
from tests.support import wait_until

ROOT = Path(__file__).resolve().parent.parent


def _command(*arguments: str) -> list[str]:
    return [str(Path(sys.executable).with_name("celery")), "-A", "graflow_celery", "worker", *arguments]


def _environment(given: Mapping[str, str]) -> dict[str, str]:
    """That of this program without what it says of graflow."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GRAFLOW_")}
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore", **given}


@contextmanager
def celery_worker(config: Mapping[str, Any], folder: Path, *arguments: str, **variables: str) -> Iterator[Path]:
    """A worker named `<queue>@here` of the queue of a configuration, from when it takes work; gives its log.

    It knows the server of the configuration, and its signing key, if any, from the file `keys` in its folder.
    """
    name, log = f"{config['queue']}@here", folder / "worker.log"
    (folder / "celeryconfig.py").touch()  # else that of the project would count
    if "signing_key" in config:
        (folder / "keys").touch(mode=0o600)
        (folder / "keys").write_text(config["signing_key"].reveal() + "\n", encoding="utf-8")
        arguments = ("--graflow-key-file", "keys", *arguments)
    with log.open("wb") as out:
        process = subprocess.Popen(
            _command("-n", name, "-Q", config["queue"], *arguments),
            cwd=folder,
            env=_environment({"GRAFLOW_REDIS_URL": config["url"].reveal(), **variables}),
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    record = deployment_of(config).record
    try:
        wait_until(
            lambda: any(worker.worker_id == name for worker in record.live_workers(15)) or process.poll() is not None,
            30,
            interval=0.05,
        )
        assert process.poll() is None, log.read_text(encoding="utf-8")
        yield log
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(45)  # billiard gives its main process up to 30 s to take note of the last result


def last_words(folder: Path, *arguments: str, in_users_code: bool = False, **variables: str) -> str:
    """What a worker says that cannot start: one line, with a traceback where it is about code of its user."""
    done = subprocess.run(
        _command(*arguments),
        cwd=folder,
        env=_environment(variables),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert ("Traceback" in done.stderr) == in_users_code
    (said,) = [line for line in done.stderr.splitlines() if "This worker ends: " in line]
    return said.partition("This worker ends: ")[2]
