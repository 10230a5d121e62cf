"""The data of the group record, its keys and its scripts, without a server."""

from __future__ import annotations

import json
import re

import pytest

from graflow.exceptions import GraflowRuntimeError
from graflow_celery.record import GroupSpec, GroupState, GroupStatus, Keys
from graflow_celery.record.keys import GLOBAL_KEYS, RUN_KEYS
from graflow_celery.record.scripts import LUA, source

SCRIPTS = sorted(path.stem for path in LUA.glob("*.lua"))

# Commands, with the arguments that are used, of Redis 6.2 and of Valkey.
COMMANDS = {
    "COPY", "EXISTS", "GET", "HDEL", "HEXISTS", "HGET", "HGETALL", "HINCRBY", "HLEN", "HMGET", "HSCAN", "HSET",
    "HSETNX", "LLEN", "LPOP", "LRANGE", "LREM", "PERSIST", "PEXPIRE", "PTTL", "RENAME", "RPUSH", "SADD", "SET",
    "SISMEMBER", "SMEMBERS", "SREM", "STRLEN", "TIME", "TYPE", "UNLINK", "XADD", "XREVRANGE", "ZADD", "ZMSCORE",
    "ZRANGE", "ZRANGEBYSCORE", "ZREM", "ZSCORE",
}  # fmt: skip


def test_a_specification_survives_the_way_through_redis() -> None:
    spec = GroupSpec("run", "group", 3, "digest", critical=(1, 2), timeout=1.5, options={"queue": "q"}, meta={"a": [1]})
    assert GroupSpec.from_json(spec.to_json()) == spec


def test_a_specification_of_an_unknown_version_is_refused() -> None:
    text = json.dumps({"version": 99, "run_id": "run"})
    with pytest.raises(GraflowRuntimeError, match="version 99"):
        GroupSpec.from_json(text)


def test_opening_and_running_are_the_states_that_are_not_final() -> None:
    assert [state for state in GroupState if not state.is_final] == [GroupState.OPENING, GroupState.RUNNING]


def test_recorded_members_are_counted_over_all_ends() -> None:
    status = GroupStatus(10, 2, 1, 3, 2, 1, 1, GroupState.RUNNING, timed_out=1)
    assert status.recorded == 7


def test_keys_carry_prefix_and_run() -> None:
    keys = Keys("p")
    assert keys.of_run("r") == [f"p:r:{name}" for name in RUN_KEYS]
    assert keys.run("r", "deadlines") == "p:r:deadlines"
    assert [keys.deployment(name) for name in GLOBAL_KEYS] == [f"p:{name}" for name in GLOBAL_KEYS]


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_opens_with_the_keys_that_it_touches(name: str) -> None:
    lines = (LUA / f"{name}.lua").read_text(encoding="utf-8").splitlines()
    comment = " ".join(lines[: next(i for i, line in enumerate(lines) if not line.startswith("--"))])
    assert name in {"now", "time"} or re.search(r"Touches|KEYS", comment)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_uses_commands_that_every_supported_server_has(name: str) -> None:
    text = (LUA / f"{name}.lua").read_text(encoding="utf-8")
    used = set(re.findall(r"(?:redis\.call|each|fetch)\('([A-Z]+)'", text))
    assert used <= COMMANDS


def test_scripts_know_no_time_but_that_of_the_server() -> None:
    assert "redis.call('TIME')" in source("claim")
    assert all("os.time" not in source(name) and "os.clock" not in source(name) for name in SCRIPTS)
