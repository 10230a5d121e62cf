"""Members in blocks come to what they come to by themselves, whatever they do."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from graflow.core.branches.outcome import Branch
from graflow.core.handlers.group_policy import StrictGroupPolicy
from graflow.seals import content_of
from graflow.signing import generate_key
from graflow_celery.client.columns import Columns
from graflow_celery.client.submission import prepare
from graflow_celery.deployment import Deployment, deployment_of
from graflow_celery.settings import GroupOptions
from graflow_celery.wire.envelope import SharedPayload
from graflow_celery.wire.pages import recorded_outcomes
from graflow_celery.wire.payload import unpack
from graflow_celery.wire.seal import RunSeal
from graflow_celery.worker.batches import batch
from graflow_celery.worker.batches.batch import run_members
from tests.integration import kinds
from tests.support import private_redis

pytestmark = pytest.mark.redis

_FRAME = re.compile(r'  File "[^"]*/graflow(?:_celery)?/[^"]*", .*\n(    .*\n)+')


@pytest.fixture(scope="module", params=["signed", "unsigned"])
def deployment(request: pytest.FixtureRequest) -> Iterator[Deployment]:
    with private_redis() as server:
        key = {"signing_key": generate_key()} if request.param == "signed" else {}
        yield deployment_of({"url": server.url, **key})


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is reported early or goes to others, however slow this machine is."""
    monkeypatch.setattr(batch, "SLICE", float("inf"))


def branches(group: Any) -> list[Branch]:
    return [Branch(member, i, {member.task_id: member}, [], {}) for i, member in enumerate(group.tasks)]


def bodies(deployment: Deployment, group: Any, run_id: str, *, in_blocks: bool) -> list[Any]:
    """Id, state, attempts and outcome of each member, times aside."""
    members = Columns(group.members, lambda: branches(group)) if in_blocks else branches(group)
    shared = SharedPayload(group_id=group.task_id, session_id="s", trace_id="t")
    submission = prepare(
        deployment,
        GroupOptions(),
        run_id=run_id,
        group_id=group.task_id,
        branches=members,
        shared=shared,
        policy=StrictGroupPolicy(),
    )
    spec, record = submission.spec, deployment.record
    assert bool(spec.stride) is in_blocks
    record.open(spec, submission.manifest, submission.shared)
    run_members(deployment, run_id, range(spec.n), owner="w:1", worker="w", in_blocks=in_blocks)
    assert bool(record.blocks(run_id, 0, spec.n)) is in_blocks
    outcomes = recorded_outcomes(record, RunSeal(deployment.keys, spec))
    assert len(outcomes) == spec.n
    return [(x.index, x.state, x.attempts, x.owner, x.late, _body(x.payload)) for x in outcomes]


def _body(payload: bytes) -> Any:
    body = json.loads(unpack(content_of(payload)))
    assert body.pop("duration") >= 0
    assert body.pop("timestamp") > 1e9
    return _without_what_differs(body)


def _without_what_differs(data: Any) -> Any:
    """Pickles are signed for their run, and frames of this library are nobody's business."""
    if isinstance(data, dict):
        if data.get("$t") == "pickle":
            return "pickle"
        return {name: _without_what_differs(value) for name, value in data.items() if name != "elapsed_time"}
    if isinstance(data, str):
        return _FRAME.sub("", data)
    return [_without_what_differs(value) for value in data] if isinstance(data, list) else data


@pytest.mark.parametrize(
    ("template", "names"),
    [
        (kinds.act, kinds.NAMES),
        (kinds.act_with, kinds.WITHOUT_COROUTINES),
        (kinds.act_with(task_id="bound", number=7), kinds.WITHOUT_COROUTINES),
        (kinds.act_again, kinds.NAMES),
        (kinds.act_in_context, kinds.NAMES),
        (kinds.act_in_time, kinds.NAMES),
        (kinds.act_later, kinds.WITHOUT_COROUTINES),
    ],
    ids=lambda value: getattr(value, "task_id", None),
)
def test_both_ways_give_the_same_outcomes(template: Any, names: list[str], deployment: Deployment) -> None:
    name = template.task_id
    alone = bodies(deployment, template.map(names, name=name), f"{name}-alone", in_blocks=False)
    together = bodies(deployment, template.map(names, name=name), f"{name}-together", in_blocks=True)
    for member, expected, found in zip(names, alone, together, strict=True):
        assert found == expected, member


def test_each_member_has_arguments_of_its_own(deployment: Deployment) -> None:
    items = [[], [1], {"a": []}, (1, 2), {1}, b"x", None, 2.5, kinds.Point(1, []), "text"]
    alone = bodies(deployment, kinds.takes.map(items), "items-alone", in_blocks=False)
    together = bodies(deployment, kinds.takes.map(items), "items-together", in_blocks=True)
    assert together == alone


@pytest.mark.parametrize("in_blocks", [False, True])
def test_a_child_that_a_member_forks_reports_nothing_when_it_comes_out_of_the_code(
    deployment: Deployment, in_blocks: bool
) -> None:
    ends = ["exits with 3", "exits", "raises", "returns"]
    found = bodies(deployment, kinds.forks.map(ends), f"forks-{in_blocks}", in_blocks=in_blocks)
    assert [(state, attempts) for _, state, attempts, *_ in found] == [("SUCCEEDED", 1)] * 4
    assert [body["value"] for *_, body in found] == [3, 0, 1, 0]
