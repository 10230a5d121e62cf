from __future__ import annotations

import copy
import json
import os
import pickle
import ssl
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path
from urllib.parse import urlsplit

import cloudpickle
import pytest
import redis
import redis.asyncio
import redis.asyncio.sentinel
import redis.cluster
import redis.sentinel

from graflow.exceptions import ConfigError
from graflow.redis import config as redis_utils
from graflow.redis.config import (
    CONNECTION_KEYS,
    Secret,
    connection_of,
    create_redis_client,
    describe_server,
    extract_redis_config,
    laid_over,
    normalize_redis_config,
    provide_secret,
    redis_url,
    shared_client,
)
from graflow.redis.urls import parse_redis_url
from tests.support import at_once

PASSWORD = "hunter2 / @:#"
QUOTED = "hunter2%20%2F%20%40%3A%23"


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch):
    for name in ("GRAFLOW_REDIS_URL", "GRAFLOW_REDIS_PASSWORD"):
        monkeypatch.delenv(name, raising=False)


def _parameters(client):
    """What a client really connects with."""
    pool = client.connection_pool
    names = ("host", "port", "path", "db", "username", "password", "decode_responses", "socket_timeout", "client_name")
    found = {name: pool.connection_kwargs.get(name) for name in names}
    tls = {name: value for name, value in pool.connection_kwargs.items() if name.startswith("ssl_")}
    return pool.connection_class.__name__, found, tls


# -- from a client -----------------------------------------------------------------------------------------------------


def test_a_client_gives_its_server_from_the_pool():
    client = redis.Redis(host="testhost", port=1234, db=5, decode_responses=True)
    assert extract_redis_config(client) == {"host": "testhost", "port": 1234, "db": 5, "decode_responses": True}
    assert extract_redis_config(redis.Redis()) == {
        "host": "localhost",
        "port": 6379,
        "db": 0,
        "decode_responses": False,
    }


CLIENTS = {
    "plain": lambda: redis.Redis(host="h"),
    "password": lambda: redis.Redis(host="h", username="u", password=PASSWORD, db=3),
    "tls": lambda: redis.Redis(
        host="h",
        port=6380,
        ssl=True,
        ssl_ca_certs="/ca.pem",
        ssl_certfile="/c.pem",
        ssl_keyfile="/k.pem",
        ssl_ciphers="X",
    ),
    "tls without checks": lambda: redis.Redis(host="h", ssl=True, ssl_cert_reqs="none", ssl_check_hostname=False),
    "socket": lambda: redis.Redis(unix_socket_path="/run/redis.sock", password=PASSWORD, db=2),
    "timeouts": lambda: redis.Redis(
        host="h", socket_timeout=1.5, socket_connect_timeout=None, client_name="me", protocol=3
    ),
    "no timeout": lambda: redis.Redis(host="h", socket_timeout=None, decode_responses=True, health_check_interval=30),
    "keepalive": lambda: redis.Redis(
        host="h", socket_keepalive=True, socket_keepalive_options={1: 2}, encoding="latin-1"
    ),
    "url": lambda: redis.from_url(f"redis://u:{QUOTED}@h:1/2"),
    "tls url": lambda: redis.from_url("rediss://h:1/2?ssl_cert_reqs=none"),
    "socket url": lambda: redis.from_url("unix://u:p@/tmp/x?db=3"),
    "blocking pool": lambda: redis.Redis(connection_pool=redis.BlockingConnectionPool(host="h", password=PASSWORD)),
    "static credentials": lambda: redis.Redis(
        host="h", credential_provider=redis.UsernamePasswordCredentialProvider("u", PASSWORD)
    ),
}


@pytest.mark.parametrize("make", CLIENTS.values(), ids=CLIENTS)
def test_a_client_made_from_what_was_extracted_connects_the_same_way(make):
    client = make()
    config = extract_redis_config(client)
    made = create_redis_client(config)
    kind, found, tls = _parameters(client)
    made_kind, made_found, made_tls = _parameters(made)
    if client.connection_pool.connection_kwargs.get("credential_provider"):
        found.update(username="u", password=PASSWORD)
    for parameters in (found, made_found):
        parameters["db"] = parameters["db"] or 0
        parameters["decode_responses"] = bool(parameters["decode_responses"])
    found["port"] = found["port"] or made_found["port"]
    if "socket_timeout" not in client.connection_pool.connection_kwargs:
        found["socket_timeout"] = made_found["socket_timeout"]
    assert (made_kind, made_found) == (kind, found)
    assert {name: made_tls[name] for name in tls} == tls
    assert extract_redis_config(made) == config


