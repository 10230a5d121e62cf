"""The settings of fan-out: where they come from, and what is refused."""

from __future__ import annotations

import importlib
import json
import sys
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from graflow.coordination.backend_keys import check_keys
from graflow.core.nodes.wrapper import TaskWrapper
from graflow.exceptions import ConfigError
from graflow_celery import LocalCluster, TaskWorker
from graflow_celery.broker.app import app_for, build_app, configuration
from graflow_celery.celeryconfig import celeryconfig
from graflow_celery.deployment import Deployment, connected
from graflow_celery.settings import OWN_KEYS, Settings

VARIABLES = ("GRAFLOW_REDIS_URL", "GRAFLOW_KEY_PREFIX", "GRAFLOW_QUEUE", "GRAFLOW_LEASE", "GRAFLOW_SIGNING_KEY")


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_the_documented_defaults() -> None:
    settings = Settings.load({})
    assert (settings.key_prefix, settings.queue_name, settings.batch_size) == ("graflow", "graflow", "auto")
    assert (settings.max_attempts, settings.lease, settings.worker_wait) == (4, 30, 10)
    assert (settings.on_no_worker, settings.result_ttl, settings.sweep_interval) == ("warn", 86400, 1)
    assert (settings.run_lease, settings.queue_wait) == (6, 60)
    assert (settings.timeout, settings.max_in_flight, settings.keys) == (None, None, None)
    assert settings.redis_url.reveal() == "redis://localhost:6379/0"


def test_the_queue_is_named_after_the_prefix_unless_given() -> None:
    assert Settings.load({"key_prefix": "team"}).queue_name == "team"
    assert Settings.load({"key_prefix": "team", "queue": "heavy"}).queue_name == "heavy"


@pytest.mark.parametrize(
    ("wrong", "near"), [("max_attemps", "max_attempts"), ("hosts", "host"), ("Lease", "lease"), ("QUEUE", "queue")]
)
def test_an_unknown_key_names_the_nearest_known_one(wrong: str, near: str) -> None:
    with pytest.raises(ConfigError, match=f"'{wrong}'.*'{near}'"):
        Settings.load({wrong: 1})


def test_every_backend_knows_the_keys_of_groups_on_workers() -> None:
    check_keys(OWN_KEYS)
    with pytest.raises(ConfigError, match=r"'queue_weight'.*'queue_wait'"):
        check_keys(["timeout", "queue_weight"])


def test_a_configuration_that_may_hold_anything_is_read_leniently() -> None:
    assert Settings.load({"lease": 5, "my_own": object()}, strict=False).lease == 5


@pytest.mark.parametrize("prefix", ["größe", "a b", "a,b", "a*b", "a{b}", "a\\b", "a\x07b"])
def test_a_prefix_that_would_not_name_the_same_keys_everywhere_is_refused_and_says_why(prefix: str) -> None:
    with pytest.raises(ConfigError, match=r"backend_config\['key_prefix'\].*holds '.*ASCII letters, digits"):
        Settings.load({"key_prefix": prefix})


@pytest.mark.parametrize("prefix", ["app:v1/x", "a'b\"c", "x%y$z#", "graflow:", "-dash"])
def test_other_marks_in_a_prefix_are_fine(prefix: str) -> None:
    assert Settings.load({"key_prefix": prefix}).queue_name == prefix


@pytest.mark.parametrize("queue", ["a,b", " a", "a ", "a\nb", "\x06", "ö" * 101])
def test_a_queue_that_no_worker_could_be_told_to_consume_is_refused(queue: str) -> None:
    with pytest.raises(ConfigError, match=r"backend_config\['queue'\].*is not the name of a queue: .*no comma"):
        Settings.load({"queue": queue})
    with pytest.raises(ConfigError, match="option queue must be the name of a queue"):
        TaskWrapper("task", str, options={"queue": queue})


@pytest.mark.parametrize("queue", ["a.b:c", "wörter", "it's", "p q", "q/1", "-q"])
def test_a_queue_may_have_any_other_name(queue: str) -> None:
    assert Settings.load({"queue": queue}).queue_name == queue


@pytest.mark.parametrize(
    ("name", "value"),
    [("lease", 0), ("max_attempts", 0), ("batch_size", "some"), ("on_no_worker", "panic"), ("key_prefix", "a*b")],
)
def test_a_value_that_does_not_fit_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=name):
        Settings.load({name: value})


