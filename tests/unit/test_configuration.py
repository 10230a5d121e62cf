"""`config.yaml`: where it is found, what it may say, and what wins over it."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from graflow.channels.factory import ChannelFactory
from graflow.configuration import finding
from graflow.configuration.finding import document, passed_over
from graflow.configuration.project import project_settings
from graflow.configuration.sections import MODELS
from graflow.configuration.variables import known_variables, variable_of, warn_of_unknown_variables
from graflow.exceptions import ConfigError, StoreConfigError
from graflow.flows import FlowRunner
from graflow.redis.config import connection_of
from graflow.redis.diagnosis import why_unreachable
from graflow.redis.named import CONNECTION_KEYS, backend_keys
from graflow.state import open_store
from graflow.state.memory import MemoryStore
from graflow.state.sqlite import SqliteStore
from graflow_celery.deployment import connected
from graflow_celery.settings import OWN_KEYS, Settings

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "config.yaml"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a project, in which the process runs, without any setting."""
    for name in [name for name in os.environ if name.startswith("GRAFLOW_")]:
        monkeypatch.delenv(name)
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.chdir(tmp_path)
    warn_of_unknown_variables.cache_clear()
    yield tmp_path
    warn_of_unknown_variables.cache_clear()


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


# -- where it is -------------------------------------------------------------------------------------------------------


