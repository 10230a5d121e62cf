"""`graflow doctor`: what it finds, and what it says to do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from graflow import task
from graflow.cli.main import graflow
from graflow.configuration.variables import unknown_variables
from graflow.flows import FlowRunner
from graflow.signing import generate_key
from graflow.state import FlowStatus
from graflow_celery.deployment import deployment_of
from graflow_celery.record import GroupRecord
from tests.record_support import open_group
from tests.state.support import new_flow
from tests.support import PrivateRedis, free_port, private_redis


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def server() -> Iterator[PrivateRedis]:
    with private_redis() as started:
        yield started


def findings(*arguments: str) -> tuple[int, list[dict[str, Any]]]:
    done = CliRunner().invoke(graflow, ["doctor", "--json", *arguments])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.output
    return done.exit_code, [json.loads(line) for line in done.stdout.splitlines()]


def told(found: list[dict[str, Any]], topic: str, level: str) -> str:
    """The one finding of a topic and level, with its remedy."""
    (one,) = [each for each in found if (each["topic"], each["level"]) == (topic, level)]
    return f"{one['text']}: {one['remedy']}"


def test_a_server_that_is_away_is_an_error_and_the_rest_is_told_all_the_same() -> None:
    code, found = findings("--url", f"redis://127.0.0.1:{free_port()}/0")
    assert code == 2
    assert "nothing listens there" in told(found, "servers", "error")
    assert "no flow has been run there yet" in told(found, "store", "ok")
    done = CliRunner().invoke(graflow, ["doctor", "--url", f"redis://127.0.0.1:{free_port()}/0"])
    assert done.exit_code == 2
    assert "        → start the server, or correct the setting that is named" in done.stdout


def test_a_variable_that_nothing_reads_is_told_with_the_nearest_name(monkeypatch: pytest.MonkeyPatch) -> None:
    known = ["GRAFLOW_KEY_PREFIX", "GRAFLOW_QUEUE"]
    (found,) = unknown_variables({"GRAFLOW_KEYPREFIX": "x", "GRAFLOW_QUEUE": "y", "PATH": ""}, known)
    assert found == ("GRAFLOW_KEYPREFIX", "GRAFLOW_KEY_PREFIX")
    monkeypatch.setenv("GRAFLOW_REDIS_URI", "redis://nowhere")
    _, everything = findings("--url", f"redis://127.0.0.1:{free_port()}/0")
    assert any("is GRAFLOW_REDIS_URL meant?" in one["text"] for one in everything)


def test_each_setting_is_told_with_where_it_comes_from(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "config.yaml"
    path.write_text(f"redis:\n  url: redis://:hunter2@127.0.0.1:{free_port()}/0\nflow_engine:\n  lease: 5\n", "utf-8")
    monkeypatch.setenv("GRAFLOW_CACHE_TTL", "60")
    _, found = findings()
    told_settings = "\n".join(one["text"] for one in found if one["topic"] == "settings")
    for line in (
        f"{path} is read",
        f"lease = 5.0 ({path}:4)",
        "ttl = 60.0 (GRAFLOW_CACHE_TTL)",
        "recovery = True (default)",
        f"url from redis.url ({path}:2)",
    ):
        assert line in told_settings
    assert "hunter2" not in str(found)
    path.write_text("flow_engine:\n  leese: 5\n", "utf-8")
    code, found = findings()
    assert code == 2
    assert f"{path}:2: Unknown key 'leese' in section flow_engine; did you mean 'lease'?" in told(
        found, "configuration", "error"
    )


@pytest.mark.redis
def test_a_server_without_workers_and_with_a_queue_and_a_damaged_run(
    server: PrivateRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAFLOW_SIGNING_KEY", generate_key("mine"))
    deployment = deployment_of({"url": server.url})
    record: GroupRecord = deployment.record
    open_group(record, "sound")
    open_group(record, "broken")
    deployment.client.hset(record.keys.run("broken", "header"), "spec", b"{")
    server.client().config_set("maxmemory-policy", "volatile-lru")

    code, found = findings("--url", server.url)

    assert code == 2
    assert "Signed by mine" in told(found, "keys", "ok")
    assert "No worker lives: celery -A graflow_celery worker" in told(found, "workers", "warning")
    assert "Run broken is " in told(found, "records", "error")
    assert told(found, "records", "ok").startswith("1 groups are open")
    warnings = [one["text"] for one in found if one["topic"] == "servers" and one["level"] == "warning"]
    assert any("evicts keys when its memory is full (volatile-lru)" in text for text in warnings)


def test_flows_that_nobody_can_run_are_told(folder: Path) -> None:
    @task
    def step() -> None: ...

    with FlowRunner(f"sqlite:///{folder}/flows.db", recovery=False) as runner:
        runner.register(lambda: step, "gone")
        runner.store.initialize()
        runner.store.create(new_flow("f1", flow_name="gone", status=FlowStatus.QUEUED))
    (folder / "known.py").write_text(
        "from graflow import task\nfrom graflow.flows import flow\n\n@task\ndef a(): ...\n\n"
        "@flow('doctors_own')\ndef build():\n    return a\n"
    )
    _, found = findings(
        *("--store", f"sqlite:///{folder}/flows.db", "--flows", str(folder / "known.py")),
        *("--url", f"redis://127.0.0.1:{free_port()}/0"),
    )
    texts = [f"{one['text']}: {one['remedy']}" for one in found if one["topic"] == "flows"]
    assert any("1 open flow 'gone' can be run by nobody" in text and '@flow("gone")' in text for text in texts)
    assert any("1 flow wait for a process, such as f1" in text for text in texts)