def test_an_error_names_a_setting_as_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"^backend_config\['lease'\]: "):
        Settings.load({"lease": "soon"})
    monkeypatch.setenv("GRAFLOW_LEASE", "soon")
    with pytest.raises(ConfigError, match=r"^GRAFLOW_LEASE: "):
        Settings.load()
    assert Settings.load({"lease": 3}).lease == 3
    monkeypatch.setenv("GRAFLOW_REDIS_URL", "http://elsewhere")
    with pytest.raises(ConfigError, match=r"^The connection in GRAFLOW_REDIS_URL cannot be used: "):
        Settings.load({"lease": 3})


@pytest.mark.parametrize(
    "given",
    [
        {"url": 5},
        {"host": 5},
        {"host": "h", "port": "x"},
        {"host": "h", "db": [1]},
        {"signing_key": 5},
        {"broker_url": 5},
    ],
    ids=repr,
)
def test_a_value_of_the_wrong_type_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"cannot be used: .*(text|number|URL), not"):
        Settings.load(given)


NO_NUMBERS = (float("inf"), float("nan"), 1e300, True)
BEYOND = {
    **dict.fromkeys(
        ("lease", "run_lease", "queue_wait", "result_ttl", "sweep_interval", "timeout"), (*NO_NUMBERS, 1e-9)
    ),
    **dict.fromkeys(("max_attempts", "max_in_flight", "batch_size", "thread_count"), (2**31, 10**400, True, 0, 1.5)),
    "worker_wait": NO_NUMBERS,
    "queue": ("a,b", "a\nb", "\udc80", "q" * 201, " ", "a\x06\x163", "amq.q"),
    "key_prefix": ("p" * 129, "a b", "a\x00b", "amq", "amq.p", "a:broker", "a:channel:b"),
    "port": (0.5, 65_536, -1, 10**30, float("nan"), True),
    "db": (-1, 10**30, True),
    "socket_timeout": (*NO_NUMBERS, 0, -1),
    "socket_connect_timeout": (*NO_NUMBERS, 0, -1, "soon"),
    "health_check_interval": (*NO_NUMBERS, -1),
    "max_connections": (-1, float("inf"), 10**30, True),
    "protocol": (1, 4),
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BEYOND.items() for value in values])
def test_a_value_that_nothing_can_do_with_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=rf"backend_config\['{name}'\]") as caught:
        Settings.load({"host": "h", name: value})
    assert len(str(caught.value)) < 700 or name == "max_attempts"


def test_a_worker_for_a_queue_that_none_could_consume_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"queue= cannot be used: 'a,b' is not the name of a queue"):
        TaskWorker({"host": "h"}, queue="a,b")
    assert TaskWorker({"host": "h"}, queue="a b").settings.queue_name == "a b"


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAFLOW_REDIS_URL", "redis://elsewhere:7000/3")
    monkeypatch.setenv("GRAFLOW_KEY_PREFIX", "env")
    monkeypatch.setenv("GRAFLOW_LEASE", "12.5")
    settings = Settings.load()
    assert (settings.server, settings.key_prefix, settings.lease) == ("elsewhere:7000/3", "env", 12.5)


def test_what_is_given_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAFLOW_REDIS_URL", "redis://elsewhere:7000/3")
    monkeypatch.setenv("GRAFLOW_LEASE", "12.5")
    settings = Settings.load({"host": "here", "lease": 2})
    assert (settings.server, settings.lease) == ("here:6379/0", 2)


@pytest.fixture
def celeryconfig_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Writes a `celeryconfig.py` into a folder that is on the path."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "celeryconfig", raising=False)

    def write(*lines: str) -> None:
        (tmp_path / "celeryconfig.py").write_text("\n".join(lines), encoding="utf-8")
        celeryconfig.cache_clear()

    yield write
    celeryconfig.cache_clear()
    sys.modules.pop("celeryconfig", None)


def test_a_celeryconfig_that_ends_the_program_is_an_error(celeryconfig_of: Callable[..., None]) -> None:
    celeryconfig_of("raise SystemExit(3)")
    with pytest.raises(ConfigError, match=r"celeryconfig\.py ends the program, with sys\.exit\(3\)"):
        Settings.load({})