def test_it_is_found_from_any_folder_of_the_project(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert document() is None
    write(folder / "config.yaml", "flow_engine:\n  lease: 9\n")
    (folder / "src" / "deep").mkdir(parents=True)
    monkeypatch.chdir(folder / "src" / "deep")
    assert project_settings().flow_engine.lease == 9


def test_it_may_lie_in_the_folder_dot_graflow_or_anywhere_by_its_variable(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder / ".graflow" / "config.yaml", "cache:\n  ttl: 60\n")
    assert project_settings().cache.ttl == 60
    monkeypatch.setenv("GRAFLOW_CONFIG", str(write(folder / "else" / "mine.yml", "cache: {ttl: 5}\n")))
    assert project_settings().cache.ttl == 5
    monkeypatch.setenv("GRAFLOW_CONFIG", os.devnull)
    assert project_settings().cache.ttl is None
    monkeypatch.setenv("GRAFLOW_CONFIG", "gone.yaml")
    with pytest.raises(ConfigError, match=r"GRAFLOW_CONFIG names gone\.yaml, which cannot be read: No such file"):
        project_settings()


def test_two_of_them_are_one_too_many(folder: Path) -> None:
    write(folder / ".graflow" / "config.yaml", "cache: {ttl: 60}\n")
    write(folder / "config.yaml", "cache: {ttl: 5}\n")
    with pytest.raises(ConfigError, match=r"\.graflow/config\.yaml and .*config\.yaml: keep one"):
        project_settings()


@pytest.mark.parametrize(
    "text",
    [
        "redis:\n  url: redis://theirs\nservice:\n  name: shop\n",  # a section of ours, in a file of others
        "name: {{ chart }}\n",  # no YAML at all
        "debug: true\n",
        "",
    ],
)
def test_a_file_of_that_name_may_be_another_programs(folder: Path, text: str) -> None:
    path = write(folder / "config.yaml", text)
    assert document() is None
    assert passed_over() == [path]
    assert connection_of(None)["host"] == "localhost"


def test_a_file_is_ours_by_its_place_or_its_section_for_flows(folder: Path) -> None:
    path = write(folder / "config.yaml", "flow_engine:\nservice: x\n")
    with pytest.raises(ConfigError, match=re.escape(f"{path}:2: Unknown section 'service'")):
        document()
    path.unlink()
    path = write(folder / ".graflow" / "config.yaml", "service: x\n")
    with pytest.raises(ConfigError, match=re.escape(f"{path}:1: Unknown section 'service'")):
        document()


def test_a_file_of_another_user_is_not_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(folder / "config.yaml", "redis: {url: redis://theirs}\n")
    monkeypatch.setattr(finding.os, "geteuid", lambda: path.stat().st_uid + 7)
    if path.stat().st_uid == 0:
        os.chown(path, 12345, -1)
    with pytest.raises(ConfigError, match="belongs to another user"):
        connection_of(None)
    monkeypatch.setenv("GRAFLOW_CONFIG", str(path))
    assert connection_of(None)["host"] == "theirs"


def test_a_changed_file_is_read_again(folder: Path) -> None:
    path = write(folder / "config.yaml", "cache: {ttl: 60}\n")
    assert project_settings().cache.ttl == 60
    write(path, "cache: {ttl: 3600}\n")
    assert project_settings().cache.ttl == 3600


# -- what it says ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "flow_engine:\n  backend: redis\n",
            ":2: Unknown key 'backend' in section flow_engine; known are flows, keep_logs",
        ),
        (
            "flow_engine:\n  workers: 4\n",
            ":2: Unknown key 'workers' in section flow_engine; known are flows, keep_logs",
        ),
        ("flow_engine:\n  leese: 5\n", ":2: Unknown key 'leese' in section flow_engine; did you mean 'lease'?"),
        ("cach:\n  ttl: 5\n", ":1: Unknown section 'cach'; did you mean 'cache'?"),
        ("cache:\n  ttl: 5\n\n  ttl: 6\n", ":4: 'ttl' is there twice, first in line 2"),
        ("cache: [1]\n", ":1: Section cache holds lines of the form 'name: value'"),
        ("cache:\n  ttl: [\n", ":3: This is no YAML"),
        ("cache:\n  ttl: !!python/object:os.system {}\n", ":2: This value is of no kind that a setting has"),
    ],
)
def test_an_error_names_file_line_and_the_nearest_name(folder: Path, text: str, message: str) -> None:
    path = write(folder / ".graflow" / "config.yaml", text)
    with pytest.raises(ConfigError) as caught:
        project_settings()
    assert str(caught.value).startswith(f"{path}{message}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("flow_engine:\n  lease: soon\n", r"flow_engine\.lease \(.*config\.yaml:2\): .*valid number.*, not 'soon'"),
        ("flow_engine:\n  lease: true\n", r"flow_engine\.lease \(.*:2\): it takes a number"),
        ("persistence:\n  durability: always\n", r"persistence\.durability \(.*:2\): .*'best_effort'.*not 'always'"),
        ("monitoring:\n  metrics_port: 70000\n", r"monitoring\.metrics_port \(.*:2\): .*65535"),
        ("cache:\n  enabled: perhaps\n", r"cache\.enabled \(.*:2\): "),
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_its_line(folder: Path, text: str, message: str) -> None:
    write(folder / "config.yaml", text)
    with pytest.raises(ConfigError, match=message):
        project_settings()


def test_nothing_that_may_be_a_password_is_shown(folder: Path) -> None:
    for text in (
        "redis: {url: redis://:hunter2@h:x/0}\n",
        "redis: {url: redis://:hunter2@h\n",
        "redis: {url: [hunter2]}\n",
        "persistence: {store: [hunter2]}\n",
        "persistence: {store: 'http://:hunter2@h'}\n",
    ):
        path = write(folder / "config.yaml", text)
        with pytest.raises((ConfigError, StoreConfigError)) as caught:
            (open_store, Settings.load)["redis" in text]()
        assert "hunter2" not in str(caught.value)
        assert str(path) in str(caught.value)
    write(path, "persistence: {store: 'redis://:hunter2@h/0'}\n")
    assert "hunter2" not in repr(project_settings())


def test_what_is_empty_is_the_default(folder: Path) -> None:
    write(folder / "config.yaml", "flow_engine:\n  lease:\ncache:\npersistence: null\n")
    assert project_settings()[:4] == tuple(model() for model in MODELS.values())


def test_the_environment_wins_and_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(folder / "config.yaml", "flow_engine:\n  lease: 5\n  flows: [a, b]\n  recovery: no\n")
    monkeypatch.setenv("GRAFLOW_FLOW_ENGINE_LEASE", "7")
    monkeypatch.setenv("GRAFLOW_CACHE_ENABLED", "false")
    settings = project_settings()
    assert (settings.flow_engine.lease, settings.flow_engine.flows) == (7, ("a", "b"))
    assert (settings.flow_engine.recovery, settings.cache.enabled) == (False, False)
    assert settings.origin("flow_engine", "lease").where == "GRAFLOW_FLOW_ENGINE_LEASE"
    assert settings.origin("flow_engine", "flows").where == f"{path}:3"
    assert settings.origin("flow_engine", "poll_interval").where == "default"
    monkeypatch.setenv("GRAFLOW_FLOWS", "c d")
    assert project_settings().flow_engine.flows == ("c", "d")
    monkeypatch.setenv("GRAFLOW_CACHE_TTL", "long")
    with pytest.raises(ConfigError, match=r"^GRAFLOW_CACHE_TTL: .*not 'long'"):
        project_settings()


# -- the section redis -------------------------------------------------------------------------------------------------


def test_groups_and_channels_have_their_server_and_settings_from_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(
        folder / "config.yaml", "redis:\n  host: h1\n  password: hunter2\n  lease: 12\n  key_prefix: team\n  queue: q\n"
    )
    settings = Settings.load({})
    assert (settings.server, settings.lease, settings.key_prefix, settings.queue_name) == ("h1:6379/0", 12, "team", "q")
    assert settings.said("lease") == f"redis.lease ({path}:4)"
    assert connection_of(None)["host"] == "h1"
    assert connection_of({"socket_timeout": 3}) == {**connection_of(None), "socket_timeout": 3}
    channel = ChannelFactory.create_channel("redis", "c")
    assert "team" in repr(vars(channel))
    monkeypatch.setenv("GRAFLOW_REDIS_URL", "redis://h2/1")
    monkeypatch.setenv("GRAFLOW_LEASE", "13")
    settings = Settings.load({"max_attempts": 2})
    assert (settings.server, settings.lease, settings.max_attempts) == ("h2:6379/1", 13, 2)
    assert connection_of(None).get("password") is None, "what the file says is of another server"
    assert Settings.load({"host": "h3"}).server == "h3:6379/0"


def test_a_group_sees_that_the_file_has_changed(folder: Path) -> None:
    write(folder / "config.yaml", "redis: {lease: 12}\n")
    assert connected({})[1].lease == 12
    write(folder / "config.yaml", "redis: {lease: 125}\n")
    assert connected({})[1].lease == 125


def test_an_unknown_key_of_a_server_is_refused_wherever_the_server_is_needed(folder: Path) -> None:
    path = write(folder / "config.yaml", "redis:\n  hosst: h1\n")
    for needs in (Settings.load, lambda: connection_of(None)):
        with pytest.raises(ConfigError, match=re.escape(f"{path}:2: Unknown key 'hosst' in section redis; did you")):
            needs()


def test_a_server_that_is_away_is_named_by_its_line(folder: Path) -> None:
    path = write(folder / "config.yaml", "redis:\n  url: redis://h1\n")
    told = why_unreachable("The Redis", {}, ConnectionRefusedError(), lambda key: key)
    assert f"correct redis.url ({path}:2)" in told


# -- flows -------------------------------------------------------------------------------------------------------------


def test_a_runner_has_its_settings_from_it(folder: Path) -> None:
    write(
        folder / "config.yaml",
        "persistence:\n  store: sqlite:///data/f.db\n  durability: required\nflow_engine:\n  lease: 4\n"
        "  poll_interval: 0.5\n  recovery: false\n  max_steps: 7\n",
    )
    with FlowRunner() as runner:
        assert isinstance(runner.store, SqliteStore)
        assert runner.store.path == folder / "data" / "f.db"
        assert (runner._durability, runner._recovers) == ("required", False)
        assert (runner._home.lease, runner._home.recovery.pause) == (4, 0.5)
        assert runner._means.max_steps == 7
    with FlowRunner("memory://", durability="off", lease=3, recovery=True, max_steps=9) as runner:
        assert isinstance(runner.store, MemoryStore)
        assert (runner._durability, runner._recovers, runner._home.lease) == ("off", True, 3)
        assert runner._means.max_steps == 9


def test_a_relative_store_is_that_of_the_project_wherever_the_program_runs(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder / ".graflow" / "config.yaml", "persistence: {store: 'sqlite:///f.db'}\n")
    (folder / "sub").mkdir()
    monkeypatch.chdir(folder / "sub")
    store = open_store()
    assert isinstance(store, SqliteStore)
    assert store.path == folder / "f.db"
    monkeypatch.setenv("GRAFLOW_FLOW_STORE", "sqlite:///f.db")
    store = open_store()
    assert isinstance(store, SqliteStore)
    assert store.path.absolute() == folder / "sub" / "f.db"


def test_a_store_that_none_has_is_named_by_its_line(folder: Path) -> None:
    path = write(folder / "config.yaml", "persistence:\n  store: mysql://h\n")
    with pytest.raises(StoreConfigError, match=re.escape(f"persistence.store ({path}:2): No store has an address")):
        FlowRunner()


def test_cleanup_keeps_what_it_says(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder / "config.yaml", "persistence: {store: 'memory://', retention: 60, max_flows: 5}\n")
    asked: dict[str, float] = {}
    with FlowRunner(recovery=False) as runner:
        monkeypatch.setattr(runner.store, "cleanup", lambda **given: asked.update(given) or 0)
        runner.cleanup()
        assert (asked["older_than"], asked["keep"]) == (60, 5)
        runner.cleanup(older_than=3, keep=2)
        assert (asked["older_than"], asked["keep"]) == (3, 2)


# -- variables ---------------------------------------------------------------------------------------------------------


def test_a_variable_that_nothing_reads_is_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("GRAFLOW_REDIS_URI", "redis://nowhere")
    with caplog.at_level(logging.WARNING):
        connection_of(None)
        Settings.load()
        project_settings()
    assert [record.getMessage() for record in caplog.records] == [
        "GRAFLOW_REDIS_URI is set, and nothing reads it; is GRAFLOW_REDIS_URL meant?"
    ]


def test_every_variable_that_the_packages_name_is_known() -> None:
    named = {
        found
        for package in ("graflow", "graflow_celery", "pytest_graflow")
        for path in (ROOT / package).rglob("*.py")
        for found in re.findall(r"[\"'`](GRAFLOW_[A-Z][A-Z_]*[A-Z])[\"'`]", path.read_text(encoding="utf-8"))
    }
    assert {"GRAFLOW_REDIS_URL", "GRAFLOW_CONFIG"} <= named
    assert named <= known_variables()


# -- the example -------------------------------------------------------------------------------------------------------


def uncommented() -> dict[str, dict[str, object]]:
    """The example with every setting in it."""
    return yaml.safe_load(re.sub(r"^(  )#(\w)", r"\1\2", EXAMPLE.read_text(encoding="utf-8"), flags=re.MULTILINE))


def test_the_example_says_nothing_but_the_defaults_and_names_every_key(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAFLOW_CONFIG", str(EXAMPLE))
    assert project_settings()[:4] == tuple(model() for model in MODELS.values())
    said = uncommented()
    assert list(said) == ["redis", *MODELS]
    for name, model in MODELS.items():
        assert list(said[name]) == list(model.model_fields)
        assert model(**said[name]) == model()
    assert set(said["redis"]) == OWN_KEYS | {"url"}
    assert said["redis"].keys() <= backend_keys()
    defaults = {key: field.default for key, field in Settings.model_fields.items() if key != "connection"}
    assert {key: said["redis"][key] for key in defaults} == defaults
    assert connection_of({"url": said["redis"]["url"]}) == connection_of({})
    assert set(re.findall(r"GRAFLOW_[A-Z_]+[A-Z]", EXAMPLE.read_text(encoding="utf-8"))) <= known_variables()
    assert variable_of("cache", "ttl") == "GRAFLOW_CACHE_TTL"
    assert "url" in CONNECTION_KEYS
