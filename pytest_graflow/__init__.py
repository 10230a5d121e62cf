"""Fixtures for tests of workflows. Neither `graflow` nor Celery is imported before a test does that or asks for one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from graflow_celery import LocalCluster

__all__ = ["graflow_backend", "graflow_cluster", "graflow_cluster_options"]

_BACKENDS: Final = ("threading", "direct", "redis")
_CELERYCONFIG: Final = "celeryconfig"
_BACKEND_VARIABLE: Final = "GRAFLOW_BACKEND"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini(
        "graflow_backend",
        f"Where groups on workers run in tests that use the fixture graflow_backend: {', '.join(_BACKENDS)}.",
        default=_BACKENDS[0],
    )


@pytest.fixture(autouse=True)
def _graflow_isolation() -> Iterator[None]:
    """A test begins without a current workflow, and what it provides or configures does not reach the next one."""
    secrets = dict(_provided_secrets())
    has_celeryconfig = _CELERYCONFIG in sys.modules
    _forget()
    yield
    _forget()
    _provided_secrets().clear()
    _provided_secrets().update(secrets)
    if not has_celeryconfig:
        sys.modules.pop(_CELERYCONFIG, None)


def _forget() -> None:
    """Forget the current workflow and what `celeryconfig.py` said, where the modules that hold them are imported."""
    workflow, operators = _imported("graflow.core.workflow"), _imported("graflow_celery.celeryconfig")
    if workflow is not None:
        workflow.clear_workflow_context()
    if operators is not None:
        operators.celeryconfig.cache_clear()


def _provided_secrets() -> dict[str, str]:
    secret = _imported("graflow.secret")
    return {} if secret is None else secret.provided_secrets()


def _imported(name: str) -> Any:
    """A module when something else has imported it; doing that only to look into it would cost each run of pytest."""
    return sys.modules.get(name)


@pytest.fixture(scope="session")
def graflow_cluster_options() -> dict[str, Any]:
    """What `graflow_cluster` is made with; override it in your `conftest.py`."""
    return {"workers": 2}


@pytest.fixture(scope="session")
def graflow_cluster(graflow_cluster_options: dict[str, Any]) -> Iterator[LocalCluster]:
    """A private Redis and Celery workers, from the first test that asks for them to the end of the session."""
    from graflow_celery import LocalCluster  # noqa: PLC0415 - only who asks for it pays for Celery

    with LocalCluster(**graflow_cluster_options) as cluster:
        yield cluster


@pytest.fixture
def graflow_backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where groups that are made with `with_execution("redis")` run in this test, and its name.

    "threading" or "direct" need no server; with "redis" groups that name no server run on `graflow_cluster`.
    Parametrize it with `indirect=True`, or set `graflow_backend` in the settings of pytest; else it is "threading".
    """
    wanted = str(getattr(request, "param", None) or request.config.getini("graflow_backend"))
    if wanted not in _BACKENDS:
        raise pytest.UsageError(f"graflow_backend is one of {', '.join(_BACKENDS)}, not {wanted!r}")
    monkeypatch.setenv(_BACKEND_VARIABLE, wanted)
    if wanted == "redis":
        config = request.getfixturevalue("graflow_cluster").backend_config
        monkeypatch.setenv("GRAFLOW_REDIS_URL", config["url"].reveal())
        monkeypatch.setenv("GRAFLOW_KEY_PREFIX", config["key_prefix"])
        monkeypatch.setenv("GRAFLOW_SIGNING_KEY", config["signing_key"].reveal())
    return wanted
