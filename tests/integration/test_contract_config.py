"""Every setting by every way that it may come: `backend_config`, `celeryconfig.py`, the environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from graflow import task, workflow
from graflow.core.context import ExecutionContext
from graflow.core.engine import WorkflowEngine
from graflow.exceptions import ConfigError, GroupNotFoundError, SignatureError
from graflow.utils.redis_utils import create_redis_client
from graflow_celery import LocalCluster, RedisTaskQueue, TaskWorker, attach, submit
from graflow_celery.deployment import deployment_of
from graflow_celery.settings import Settings
from tests.integration import members

pytestmark = pytest.mark.redis

OTHER_VALUES: dict[str, Any] = {
    "broker_url": "redis://127.0.0.1:7777/3",
    "key_prefix": "elsewhere",
    "queue": "other",
    "timeout": 12.5,
    "batch_size": 7,
    "max_attempts": 2,
    "lease": 5.0,
    "run_lease": 2.0,
    "queue_wait": 8.0,
    "max_in_flight": 3,
    "worker_wait": 4.0,
    "on_no_worker": "error",
    "result_ttl": 60.0,
    "thread_count": 2,
    "sweep_interval": 0.5,
}
DEFAULTS: dict[str, Any] = {
    "broker_url": None,
    "key_prefix": "graflow",
    "queue": None,
    "timeout": None,
    "batch_size": "auto",
    "max_attempts": 4,
    "lease": 30.0,
    "run_lease": 6.0,
    "queue_wait": 60.0,
    "max_in_flight": None,
    "worker_wait": 10.0,
    "on_no_worker": "warn",
    "result_ttl": 86400.0,
    "thread_count": None,
    "sweep_interval": 1.0,
}
PRINT = """
import json
from graflow_celery import app
from graflow_celery.settings import Settings
found = Settings.load()
shown = {name: getattr(found, name) for name in Settings.model_fields if name not in {"connection", "signing_key"}}
if hasattr(found.broker_url, "reveal"):
    shown["broker_url"] = found.broker_url.reveal()