def test_a_socket_client_has_neither_host_nor_port():
    config = extract_redis_config(redis.Redis(unix_socket_path="/run/redis.sock"))
    assert config["unix_socket_path"] == "/run/redis.sock"
    assert not {"host", "port"} & set(config)
    assert create_redis_client(config).connection_pool.connection_kwargs["path"] == "/run/redis.sock"


def test_tls_enums_become_plain_values():
    import ssl

    client = redis.Redis(
        host="h", ssl=True, ssl_cert_reqs=ssl.CERT_OPTIONAL, ssl_min_version=ssl.TLSVersion.TLSv1_3, ssl_ca_certs="/ca"
    )
    config = extract_redis_config(client)
    assert (config["ssl_cert_reqs"], config["ssl_min_version"]) == ("optional", int(ssl.TLSVersion.TLSv1_3))
    json.dumps(config)


def test_an_asyncio_client_gives_the_same_form():
    for settings in (
        {"host": "h", "port": 1, "db": 2, "username": "u", "password": PASSWORD},
        {"host": "h", "ssl": True, "ssl_ca_certs": "/ca.pem"},
        {"unix_socket_path": "/run/redis.sock", "decode_responses": True},
    ):
        assert extract_redis_config(redis.asyncio.Redis(**settings)) == extract_redis_config(redis.Redis(**settings))


def test_a_valkey_client_gives_the_same_server():
    valkey = pytest.importorskip("valkey")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        client = valkey.Valkey(host="v", port=7000, db=1, username="u", password=PASSWORD)
        secure = valkey.Valkey(host="v", ssl=True, ssl_ca_certs="/ca.pem")
        local = valkey.Valkey(unix_socket_path="/run/valkey.sock")
    config = extract_redis_config(client)
    assert (config["host"], config["port"], config["db"], config["password"]) == ("v", 7000, 1, PASSWORD)
    assert isinstance(create_redis_client(config), redis.Redis)
    assert extract_redis_config(secure)["ssl"] is True
    assert extract_redis_config(local)["unix_socket_path"] == "/run/valkey.sock"


def test_sentinel_clients_are_refused_and_never_flattened():
    sentinel = redis.sentinel.Sentinel([("s", 26379)])
    asynchronous = redis.asyncio.sentinel.Sentinel([("s", 26379)])
    for client in (sentinel.master_for("main"), sentinel.slave_for("main"), asynchronous.master_for("main")):
        with pytest.raises(ConfigError, match="Sentinel"):
            extract_redis_config(client)
        with pytest.raises(ValueError, match=r"Failed to extract Redis connection parameters.*Sentinel"):
            normalize_redis_config({"redis_client": client})


def test_cluster_clients_are_refused():
    client = object.__new__(redis.cluster.RedisCluster)
    client.close = lambda: None  # nothing was opened
    with pytest.raises(ValueError, match="Failed to extract Redis connection parameters"):
        normalize_redis_config({"redis_client": client})


def test_credentials_that_change_with_time_are_refused():
    class Rotating(redis.CredentialProvider):
        def get_credentials(self):
            return ("u", "p")

    for settings in ({"credential_provider": Rotating()}, {"redis_connect_func": lambda _connection: None}):
        with pytest.raises(ConfigError, match="cannot be turned into parameters"):
            extract_redis_config(redis.Redis(host="h", **settings))


class _Pool:
    def __init__(self, kind=None, **parameters):
        self.connection_kwargs = parameters
        self.connection_class = kind


class _Client:
    def __init__(self, pool):
        self.connection_pool = pool


def test_a_client_that_names_no_server_never_becomes_localhost():
    for pool in (_Pool(), _Pool(db=1), _Pool(host=""), _Pool(host=None), _Pool(redis.UnixDomainSocketConnection)):
        with pytest.raises(ConfigError):
            extract_redis_config(_Client(pool))
        with pytest.raises(ValueError, match="Failed to extract Redis connection parameters") as caught:
            normalize_redis_config({"redis_client": _Client(pool), "host": "other"})
        assert isinstance(caught.value.__cause__, ConfigError)


def test_a_pool_without_parameters_is_refused():
    with pytest.raises(ConfigError, match="shows no connection parameters"):
        extract_redis_config(_Client(object()))


def test_a_connection_class_that_has_a_default_host_goes_there():
    assert extract_redis_config(redis.from_url("redis://:1234"))["port"] == 1234
    assert extract_redis_config(redis.Redis(connection_pool=redis.ConnectionPool()))["host"] == "localhost"


