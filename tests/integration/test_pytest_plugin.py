"""The plug-in for pytest, in runs of pytest of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.redis


def outcome(folder: Path, source: str, *arguments: str) -> str:
    """What pytest says of a file of tests."""
    (folder / "test_theirs.py").write_text(source, encoding="utf-8")
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments, "test_theirs.py"],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if not name.startswith(("GRAFLOW_", "PYTEST_"))},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ended.returncode in {0, 1}, ended.stdout + ended.stderr
    return ended.stdout


def test_a_test_of_something_else_imports_neither_graflow_nor_celery(tmp_path: Path) -> None:
    said = outcome(
        tmp_path,
        "import sys\n"
        "def test_them():\n"
        "    assert not {'graflow', 'graflow_celery', 'celery', 'redis'} & sys.modules.keys()\n",
    )
    assert "1 passed" in said


APART = """
from graflow import task
from graflow.core.workflow import current_workflow_context
from graflow.secret import Secret, provide_secret
from graflow_celery.settings import Settings

@task
def one(): return 1
@task
def two(): return 2

provide_secret("THE_SESSIONS", "kept")

def test_that_leaves_something(tmp_path, monkeypatch):
    one >> two
    provide_secret("OF_ONE_TEST", "forgotten")
    (tmp_path / "celeryconfig.py").write_text("graflow_lease = 7")
    monkeypatch.syspath_prepend(tmp_path)
    assert Settings.load().lease == 7

def test_that_finds_nothing_of_it():
    assert Settings.load().lease == 30
    assert not Secret.reference("OF_ONE_TEST").is_known()
    assert Secret.reference("THE_SESSIONS").is_known()
    assert not current_workflow_context().graph.nodes
"""


def test_tests_are_kept_apart(tmp_path: Path) -> None:
    assert "2 passed" in outcome(tmp_path, APART)


BACKENDS = """
import os, pytest, threading
from graflow import task, workflow

@task
def where(x): return os.getpid(), threading.get_ident()
@task
def places(group): return group

def run():
    with workflow("w") as wf:
        where.map([1, 2], name="group").with_execution("redis") >> places
        return wf.execute()

HERE = os.getpid(), threading.get_ident()

def test_by_default(graflow_backend):
    assert graflow_backend == "direct"  # as the settings of pytest say
    assert run() == [HERE] * 2

@pytest.mark.parametrize("graflow_backend", ["threading"], indirect=True)
def test_on_threads(graflow_backend):
    assert all(pid == HERE[0] and thread != HERE[1] for pid, thread in run())

@pytest.mark.parametrize("graflow_backend", ["redis"], indirect=True)
def test_on_workers(graflow_backend, graflow_cluster):
    assert len(graflow_cluster.workers) == 1
    assert all(pid != HERE[0] for pid, thread in run())

@pytest.mark.parametrize("graflow_backend", ["thread"], indirect=True)
def test_misspelt(graflow_backend): ...
"""


def test_groups_for_workers_run_where_the_fixture_says(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\ngraflow_backend = direct\n", encoding="utf-8")
    (tmp_path / "conftest.py").write_text(
        "import pytest\n@pytest.fixture(scope='session')\ndef graflow_cluster_options(): return {'workers': 1}\n",
        encoding="utf-8",
    )
    said = outcome(tmp_path, BACKENDS)
    assert "3 passed, 1 error" in said
    assert "graflow_backend is one of threading, direct, redis, not 'thread'" in said
