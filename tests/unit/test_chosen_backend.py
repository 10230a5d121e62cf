"""`GRAFLOW_BACKEND` takes groups for workers elsewhere, and no others."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from graflow import task, workflow
from graflow.exceptions import ConfigError
from graflow_celery import RecordUnreachableError, submit


@task
def where(x: int) -> bool:
    return threading.current_thread() is threading.main_thread()


@task
def places(group: Any) -> Any:
    return group


def run(backend: str) -> list[bool]:
    with workflow("w") as wf:
        where.map([1, 2], name="group").with_execution(backend, {"url": "redis://127.0.0.1:1/0"}) >> places
        return wf.execute()


@pytest.mark.parametrize(("said", "in_this_thread"), [("direct", True), ("threading", False), ("DIRECT", True)])
def test_a_group_for_workers_runs_where_the_environment_says(
    said: str, in_this_thread: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAFLOW_BACKEND", said)
    assert run("redis") == [in_this_thread] * 2


def test_other_groups_stay_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAFLOW_BACKEND", "direct")
    assert run("threading") == [False] * 2


def test_an_unknown_backend_is_refused_under_its_name_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAFLOW_BACKEND", "thread")
    with workflow("w"):
        group = where.map([1, 2], name="group")
        with pytest.raises(ConfigError, match="GRAFLOW_BACKEND must be one of redis, threading, direct, not 'thread'"):
            group.with_execution("redis")
    assert run("threading") == [False] * 2


def test_a_function_that_a_test_replaces_gets_what_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    @task
    def url() -> str:
        return "http://example"

    @task
    def fetch(url: str) -> str:
        return url

    with workflow("w") as wf:
        url >> fetch
        assert wf.execute() == "http://example"
        with monkeypatch.context() as patched:
            patched.setattr(fetch, "func", lambda: "fake")
            assert wf.execute() == "fake"
        assert wf.execute() == "http://example"


def test_submit_follows_it_nowhere_but_to_a_server_that_the_call_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAFLOW_BACKEND", "direct")
    monkeypatch.setenv("GRAFLOW_REDIS_URL", "redis://127.0.0.1:1/0")
    for config in (None, {}, {"timeout": 3}):
        with pytest.raises(ConfigError) as caught:
            submit(where.map([1]), config)
        assert str(caught.value) == (
            "GRAFLOW_BACKEND is 'direct', but submit() needs workers, since its handle is read from their Redis: give "
            "it the backend_config= of a server for tests, such as graflow_cluster.backend_config, or run the group "
            "in a workflow"
        )
    with pytest.raises(RecordUnreachableError, match=r"at 127.0.0.1:2/0 does not answer"):
        submit(where.map([1]), {"url": "redis://127.0.0.1:2/0"})
    monkeypatch.setenv("GRAFLOW_BACKEND", "redis")
    with pytest.raises(RecordUnreachableError, match=r"at 127.0.0.1:1/0 does not answer"):
        submit(where.map([1]))
