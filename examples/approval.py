"""An approval: the run waits for a person, be it in place or saved to files, and goes on with the answer.

python examples/approval.py
"""

from __future__ import annotations

import os
import tempfile
import threading
import warnings

from graflow import parallel, task, workflow
from graflow.core.checkpoint import CheckpointManager
from graflow.core.context import ExecutionContext
from graflow.core.engine import WorkflowEngine
from graflow.hitl import FeedbackHandler, FeedbackManager, FeedbackResponse


class Release(FeedbackHandler):
    """Somebody at another desk, who is told of each question and answers those about releases."""

    def on_request_created(self, request):
        answer = FeedbackResponse(feedback_id=request.feedback_id, response_type="selection", selected="beta")
        # He knows the folder of the questions, and nothing of this run.
        threading.Thread(target=FeedbackManager().provide_feedback, args=(request.feedback_id, answer)).start()


@task
def build() -> str:
    print("  build runs")
    return "graflow 0.2"


@task(inject_context=True)
def choose(context, build: str) -> str:
    """Answered while it waits."""
    return context.request_feedback(
        "selection", f"Where does {build} go?", options=["stable", "beta"], handler=Release()
    ).selected


@task
def check() -> str:
    print("  check runs")
    return "all good"


@task(inject_context=True)
def approve(context, build: str, choose: str) -> bool:
    """Nobody answers in time: the whole run waits, whatever the other members of its group do."""
    return context.request_approval(f"Publish {build} as {choose}?", timeout=0.1)


@task
def publish(build: str, choose: str, approve: bool) -> str:
    return f"{build} is {'published as ' + choose if approve else 'put aside'}"


def main() -> None:
    with workflow("release") as wf:
        build >> choose >> parallel(check, approve) >> publish
        graph, start = wf.compiled()

    context = ExecutionContext.create(graph, start)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it tells what is printed here
        WorkflowEngine().execute(context)
    print("stopped:", context.stop_reason)
    for question in context.waiting:
        print("open:", FeedbackManager().get_request(question.feedback_id).prompt)

    # A day later, in another process: somebody answers, by a page, a program, or as here.
    answer = FeedbackResponse(
        feedback_id=question.feedback_id, response_type="approval", approved=True, responded_by="Ada"
    )
    print("first answer:", FeedbackManager().provide_feedback(question.feedback_id, answer))
    print("second answer:", FeedbackManager().provide_feedback(question.feedback_id, answer))

    context, metadata = CheckpointManager.resume_from_checkpoint(context.last_checkpoint_path)
    print("resumed, saved for:", metadata.user_metadata["reason"])
    print("value:", WorkflowEngine().execute(context))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # questions and checkpoints are files below the present folder
        main()
        os.chdir("/")