def test_celeryconfig_is_read_and_the_environment_wins(
    monkeypatch: pytest.MonkeyPatch, celeryconfig_of: Callable[..., None]
) -> None:
    celeryconfig_of("graflow_url = 'redis://from-file:1/0'", "graflow_lease = 9", "worker_concurrency = 7")
    monkeypatch.setenv("GRAFLOW_LEASE", "11")
    settings = Settings.load()
    made = build_app()
    assert (settings.server, settings.lease) == ("from-file:1/0", 11)
    assert made.conf.worker_concurrency == 7
    assert made.conf.broker_url == "redis://from-file:1/0"


def test_celeryconfig_wins_over_what_applications_of_ours_are_configured_with(
    celeryconfig_of: Callable[..., None],
) -> None:
    celeryconfig_of("worker_prefetch_multiplier = 7", "task_default_queue_type = 'classic'")
    for made in (build_app(), build_app(Settings.load({"url": "redis://h:1/2", "broker_url": "amqp://h//"}))):
        assert made.conf.worker_prefetch_multiplier == 7
        assert made.conf.task_default_queue_type == "classic"


def test_celeryconfig_lets_in_nothing_but_json(celeryconfig_of: Callable[..., None]) -> None:
    celeryconfig_of(*(f"{name} = ['pickle']" for name in ("accept_content", "result_accept_content")))
    made = build_app(Settings.load({"url": "redis://h:1/2"}))
    assert made.conf.accept_content == made.conf.result_accept_content == ["json"]


def test_secrets_are_in_no_repr() -> None:
    settings = Settings.load(
        {"url": "redis://:hush@h/0", "signing_key": f"k:{'A' * 44}", "broker_url": "amqp://u:hush@h//"}
    )
    assert "hush" not in repr(settings)
    assert "AAAA" not in repr(settings)
    assert "hush" not in str(settings.model_dump())


@pytest.mark.parametrize(
    "config",
    [
        {"url": "sentinel://:hush@h:1/0?master_name=m&sentinel_password=hush"},
        {"url": "rediss://:hush@h:1/0?ssl_password=hush"},
        {"url": "unix://:hush@/tmp/of.sock?db=3"},
        {"url": "redis://u:hush@h:1/0"},
        {"url": "redis://h/0", "broker_url": "amqp://u:hush@h//;amqp://u:hush@k//"},
        {"url": "redis://h/0", "broker_url": "sentinel://:hush@h:1;sentinel://:hush@k:1/0?master_name=m"},
    ],
    ids=["sentinel", "tls", "socket", "plain", "two brokers", "sentinel broker"],
)
def test_what_monitors_are_told_of_a_connection_holds_no_password(config: dict[str, str]) -> None:
    settings = Settings.load(config)
    connection = build_app(settings).connection_for_read()
    assert "hush" not in repr(connection.info()) + json.dumps(connection.info(), default=str)
    assert "hush" not in repr(vars(Deployment(settings))) + settings.identity()
    assert connection.info()["hostname"] not in {"", None}
    assert "hush" in connection.as_uri(include_password=True), "it is reached with it all the same"
    assert "hush" in repr(vars(connection.clone()))


def test_the_celery_configuration_takes_json_only_and_keeps_no_results() -> None:
    made = configuration(Settings.load({"url": "redis://h:1/2"}))
    assert made["accept_content"] == ["json"]
    assert made["task_ignore_result"] is True
    assert made["broker_url"] == made["result_backend"] == "redis://h:1/2"
    assert made["broker_transport"] == "graflow_celery.broker.transport:Transport"


def test_two_prefixes_on_one_server_share_neither_queues_nor_control() -> None:
    first, second = (configuration(Settings.load({"key_prefix": name})) for name in ("a", "b"))
    for name in ("broker_transport_options", "task_default_queue", "control_exchange", "event_exchange"):
        assert first[name] != second[name]