shown["server"] = found.server
shown["url"] = found.redis_url.reveal()
shown["keys"] = repr(found.keys)
shown["of app"] = [app.conf.broker_url, app.conf.task_default_queue, app.conf.result_backend]
print(json.dumps(shown))
"""


def loaded_in(folder: Path, **environment: str) -> dict[str, Any]:
    """What a fresh process in a folder takes for its settings."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GRAFLOW_")}
    done = subprocess.run(
        [sys.executable, "-c", PRINT],
        cwd=folder,
        env={**clean, "PYTHONPATH": str(Path.cwd()), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.slow
def test_the_defaults_are_those_that_are_promised(tmp_path: Path) -> None:
    found = loaded_in(tmp_path)
    assert {name: found[name] for name in DEFAULTS} == DEFAULTS
    assert found["url"] == "redis://localhost:6379/0"
    assert found["of app"][1] == "graflow"


@pytest.mark.slow
def test_every_setting_may_come_from_the_environment(tmp_path: Path) -> None:
    found = loaded_in(tmp_path, **{f"GRAFLOW_{name.upper()}": str(value) for name, value in OTHER_VALUES.items()})
    assert {name: found[name] for name in OTHER_VALUES} == OTHER_VALUES


@pytest.mark.slow
def test_every_setting_may_come_from_celeryconfig_and_the_environment_wins(tmp_path: Path) -> None:
    lines = [f"graflow_{name} = {value!r}" for name, value in OTHER_VALUES.items()]
    (tmp_path / "celeryconfig.py").write_text("\n".join([*lines, "graflow_url = 'redis://example:1234/5'"]), "utf-8")
    found = loaded_in(tmp_path)
    assert {name: found[name] for name in OTHER_VALUES} == OTHER_VALUES
    assert found["server"] == "example:1234/5"
    assert found["of app"][:2] == [OTHER_VALUES["broker_url"], "other"]
    nearer = loaded_in(tmp_path, GRAFLOW_LEASE="9", GRAFLOW_REDIS_URL="redis://nearer:1/2")
    assert (nearer["lease"], nearer["server"], nearer["timeout"]) == (9.0, "nearer:1/2", 12.5)


def test_connection_keys_may_come_from_the_environment_one_by_one(tmp_path: Path) -> None:
    found = loaded_in(
        tmp_path,
        GRAFLOW_HOST="example",
        GRAFLOW_PORT="1234",
        GRAFLOW_DB="5",
        GRAFLOW_PASSWORD="12345",
        GRAFLOW_SSL="true",
    )
    assert found["server"] == "example:1234/5"
    assert found["url"].startswith("rediss://:12345@example:1234/5")


@pytest.mark.slow
def test_the_broker_and_queue_of_celeryconfig_count_until_a_redis_is_named_nearer(tmp_path: Path) -> None:
    text = "broker_url = 'redis://broker:1/0'\ntask_default_queue = 'theirs'\nworker_prefetch_multiplier = 3\n"
    (tmp_path / "celeryconfig.py").write_text(text, "utf-8")
    found = loaded_in(tmp_path)
    assert (found["broker_url"], found["queue"]) == ("redis://broker:1/0", "theirs")
    assert found["of app"][:2] == ["redis://broker:1/0", "theirs"]
    nearer = loaded_in(tmp_path, GRAFLOW_REDIS_URL="redis://nearer:1/2")
    assert (nearer["broker_url"], nearer["of app"][0]) == (None, "redis://nearer:1/2")


@pytest.mark.slow
def test_keys_come_from_a_variable_or_a_file(tmp_path: Path) -> None:
    key = f"mine:{'A' * 43}="
    (tmp_path / "keys").touch(mode=0o600)
    (tmp_path / "keys").write_text(f"{key}\nolder:{'B' * 43}=\n", "utf-8")
    assert "mine" in loaded_in(tmp_path, GRAFLOW_SIGNING_KEY=key)["keys"]
    from_file = loaded_in(tmp_path, GRAFLOW_SIGNING_KEY_FILE=str(tmp_path / "keys"))["keys"]
    assert "mine" in from_file
    assert "older" in from_file
    assert "AAAA" not in from_file


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *[("lease", 0), ("max_attempts", 0), ("batch_size", 0), ("batch_size", "x"), ("max_in_flight", 0)],
        *[("worker_wait", -1), ("on_no_worker", "x"), ("result_ttl", 0), ("timeout", 0), ("timeout", "soon")],
        *[("queue", ""), ("key_prefix", ""), ("key_prefix", "a b"), ("thread_count", 0), ("sweep_interval", 0)],
        *[("run_lease", 0), ("queue_wait", 0), ("queue_wait", "soon")],
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_name_before_anything_is_sent(
    key: str, value: Any, config: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match=key) as caught:
        submit(members.noop.map([1]), backend_config={**config, key: value})
    assert "pydantic" not in str(caught.value)


@pytest.mark.parametrize(
    "config",
    [{"url": "http://example"}, {"host": "localhost", "port": "abc"}, {"host": ""}, {"broker_url": "nonsense://x"}],
    ids=["url", "port", "host", "broker"],
)
def test_a_connection_that_cannot_be_is_refused_at_every_door(config: dict[str, Any]) -> None:
    for door in (
        lambda: submit(members.noop.map([1]), backend_config=config),
        lambda: attach("some-run", backend_config=config),
        lambda: TaskWorker(config),
        lambda: RedisTaskQueue(backend_config=config),
    ):
        with pytest.raises(ConfigError):
            door()


def test_the_config_of_a_context_may_hold_anything(config: dict[str, Any]) -> None:
    with workflow("w") as wf:
        group = members.double.map([1, 2], name="shards").with_execution("redis")
        group >> members.total
        context = ExecutionContext.create(wf.graph, config={**config, "leese": 2, "mine": object()})
        WorkflowEngine().execute(context)
    assert context.get_result("total") == 6


def test_a_queue_takes_its_prefix_from_where_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAFLOW_KEY_PREFIX", "of-the-environment")
    assert RedisTaskQueue().key_prefix == "of-the-environment"
    assert RedisTaskQueue(None, "given").key_prefix == "given"
    assert RedisTaskQueue(backend_config={"key_prefix": "configured"}).key_prefix == "configured"


@pytest.mark.slow
def test_two_prefixes_on_one_redis_do_not_meet(no_workers: LocalCluster) -> None:
    ours, theirs = ({**no_workers.backend_config, "key_prefix": name} for name in ("ours", "theirs"))
    handle = submit(members.noop.map([1, 2]), backend_config=ours, run_id="same")
    other = submit(members.noop.map([3]), backend_config=theirs, run_id="same")
    assert (handle.status().total, other.status().total) == (2, 1)
    with TaskWorker(theirs, imports=[members.__name__]):
        assert other.results(timeout=120) == [3]
    assert handle.status().pending == 2
    handle.cancel()


def test_a_deployment_does_not_see_one_whose_prefix_goes_on_where_its_own_ends(
    no_workers: LocalCluster,
) -> None:
    outer, inner = ({**no_workers.backend_config, "key_prefix": name} for name in ("team", "team:etl"))
    hidden = submit(members.noop.map([1, 2], name="hidden"), backend_config=inner, run_id="R")
    own = submit(members.noop.map([1], name="own"), backend_config=outer, run_id="a:b")
    record = deployment_of(outer).record
    assert (record.groups(), deployment_of(inner).record.groups()) == (["a:b"], ["R"])
    assert attach("a:b", outer).status().total == 1
    for look in (
        lambda: attach("etl:R", outer),
        lambda: deployment_of({**outer, "signing_key": None}).record.header("etl:R"),
    ):
        with pytest.raises((GroupNotFoundError, SignatureError)):
            look()
    assert str(hidden.status().state) == "RUNNING"
    hidden.cancel()
    own.cancel()


def test_settings_are_taken_where_a_mapping_is(config: dict[str, Any]) -> None:
    settings = Settings.load(config)
    assert TaskWorker(settings).settings == settings
    assert RedisTaskQueue(backend_config=settings).settings == settings


@pytest.mark.slow
def test_a_cluster_is_its_own_broker_whatever_celeryconfig_says(tmp_path: Path) -> None:
    (tmp_path / "celeryconfig.py").write_text("broker_url = 'redis://127.0.0.1:1/0'\n", "utf-8")
    (tmp_path / "script.py").write_text(
        "from graflow import task\n"
        "from graflow_celery import LocalCluster, submit\n"
        "@task\ndef plus_one(x):\n    return x + 1\n"
        "if __name__ == '__main__':\n"
        "    with LocalCluster(workers=1) as cluster:\n"
        "        print(submit(plus_one.map([1, 2]), cluster.backend_config).results(timeout=120))\n",
        "utf-8",
    )
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "[2, 3]\n", done.stderr


def test_the_time_that_outcomes_are_kept_is_that_of_the_settings(cluster: LocalCluster) -> None:
    shorter = {**cluster.backend_config, "result_ttl": 600}
    handle = submit(task(id="brief")(lambda x: x).map([1]), backend_config=shorter)
    assert handle.results(timeout=120) == [1]
    with create_redis_client({"url": cluster.redis_url}) as client:
        left = [client.ttl(key) for key in client.scan_iter(f"graflow:{handle.run_id}:*")]
    assert left
    assert all(590 < seconds <= 600 for seconds in left)
