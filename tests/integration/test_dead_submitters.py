"""A group whose first submitter died while it was publishing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

from graflow import workflow
from graflow.core.context import ExecutionContext
from graflow.core.task import ParallelGroup
from graflow_celery import LocalCluster
from graflow_celery.broker.publisher import MemberPublisher
from tests.integration import members

pytestmark = pytest.mark.redis


def run_flow(config: dict[str, Any], session: str, value: int) -> list[Any]:
    """Run a group of two whose second argument tells processes apart."""
    with workflow("shared") as wf:
        pair = [members.noop(task_id="first", x=1), members.noop(task_id="second", x=value)]
        ParallelGroup(pair, name="pair").with_execution("redis", backend_config=config)
    context = ExecutionContext(wf.graph, "pair", session_id=session)
    context.execute()
    return [context.get_result("first"), context.get_result("second")]


def die_while_publishing(session: str) -> None:
    """Run as far as the record is open and no message is out."""
    pytest.MonkeyPatch().setattr(MemberPublisher, "publish", lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
    run_flow({}, session, 2)


@pytest.mark.parametrize("value", [2, 3], ids=["the same group", "other arguments"])
def test_another_process_goes_on_when_the_owner_has_been_silent_for_its_lease(
    cluster: LocalCluster, value: int
) -> None:
    session = f"unlucky-{value}"
    code = f"from tests.integration.test_dead_submitters import *; die_while_publishing({session!r})"
    key = cluster.backend_config["signing_key"].reveal()
    environment = {
        **os.environ,
        "GRAFLOW_REDIS_URL": cluster.redis_url.reveal(),
        "GRAFLOW_SIGNING_KEY": key,
        "GRAFLOW_RUN_LEASE": "1",
    }
    died = subprocess.run([sys.executable, "-c", code], env=environment, check=False)
    assert died.returncode == -signal.SIGKILL
    begun = time.monotonic()
    assert run_flow(cluster.backend_config, session, value) == [1, 2]
    assert time.monotonic() - begun < 40, "nobody published before the queue wait was over"
