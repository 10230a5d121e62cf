"""Members on workers that ask people: without an answer none of them succeeds, and the whole run waits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from graflow import parallel, task, workflow
from graflow.coordination.coordinator import CoordinationBackend
from graflow.core.checkpoint import CheckpointManager
from graflow.core.context import ExecutionContext
from graflow.core.engine import WorkflowEngine
from graflow.core.workflow import WorkflowContext
from graflow.hitl import FeedbackManager, FeedbackResponse

pytestmark = pytest.mark.redis


def _deploying(config: dict[str, Any], folder: Path, policy: str) -> WorkflowContext:
    ran = str(folder)

    def note(name: str) -> None:
        with (Path(ran) / name).open("a", encoding="utf-8") as file:
            file.write("x")

    with workflow("deploy") as wf:

        @task
        def build() -> None:
            note("build")

        @task
        def check() -> str:
            note("check")
            return "checked"

        @task(inject_context=True)
        def approve(ctx: Any) -> str:
            note("approve")
            is_fine = ctx.request_approval("Deploy?", timeout=0.05, channel_key="ok", write_to_channel=True)
            return "approved" if is_fine else "rejected"

        @task
        def deploy() -> str:
            note("DEPLOYED")
            return "deployed"

        group = parallel(check, approve).with_execution(CoordinationBackend.REDIS, backend_config=config, policy=policy)
        build >> group >> deploy
    return wf


def _waiting(context: ExecutionContext) -> str:
    with pytest.warns(UserWarning, match="waits for people"):
        assert WorkflowEngine().execute(context) is None
    assert context.stop_reason == "waiting"
    (asked,) = context.waiting
    assert asked.task_id == "approve"
    return asked.feedback_id


@pytest.mark.parametrize(("kept", "policy"), [("filesystem", "strict"), ("redis", "best_effort")])
def test_the_whole_run_waits_for_a_member(
    kept: str, policy: str, config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = tmp_path / "ran"
    ran.mkdir()
    graph, start = _deploying(config, ran, policy).compiled()
    context = ExecutionContext.create(graph, start)
    monkeypatch.setenv("GRAFLOW_REDIS_URL", config["url"].reveal())  # checkpoints keep no password
    settings = {"data_dir": "questions"} if kept == "filesystem" else {"url": config["url"]}
    manager = context.feedback_manager = FeedbackManager(kept, settings)

    asked = _waiting(context)
    assert {path.name: path.read_text() for path in ran.iterdir()} == {"build": "x", "check": "x", "approve": "x"}
    request = manager.get_request(asked)
    assert request is not None
    assert (request.status, request.task_id) == ("timeout", "approve")
    assert request.metadata["checkpoint_path"] == context.last_checkpoint_path

    context, _ = CheckpointManager.resume_from_checkpoint(str(context.last_checkpoint_path), code="saved")
    assert _waiting(context) == asked  # under the same id
    answer = FeedbackResponse(feedback_id=asked, response_type="approval", approved=True)  # type: ignore[arg-type]
    assert manager.provide_feedback(asked, answer)
    context, _ = CheckpointManager.resume_from_checkpoint(str(context.last_checkpoint_path), code="saved")
    assert WorkflowEngine().execute(context) == "deployed"
    assert (context.get_result("approve"), context.channel.get("ok")) == ("approved", True)
    assert {path.name: path.read_text() for path in ran.iterdir()} == {
        "build": "x",
        "check": "x",  # it had finished, and was not run again
        "approve": "xxx",
        "DEPLOYED": "x",
    }
