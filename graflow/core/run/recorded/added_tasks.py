"""Tasks that steps added, as data of a journal: what of them carries code is signed for their own run alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graflow.exceptions import TaskResolutionError
from graflow.protocols import upward
from graflow.signing import SigningKeys

Data = Mapping[str, Any]


def task_to_data(task: Any, task_id: str, session_id: str) -> dict[str, Any]:
    """What is recorded of a task, for the run with this session id and later executions of it.

    Raises:
        TaskResolutionError: It has no form.
    """
    return {"task": _resolver().serialize_best(task, bound_to=(session_id, task_id)).to_dict(), "of": session_id}


def task_from_data(node: Data, session_id: str, adding: str) -> Any:
    """The task that `task_to_data` recorded, for a later execution of the same run.

    Args:
        node: What was recorded.
        session_id: That of the run which takes it over; sessions of one run differ behind their last dot.
        adding: The step that added it.

    Raises:
        TaskResolutionError: It is not to be had again, or was recorded for another run.
    """
    task_id, of = node["id"], node["of"]
    text = f"Task '{task_id}', which step '{adding}' added, cannot be had again"
    if _run_of(of) != _run_of(session_id):
        raise TaskResolutionError(f"{text}: it was recorded for another run, '{of}'")
    try:
        return _resolver().resolve(node["task"], bound_to=(of, task_id))
    except TaskResolutionError as error:
        raise TaskResolutionError(f"{text}: {error}", error) from error


def made_over(outcome: Data, of: str, to: str, adding: str) -> Data:
    """The outcome of a step with the tasks that it added recorded for another run, which takes them along.

    Raises:
        TaskResolutionError: One of them is not to be had again, or was recorded for a third run.
    """
    nodes = [
        {**node, **task_to_data(task_from_data(node, of, adding), node["id"], to)} if "task" in node else node
        for node in outcome.get("nodes", ())
    ]
    return {**outcome, "nodes": nodes} if nodes else outcome


def _run_of(session_id: str) -> str:
    run, dot, _ = session_id.rpartition(".")
    return run if dot else session_id


def _resolver() -> Any:
    resolver = upward.registry().get()
    return resolver if resolver.keys is not None else resolver.with_keys(SigningKeys.user())
