"""Which store is found at which address."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis

from graflow.exceptions import ConfigError
from graflow.flows import FlowRunner
from graflow.state import MemoryStore, SqliteStore, open_store
from tests.state.support import new_flow
from tests.support import PrivateRedis


def test_a_store_is_its_own_address() -> None:
    store = MemoryStore()
    assert open_store(store) is store


def test_each_memory_is_one_of_its_own() -> None:
    first, second = open_store("memory://"), open_store("memory://")
    first.create(new_flow())
    assert second.get_record("f1") is None
    assert first.url != second.url


@pytest.mark.parametrize("url", ["sqlite:///some%20folder/flows.db", "sqlite:///{here}/some folder/flows.db?timeout=2"])
def test_an_sqlite_file_is_named_from_here_or_in_full(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store(url.format(here=tmp_path))
    assert isinstance(store, SqliteStore)
    assert store.path == tmp_path / "some folder" / "flows.db"
    assert store.url == f"sqlite:///{store.path}"
    assert not store.path.parent.exists(), "nothing is made before the first use"
    store.create(new_flow())
    assert store.path.exists()
    store.close()


def test_the_file_of_a_project_lies_in_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRAFLOW_FLOW_STORE", raising=False)
    below = tmp_path / "src" / "deep"
    below.mkdir(parents=True)
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.chdir(below)
    store = open_store()
    assert isinstance(store, SqliteStore)
    assert store.path == tmp_path / ".graflow" / "flows.db"
    store.initialize()
    assert (tmp_path / ".graflow" / ".gitignore").read_text().endswith("*\n")
    store.close()


def test_what_the_environment_names_comes_before_the_file_of_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAFLOW_FLOW_STORE", f"sqlite:///{tmp_path}/named.db")
    assert open_store().url == FlowRunner(recovery=False).store.url == f"sqlite:///{tmp_path}/named.db"
    assert open_store(tmp_path / "other.db").url == f"sqlite:///{tmp_path}/other.db"


def test_a_path_is_an_sqlite_file(tmp_path: Path) -> None:
    store = open_store(tmp_path / "mine.db")
    assert isinstance(store, SqliteStore)
    assert store.path == tmp_path / "mine.db"


def test_nobody_else_may_read_what_is_made(tmp_path: Path) -> None:
    store = open_store(tmp_path / "new" / "flows.db")
    store.create(new_flow())
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in (tmp_path / "new").iterdir()}
    store.close()
    assert set(modes.values()) == {"0o600"}, modes
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("postgres://me:hunter2@host/db", "sqlite:///path, redis://"),
        ("flows.db", "sqlite:///path"),
        ("sqlite://flows.db", "three or four"),
        ("sqlite://", "memory://"),
        ("sqlite:///a.db?synchronous=off", "'normal' or 'full'"),
        ("sqlite:///a.db?timeout=soon", "number of seconds"),
        ("sqlite:///a.db?mode=ro", "mode"),
        ("redis://host/0?key_prefix=a&retention=long", "retention"),
        ("redis://host/0?unknown=1", "Unknown option"),
    ],
)
def test_what_is_no_address_of_a_store_is_refused_with_those_that_are(address: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        open_store(address)
    assert "hunter2" not in str(caught.value)
    assert not Path("a.db").exists()


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("redis://me:hunter2@host:7000/3", "redis://host:7000/3"),
        ("rediss://:hunter2@host?ssl_cert_reqs=none", "rediss://host:6379/0"),
        ("unix://:hunter2@/run/redis.sock?db=2", "unix:///run/redis.sock?db=2"),
        ("redis://:hunter2@host/1?key_prefix=team&retention=60", "redis://host:6379/1?key_prefix=team"),
        ("unix:///run/redis.sock?key_prefix=a+b", "unix:///run/redis.sock?db=0&key_prefix=a+b"),
    ],
)
def test_a_redis_is_shown_without_its_password(address: str, shown: str) -> None:
    store = open_store(address)
    assert store.url == shown
    assert open_store(shown).url == shown
    assert store.is_shared
    assert "hunter2" not in repr(store) + repr(vars(store))


@pytest.mark.redis
def test_stores_with_different_prefixes_share_nothing(redis_server: PrivateRedis, redis_client: redis.Redis) -> None:
    first, second = (open_store(f"{redis_server.url}?key_prefix={name}") for name in ("one", "two"))
    first.create(new_flow())
    assert second.get_record("f1") is None
    assert {key.split(b"}")[0] for key in redis_client.scan_iter()} == {b"{one:flows", b"{two:flows"}
    first.close()
    second.close()