def test_an_object_without_a_pool_is_an_attribute_error():
    for bad in (object(), None, "redis://h", 5):
        with pytest.raises(AttributeError):
            extract_redis_config(bad)


# -- normal form -------------------------------------------------------------------------------------------------------


def test_none_and_nothing_are_an_empty_configuration():
    assert normalize_redis_config(None) == {}
    assert normalize_redis_config({}) == {}
    assert normalize_redis_config({"redis_client": None, "key_prefix": "p"}) == {"key_prefix": "p"}


def test_a_configuration_without_a_client_stays_equal_and_is_a_copy():
    config = {"host": "h", "port": 1, "password": PASSWORD, "key_prefix": "p", "anything": [1]}
    before = dict(config)
    normal = normalize_redis_config(config)
    assert normal == before
    assert config == before
    assert type(config["password"]) is str
    assert normal is not config


def test_a_client_is_replaced_by_its_parameters_which_win():
    client = redis.Redis(host="h", port=1, password=PASSWORD)
    config = {"redis_client": client, "key_prefix": "p", "host": "other", "url": "redis://else", "ssl": True}
    with pytest.warns(DeprecationWarning, match="live redis_client"):
        normal = normalize_redis_config(config)
    assert normal == {
        "key_prefix": "p",
        "host": "h",
        "port": 1,
        "db": 0,
        "decode_responses": False,
        "password": PASSWORD,
    }
    assert config["redis_client"] is client


def test_a_socket_client_wins_over_a_host():
    with pytest.warns(DeprecationWarning, match="live redis_client"):
        normal = normalize_redis_config({"redis_client": redis.Redis(unix_socket_path="/s"), "host": "h", "port": 1})
    assert describe_server(normal) == "/s"
    assert "host" not in normal


def test_the_warning_shows_what_to_write_at_the_place_of_the_caller():
    with pytest.warns(DeprecationWarning, match="'host': 'h', 'port': 1") as caught:
        normalize_redis_config({"redis_client": redis.Redis(host="h", port=1, password=PASSWORD)})
    assert caught[0].filename == __file__
    assert "'password': '***'" in str(caught[0].message)
    assert "hunter2" not in str(caught[0].message)


def test_what_is_no_client_is_a_value_error_with_its_cause():
    class InvalidClient:
        pass

    for bad in (InvalidClient(), "redis://h", 5):
        with pytest.raises(ValueError, match="Failed to extract Redis connection parameters") as caught:
            normalize_redis_config({"redis_client": bad})
        assert isinstance(caught.value.__cause__, AttributeError)


def test_a_normal_configuration_holds_no_lock_and_pickles():
    from graflow.debug.find_locks import find_thread_locks

    with pytest.warns(DeprecationWarning, match="live redis_client"):
        normal = normalize_redis_config({"redis_client": redis.Redis(host="h", password=PASSWORD)})
    assert find_thread_locks(normal) == []
    assert pickle.loads(pickle.dumps(normal))["host"] == "h"


def test_normalising_twice_changes_nothing():
    once = normalize_redis_config({"url": f"redis://:{QUOTED}@h", "password": PASSWORD})
    twice = normalize_redis_config(once)
    assert twice == once
    assert isinstance(twice["url"], Secret)


# -- connections -------------------------------------------------------------------------------------------------------


def test_only_a_configuration_without_any_connection_key_means_the_default(monkeypatch):
    default = {"host": "localhost", "port": 6379, "db": 0}
    for config in (None, {}, {"key_prefix": "p", "thread_count": 3}, {"url": None, "unix_socket_path": None}):
        assert connection_of(config) == default
    assert connection_of({"decode_responses": True}) == {**default, "decode_responses": True}
    monkeypatch.setenv("GRAFLOW_REDIS_URL", f"rediss://u:{QUOTED}@far:7/8")
    assert connection_of({}) == {
        "host": "far",
        "port": 7,
        "db": 8,
        "username": "u",
        "password": PASSWORD,
        "ssl": True,
    }
    assert connection_of({"host": "h"}) == {"host": "h", "port": 6379, "db": 0}