def test_a_unix_socket_is_written_as_kombu_knows_it() -> None:
    made = configuration(Settings.load({"unix_socket_path": "/run/redis.sock", "db": 4, "password": "p"}))
    assert made["broker_url"] == "redis+socket://:p@/run/redis.sock?virtual_host=4"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://h:1/2", "redis://:**@h:1/2"),
        ("redis://u:hush@h:1/2", "redis://u:**@h:1/2"),
        ("rediss://:hush@h:1/2", "redis://:**@h:1/2"),
        ("sentinel://:hush@one:26379/0?master_name=m", "sentinel://:**@one:26379/0"),
    ],
)
def test_monitors_are_told_what_kind_of_broker_it_is(url: str, shown: str) -> None:
    with build_app(Settings.load({"url": url})).connection_for_read() as connection:
        assert connection.as_uri() == connection.clone().as_uri() == shown
        assert type(connection.clone().transport) is type(connection.transport)
        assert type(connection.transport).__module__ == "graflow_celery.broker.transport"


def test_another_broker_leaves_the_record_where_it_is() -> None:
    settings = Settings.load({"url": "redis://h:1/0", "broker_url": "amqp://guest@rabbit//"})
    made = configuration(settings)
    assert made["broker_url"] == "amqp://guest@rabbit//"
    assert made["task_default_queue_type"] == "quorum"
    assert settings.server == "h:1/0"


def test_a_redis_cluster_is_refused() -> None:
    with pytest.raises(ConfigError, match="Cluster"):
        configuration(Settings.load({"broker_url": "redis+cluster://h:7000"}))


def test_one_application_per_deployment() -> None:
    settings = Settings.load({"url": "redis://h:1/0"})
    assert app_for(settings) is app_for(Settings.load({"url": "redis://h:1/0", "lease": 3}))
    assert app_for(settings) is not app_for(Settings.load({"url": "redis://h:1/1"}))


def test_a_text_that_is_no_number_is_shown_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAFLOW_LEASE", "soon")
    with pytest.raises(ConfigError) as told:
        Settings.load()
    assert str(told.value) == "GRAFLOW_LEASE: it takes a number, not 'soon'"


@pytest.mark.parametrize("workers", ["2", -1, 1.5, True])
def test_workers_are_counted_in_whole_numbers(workers: Any) -> None:
    with pytest.raises(ConfigError) as told:
        LocalCluster(workers=workers)
    assert str(told.value) == f"workers must be a whole number, at least 0, not {workers!r}"


def test_a_prefix_that_cannot_be_used_says_which_characters_are_in_the_way() -> None:
    with pytest.raises(ConfigError) as caught:
        Settings.load({"key_prefix": "my flows*"})
    assert str(caught.value) == (
        "backend_config['key_prefix'] cannot be used: 'my flows*' holds ' ', '*'; a prefix is made of ASCII letters, "
        "digits and marks such as - _ . : /"
    )


def test_a_configuration_that_is_given_again_says_the_same_as_long_as_the_environment_does(
    monkeypatch: pytest.MonkeyPatch, celeryconfig_of: Callable[..., None]
) -> None:
    def server_of(**given: object) -> str:
        return connected(given)[0].settings.server

    assert connected({"url": "redis://h:1/0"})[0] is connected({"url": "redis://h:1/0"})[0]
    assert server_of(lease=3) == "localhost:6379/0"
    monkeypatch.setenv("GRAFLOW_REDIS_URL", "redis://there:2/0")
    assert server_of(lease=3) == "there:2/0"
    monkeypatch.setenv("GRAFLOW_LEASE", "7")
    assert connected({})[1].lease == 7
    assert connected({"lease": 3})[1].lease == 3
    monkeypatch.delenv("GRAFLOW_REDIS_URL")
    sys.modules.pop("celeryconfig", None)
    celeryconfig_of('graflow_redis_url = "redis://configured:3/0"')
    importlib.invalidate_caches()  # the folder was looked through before there was the file
    assert server_of(lease=3) == "configured:3/0"


def test_what_one_caller_may_give_does_not_excuse_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAFLOW_KEY_PREFIX", "one")
    assert connected({"key_prefix": "given"})[0].settings.key_prefix == "given"
    assert connected({"unknown": 1}, strict=False)[0].settings.key_prefix == "one"
    for _ in range(2):
        with pytest.raises(ConfigError, match="unknown"):
            connected({"unknown": 1})


def test_a_key_file_is_read_each_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.touch(mode=0o600)
    monkeypatch.setenv("GRAFLOW_SIGNING_KEY_FILE", str(path))
    seen = []
    for name in ("first", "second"):
        path.write_text(f"{name}:{b64encode(bytes(32)).decode()}")
        keys = connected({})[0].keys
        seen.append(keys and keys.ids)
    assert seen == [["first"], ["second"]]
