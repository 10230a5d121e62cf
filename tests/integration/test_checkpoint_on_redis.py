"""Checkpoints of runs whose channel is in Redis: the channel is found again, with its data."""

from __future__ import annotations

import pytest

from graflow import exceptions, workflow
from graflow.core.checkpoint import CheckpointManager
from graflow.core.context import ExecutionContext
from graflow.core.graph import TaskGraph
from graflow.core.serialization import dumps, loads
from graflow.core.task import ParallelGroup, TaskWrapper
from tests import checkpoint_support as here
from tests.checkpoint_support import FAILING, RUNS, noting

pytestmark = pytest.mark.redis


@pytest.fixture(autouse=True)
def clean(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    RUNS.clear()
    FAILING.clear()


def config_of(server):
    return {"host": server.host, "port": server.port}


def test_a_context_reconnects_and_finds_its_data(redis_server, redis_client):
    graph = TaskGraph()
    graph.add_node(TaskWrapper("a", lambda: 1, register_to_context=False))
    context = ExecutionContext.create(graph, "a", channel_backend="redis", config=config_of(redis_server))
    context.channel.set("k", (1, 2), ttl=100)
    loaded = loads(dumps(context))
    assert loaded.channel.get("k") == (1, 2)
    assert loaded.queue.to_list() == ["a"]
    loaded.channel.set("k", 3, ttl=100)
    assert context.channel.get("k") == 3


def test_a_live_client_never_enters_the_context(redis_client):
    with pytest.warns(DeprecationWarning, match="redis_client"):
        context = ExecutionContext(TaskGraph(), channel_backend="redis", config={"redis_client": redis_client})
    assert "redis_client" not in context.config
    assert loads(dumps(context)).config == context.config


@pytest.mark.parametrize("backend", ["threading", "direct"])
def test_a_run_that_failed_in_a_group_goes_on(redis_server, redis_client, tmp_path, backend):
    path = str(tmp_path / "run")
    with workflow("redis") as wf:
        saves = noting("saves", lambda ctx: ctx.get_channel().set("mine", 1) or ctx.checkpoint(path=path))
        group = ParallelGroup([noting("a"), saves, noting("bad")]).with_execution(backend, {"thread_count": 1})
        noting("before") >> group >> noting("after")
    context = ExecutionContext.create(wf.graph, "before", channel_backend="redis", config=config_of(redis_server))
    FAILING.add("bad")
    with pytest.raises(exceptions.ParallelGroupError):
        context.execute()
    FAILING.clear()
    resumed, described = CheckpointManager.resume_from_checkpoint(path)
    assert described.backend == {"channel": "redis"}
    assert resumed.execute() == "after"
    assert here.RUNS == ["before", "a", "saves", "bad", "bad", "after"]
    assert resumed.channel.get("mine") == 1
    assert resumed.get_result("before") == "before"