@pytest.mark.parametrize(
    "config",
    [
        {"host": ""},
        {"host": None},
        {"host": None, "port": 6379},
        {"port": 6379},
        {"db": 3},
        {"password": "p"},
        {"url": ""},
        {"unix_socket_path": ""},
        {"url": "", "host": "h"},
        {"unix_socket_path": "", "host": "h"},
    ],
    ids=str,
)
def test_connection_keys_that_name_no_server_are_refused(config):
    for function in (create_redis_client, shared_client, connection_of, redis_url, describe_server):
        with pytest.raises(ValueError, match=r"names? no server"):
            function(config)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"password": 12345}, "The password of a Redis must be text, not of type int"),
        ({"username": b"u"}, "The username of a Redis must be text, not of type bytes"),
        ({"ssl": "maybe"}, "The ssl of a Redis must be true or false"),
        ({"ssl": True, "ssl_check_hostname": "hunter2"}, "The ssl_check_hostname of a Redis must be true or false"),
        ({"ssl": True, "ssl_cert_reqs": "hunter2"}, "ssl_cert_reqs of a Redis must be none, optional or required"),
        ({"url": "rediss://h?ssl_cert_reqs=hunter2"}, "ssl_cert_reqs of a Redis must be none, optional or required"),
        ({"port": 0}, "The port of a Redis must be a whole number from 1 to 65535"),
        ({"url": "redis://h:0"}, "The port of a Redis must be a whole number from 1 to 65535"),
    ],
    ids=str,
)
def test_a_key_of_another_kind_is_refused_by_name(given, told):
    for function in (connection_of, create_redis_client, redis_url):
        with pytest.raises(ConfigError, match=told) as caught:
            function({"host": "h", **given} if "url" not in given else given)
        assert "hunter2" not in str(caught.value)
        assert "12345" not in str(caught.value)


def test_words_mean_in_parameters_what_they_mean_in_a_url():
    parts = connection_of({"host": "h", "ssl": "no", "decode_responses": "Yes", "ssl_cert_reqs": "CERT_NONE"})
    assert (parts["ssl"], parts["decode_responses"], parts["ssl_cert_reqs"]) == (False, True, "none")
    assert connection_of({"host": "h", "ssl_cert_reqs": ssl.CERT_OPTIONAL})["ssl_cert_reqs"] == ssl.CERT_OPTIONAL


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("redis://h", {"host": "h", "port": 6379, "db": 0}),
        ("redis://h:1/2", {"host": "h", "port": 1, "db": 2}),
        ("redis://h/?db=4", {"host": "h", "port": 6379, "db": 4}),
        ("redis://[::1]:1/2", {"host": "::1", "port": 1, "db": 2}),
        (f"redis://u:{QUOTED}@h", {"host": "h", "port": 6379, "db": 0, "username": "u", "password": PASSWORD}),
        (f"redis://:{QUOTED}@h", {"host": "h", "port": 6379, "db": 0, "password": PASSWORD}),
        (f"redis://h?password={QUOTED}", {"host": "h", "port": 6379, "db": 0, "password": PASSWORD}),
        ("valkey://h", {"host": "h", "port": 6379, "db": 0}),
        ("valkeys://h", {"host": "h", "port": 6379, "db": 0, "ssl": True}),
        ("REDISS://h", {"host": "h", "port": 6379, "db": 0, "ssl": True}),
        (
            "rediss://h?ssl_cert_reqs=CERT_NONE&ssl_ca_certs=/ca&ssl_check_hostname=no",
            {
                "host": "h",
                "port": 6379,
                "db": 0,
                "ssl": True,
                "ssl_cert_reqs": "none",
                "ssl_ca_certs": "/ca",
                "ssl_check_hostname": False,
            },
        ),
        ("unix:///run/r.sock", {"unix_socket_path": "/run/r.sock", "db": 0}),
        (
            f"unix://u:{QUOTED}@/run/r.sock?db=3",
            {"unix_socket_path": "/run/r.sock", "db": 3, "username": "u", "password": PASSWORD},
        ),
        (
            f"redis+socket://:{QUOTED}@/run/r.sock?virtual_host=3",
            {"unix_socket_path": "/run/r.sock", "db": 3, "password": PASSWORD},
        ),
        (
            "redis://h?socket_timeout=1.5&decode_responses=true&protocol=3&timeout=5",
            {"host": "h", "port": 6379, "db": 0, "socket_timeout": 1.5, "decode_responses": True, "protocol": 3},
        ),
    ],
)
def test_a_url_is_kept_and_taken_apart_on_use(url, parts):
    normal = normalize_redis_config({"url": url})
    assert normal == {"url": url}
    assert connection_of(normal) == parts
    assert connection_of({"url": redis_url(normal)}).items() <= {**parts, **connection_of(normal)}.items()


@pytest.mark.parametrize(
    "url",
    [
        "http://h",
        "h:6379",
        "redis://",
        "redis:///0",
        "redis://:hunter2@/0",
        "redis://:hunter2#x@h",
        "redis://:hunter2/x@h",
        "redis://:hunter2?x@h",
        "redis://u:hunter2@h:port",
        "redis://u:[hunter2@h",
        "redis://:hunter2@h/zero",
        "redis://:hunter2@h?db=hunter2",
        "redis://:hunter2@h?hunter2=1",
        "redis://:hunter2@h?socket_keepalive=hunter2",
        "unix://:hunter2@relative",
        "unix://:hunter2@/",
    ],
)
def test_a_malformed_url_is_refused_without_showing_it(url):
    for function in (create_redis_client, connection_of, describe_server):
        with pytest.raises(ConfigError) as caught:
            function({"url": url})
        seen = [caught.value]
        for error in seen:
            assert "hunter2" not in repr(error) + str(error)
            seen.extend(link for link in (error.__cause__, error.__context__) if link is not None)


BEHIND_SENTINELS = {"sentinels": ["one:26379", "[::1]:2"], "master_name": "mine", "db": 3}


@pytest.mark.parametrize(
    ("config", "parts"),
    [
        ({"url": "sentinel://one/3;sentinel://[::1]:2?master_name=mine"}, BEHIND_SENTINELS),
        ({"url": "sentinel://one:26379;sentinel://[::1]:2/3", "master_name": "mine"}, BEHIND_SENTINELS),
        ({"sentinels": "one, [::1]:2", "master_name": "mine", "db": "3", "host": "h", "port": 1}, BEHIND_SENTINELS),
        ({"sentinels": ["one", "[::1]:2"], "master_name": "mine", "db": 3}, BEHIND_SENTINELS),
        (
            {"url": f"sentinel://u:{QUOTED}@one/3;sentinel://[::1]:2?master_name=mine&ssl=true&sentinel_password=x"},
            {**BEHIND_SENTINELS, "username": "u", "password": PASSWORD, "ssl": True, "sentinel_password": "x"},
        ),
        (
            {**BEHIND_SENTINELS, "ssl": True, "ssl_ca_certs": "/ca", "url": None},
            {**BEHIND_SENTINELS, "ssl": True, "ssl_ca_certs": "/ca"},
        ),
        ({**BEHIND_SENTINELS, "url": "redis://h"}, {"host": "h", "port": 6379, "db": 3}),
    ],
)
def test_a_server_behind_sentinels_is_named_by_url_or_by_parts(config, parts):
    assert connection_of(config) == parts
    assert connection_of(connection_of(config)) == parts
    assert connection_of({"url": redis_url(config)}) == parts


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"url": "sentinel://one:1"}, "master_name=mymaster"),
        ({"sentinels": ["one:1"]}, "master_name=mymaster"),
        ({"master_name": "mine"}, "names? no server"),
        ({"sentinels": [], "master_name": "mine"}, "names? no server"),
        ({"sentinels": ["hunter2@one"], "master_name": "mine"}, "address"),
        ({"sentinels": ["one:port"], "master_name": "mine"}, "malformed"),
        ({"url": "sentinel://:hunter2;x@one?master_name=mine"}, "in full|malformed"),
        ({"url": "sentinel://:hunter2@one;two?master_name=mine"}, "in full"),
        ({"url": "sentinel://:hunter2@?master_name=mine"}, "in full"),
        ({"url": "sentinel://:hunter2@one/zero?master_name=mine"}, "number of a database"),
        ({"url": "sentinel://:hunter2@one?master_name=mine&hunter2=1"}, "Unknown option"),
        ({"url": "redis://one?master_name=mine"}, "Unknown option"),
    ],
)
def test_sentinels_that_cannot_be_used_are_refused_without_showing_a_password(config, message):
    for function in (create_redis_client, connection_of, describe_server, redis_url):
        with pytest.raises(ConfigError, match=message) as caught:
            function(config)
        assert "hunter2" not in repr(caught.value)


def test_a_client_behind_sentinels_logs_in_to_both_kinds_of_server_and_shows_neither_password():
    config = normalize_redis_config({**BEHIND_SENTINELS, "password": PASSWORD, "sentinel_password": PASSWORD + "2"})
    assert PASSWORD not in repr(config)
    assert PASSWORD not in pickle.dumps(config).decode("latin-1")
    assert describe_server(config) == "mine/3 of Sentinel one:26379, [::1]:2"
    pool = create_redis_client(config).connection_pool
    assert (pool.service_name, pool.connection_kwargs["password"], pool.connection_kwargs["db"]) == (
        "mine",
        PASSWORD,
        3,
    )
    asked = [sentinel.connection_pool.connection_kwargs for sentinel in pool.sentinel_manager.sentinels]
    assert [(each["host"], each["port"], each["password"]) for each in asked] == [
        ("one", 26379, PASSWORD + "2"),
        ("::1", 2, PASSWORD + "2"),
    ]


def test_what_a_url_names_wins_and_other_keys_add_to_it():
    config = {
        "url": "redis://h:1/2",
        "host": "other",
        "port": 9,
        "db": 5,
        "password": PASSWORD,
        "decode_responses": True,
    }
    assert connection_of(config) == {
        "host": "h",
        "port": 1,
        "db": 2,
        "password": PASSWORD,
        "decode_responses": True,
    }
    assert connection_of({"url": "redis://h", "db": 5, "unix_socket_path": "/s"}) == {
        "host": "h",
        "port": 6379,
        "db": 5,
    }


def test_text_numbers_from_the_environment_are_understood():
    assert connection_of({"host": "h", "port": "1", "db": "2"}) == {"host": "h", "port": 1, "db": 2}


def test_only_known_keys_reach_the_client():
    client = create_redis_client(
        {"host": "h", "key_prefix": "p", "thread_count": 4, "connection_class": object, "himport_registry": 1}
    )
    assert client.connection_pool.connection_kwargs["host"] == "h"
    assert client.connection_pool.connection_class is redis.Connection
    assert {"host", "url", "ssl_ca_certs", "decode_responses", "protocol"} <= CONNECTION_KEYS
    assert "key_prefix" not in CONNECTION_KEYS


def test_a_client_in_the_configuration_is_returned_itself():
    client = redis.Redis(host="h")
    assert create_redis_client({"redis_client": client, "host": "other"}) is client
    assert shared_client({"redis_client": client}) is client


@pytest.mark.parametrize(
    ("config", "url", "celery", "words"),
    [
        ({}, "redis://localhost:6379/0", None, "localhost:6379/0"),
        ({"host": "::1"}, "redis://[::1]:6379/0", None, "::1:6379/0"),
        (
            {"host": "h", "username": "u", "password": PASSWORD, "db": 3},
            f"redis://u:{QUOTED}@h:6379/3",
            None,
            "h:6379/3",
        ),
        (
            {"host": "h", "ssl": True, "ssl_ca_certs": "/ca"},
            "rediss://h:6379/0?ssl_ca_certs=%2Fca",
            "rediss://h:6379/0?ssl_ca_certs=%2Fca&ssl_cert_reqs=required",
            "h:6379/0",
        ),
        (
            {"unix_socket_path": "/run/r s", "password": PASSWORD, "db": 3},
            f"unix://:{QUOTED}@/run/r%20s?db=3",
            f"redis+socket://:{QUOTED}@/run/r%20s?virtual_host=3",
            "/run/r s db 3",
        ),
    ],
)
def test_a_configuration_as_url_and_in_words(config, url, celery, words):
    made = redis_url(config)
    assert made == url
    assert repr(made) == "'***'"
    assert connection_of({"url": made}) == connection_of(config)
    assert redis_url(config, for_celery=True).reveal() == (celery or url)
    assert describe_server(config) == words


def test_one_client_is_shared_by_equal_configurations():
    first = shared_client({"host": "h", "password": PASSWORD, "key_prefix": "a"})
    assert shared_client({"url": f"redis://:{QUOTED}@h:6379/0"}) is first
    assert shared_client({"host": "h", "password": "other"}) is not first
    text = shared_client({"host": "h", "password": PASSWORD}, decode_responses=True)
    assert text is not first
    assert text.connection_pool.connection_kwargs["decode_responses"] is True
    found = at_once(lambda _: shared_client({"host": "threads"}), range(8))
    assert len(set(map(id, found))) == 1


def test_shared_clients_are_made_anew_in_a_forked_child():
    first = shared_client({"host": "h"})
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        fresh = shared_client({"host": "h"}) is not first
        os.write(writing, b"y" if fresh else b"n")
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 1) == b"y"
    assert shared_client({"host": "h"}) is first
    os.close(reading)
    os.close(writing)


def test_closing_shared_clients_forgets_them():
    first = shared_client({"host": "closed"})
    redis_utils._close_clients()
    assert shared_client({"host": "closed"}) is not first


def test_without_a_working_redis_package_importing_works_and_using_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(ImportError, match="pip install 'redis"):
        create_redis_client({"host": "h"})
    assert connection_of({"host": "h"})["port"] == 6379
    assert extract_redis_config(_Client(_Pool(host="h", socket_timeout=2)))["socket_timeout"] == 2


def test_a_broken_redis_package_is_reported_the_same_way(tmp_path):
    (tmp_path / "redis.py").write_text("raise RuntimeError('broken')")
    program = """
        from graflow.utils.redis_utils import create_redis_client
        try:
            create_redis_client({"host": "h"})
        except ImportError as error:
            print(error)
    """
    shown = _run(program, PYTHONPATH=f"{tmp_path}{os.pathsep}{Path.cwd()}")
    assert "pip install 'redis" in shown


def test_importing_the_module_imports_no_redis():
    program = """
        import sys
        import graflow.exceptions, graflow.codec, graflow.signing, graflow.utils.redis_utils, graflow.debug.find_locks
        print([name for name in ("redis", "celery", "asyncio", "rich") if name in sys.modules])
    """
    assert _run(program) == "[]"


def _run(program, **environment):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, **environment},
    )
    return done.stdout.strip()


# -- secrets -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def configuration():
    return normalize_redis_config(
        {
            "url": f"redis://u:{QUOTED}@h",
            "password": PASSWORD,
            "ssl_password": PASSWORD.encode(),
            "broker_url": "amqp://guest:hunter2@rabbit//",
            "signing_key": "id:hunter2",
            "key_prefix": "p",
        }
    )


def test_secrets_equal_their_text_and_are_usable_as_text(configuration):
    secret = configuration["password"]
    assert secret == PASSWORD
    assert PASSWORD == secret  # noqa: SIM300
    assert hash(secret) == hash(PASSWORD)
    assert {secret: 1}[PASSWORD] == 1
    assert isinstance(secret, str)
    assert secret.encode() == PASSWORD.encode()
    assert (len(secret), secret[0], secret + "x", secret.upper()) == (
        len(PASSWORD),
        "h",
        PASSWORD + "x",
        PASSWORD.upper(),
    )
    assert secret.startswith("hunter2")
    assert "hunter2" in secret
    assert list(secret) == list(PASSWORD)
    assert urlsplit(configuration["url"]).hostname == "h"
    assert secret.reveal() == PASSWORD
    assert type(secret.reveal()) is str
    assert (secret != PASSWORD, secret == "other", secret != "other", secret == 5) == (False, False, True, False)
    assert secret < "i"
    assert Secret(PASSWORD) == secret == Secret(secret)
    assert bool(secret)
    assert not Secret("")
    assert redis.Redis(host="h", password=secret).connection_pool.connection_kwargs["password"] == PASSWORD


def test_no_method_of_a_text_sees_the_mask():
    secret, text = Secret("Hunter %s 2"), "Hunter %s 2"
    given = {
        **dict.fromkeys(("__add__", "__contains__", "__ge__", "__gt__", "__le__", "__lt__", "count", "find"), ("H",)),
        **dict.fromkeys(("index", "rfind", "rindex", "endswith", "startswith", "partition", "rpartition"), ("u",)),
        **dict.fromkeys(("removeprefix", "removesuffix", "__mod__"), ("H",)),
        **dict.fromkeys(("center", "ljust", "rjust", "zfill", "__mul__", "__rmul__", "__getitem__"), (3,)),
        "join": (["a", "b"],),
        "replace": ("H", "h"),
        "translate": ({72: "h"},),
        "format_map": ({},),
    }
    compared = {"__ge__", "__gt__", "__le__", "__lt__"}
    about_the_object = {*dir(object), "__getnewargs__", "__rmod__", "maketrans"} - compared
    for name in set(dir(str)) - about_the_object:
        found, wanted = (getattr(one, name)(*given.get(name, ())) for one in (secret, text))
        if name == "__iter__":
            found, wanted = list(found), list(wanted)
        assert found == wanted, name


def test_secrets_are_shown_nowhere(configuration, caplog):
    secret = configuration["password"]
    shown = [
        str(secret),
        repr(secret),
        f"{secret}",
        f"{secret!s:>20}",
        "%s" % secret,  # noqa: UP031
        "{}".format(secret),  # noqa: UP032
        repr(configuration),
        str(configuration),
        json.dumps(configuration),
        json.dumps(configuration, indent=1),
        repr(connection_of(configuration)),
        describe_server(configuration),
        str(ValueError(secret)),
        repr(ValueError(configuration)),
    ]
    with caplog.at_level("INFO"):
        import logging

        logging.getLogger("test").info("settings %s and %r", secret, configuration)
    shown.append(caplog.text)
    for text in shown:
        assert "hunter2" not in text
    assert configuration["key_prefix"] == "p"


def test_urls_without_credentials_stay_plain():
    normal = normalize_redis_config({"url": "redis://h:1/2", "broker_url": "amqp://rabbit", "password": ""})
    assert {type(value) for value in normal.values()} == {str}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_secrets_are_left_out_of_every_pickle(configuration, protocol):
    data = pickle.dumps(configuration, protocol) + cloudpickle.dumps(configuration)
    assert b"hunter2" not in data
    assert b"GRAFLOW_REDIS_PASSWORD" in data


def test_copies_stay_usable(configuration):
    for copied in (copy.copy(configuration), copy.deepcopy(configuration), dict(configuration)):
        assert copied["password"].reveal() == PASSWORD


def test_a_loaded_secret_comes_from_the_environment_or_the_settings_of_the_process(configuration, monkeypatch):
    loaded = pickle.loads(pickle.dumps(configuration))["password"]
    assert not loaded.is_known()
    assert loaded != PASSWORD
    monkeypatch.setenv("GRAFLOW_REDIS_PASSWORD", "from the environment")
    assert loaded.reveal() == "from the environment"
    assert loaded == "from the environment"
    provide_secret("GRAFLOW_REDIS_PASSWORD", "from the settings")
    try:
        assert loaded.reveal() == "from the settings"
        client = create_redis_client({"host": "h", "password": loaded})
        assert client.connection_pool.connection_kwargs["password"] == "from the settings"
    finally:
        provide_secret("GRAFLOW_REDIS_PASSWORD", None)
    assert loaded.reveal() == "from the environment"


def test_a_missing_secret_is_named_before_anything_connects(monkeypatch):
    monkeypatch.setattr(redis, "Redis", lambda **_: pytest.fail("a client was made"))
    config = pickle.loads(pickle.dumps(normalize_redis_config({"host": "h", "password": PASSWORD})))
    for function in (create_redis_client, shared_client, redis_url):
        with pytest.raises(ConfigError, match="GRAFLOW_REDIS_PASSWORD is not known"):
            function(config)
    config = pickle.loads(pickle.dumps(normalize_redis_config({"url": f"redis://:{QUOTED}@h"})))
    with pytest.raises(ConfigError, match="GRAFLOW_REDIS_URL is not known"):
        create_redis_client(config)
    monkeypatch.setenv("GRAFLOW_REDIS_URL", "redis://there:1")
    assert describe_server(config) == "there:1/0"


def test_the_password_of_the_environments_url_serves_the_same_server_only(monkeypatch):
    monkeypatch.setenv("GRAFLOW_REDIS_URL", f"redis://:{QUOTED}@h:1/5")
    for config, known in (({"host": "h", "port": 1}, True), ({"host": "else", "port": 1}, False)):
        loaded = pickle.loads(pickle.dumps(normalize_redis_config({**config, "password": "forgotten"})))
        if known:
            assert connection_of(loaded)["password"] == PASSWORD
        else:
            with pytest.raises(ConfigError, match="GRAFLOW_REDIS_PASSWORD"):
                create_redis_client(loaded)


def test_a_secret_without_a_name_cannot_be_found_again():
    loaded = pickle.loads(pickle.dumps(Secret("hunter2")))
    with pytest.raises(ConfigError, match="without a name"):
        loaded.reveal()
    assert str(loaded) == "***"
    assert hash(loaded) is not None
    assert loaded == copy.copy(loaded)
    assert loaded != pickle.loads(pickle.dumps(Secret("hunter2")))


def test_a_parsed_url_marks_no_secret_itself():
    assert parse_redis_url(f"redis://:{QUOTED}@h")["password"] == PASSWORD


def test_a_server_that_is_named_nearer_stands_for_itself():
    said = {"url": "redis://:old@far:1/2", "ssl": True, "lease": 5}
    assert laid_over(said, {"host": "near"}) == {"host": "near", "lease": 5}
    assert laid_over(said, {"lease": 7}) == {**said, "lease": 7}
    assert laid_over({"host": "far", "port": 1}, {"port": 2}) == {"host": "far", "port": 2}
    assert laid_over(said, None) == said
