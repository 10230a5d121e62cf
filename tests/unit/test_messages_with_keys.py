"""Messages are hints: what a worker with a key takes of them are signed time limits and signed tasks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from graflow.exceptions import GraflowRuntimeError, PayloadError, SignatureError
from graflow.signing import SigningKeys, generate_key
from graflow_celery.broker.app import ENTRY_TASK, FINISH_TASK, FLOW_TASK, RUN_TASK, GraflowCelery, build_app
from graflow_celery.broker.entries import LIFE, verify
from graflow_celery.broker.messages import are_limits_signed, finish_signature, run_message
from graflow_celery.record import GroupSpec
from graflow_celery.settings import Settings
from graflow_celery.wire.payload import canonical
from graflow_celery.worker.celery_tasks import MemberRequest, install

KEY = generate_key()
KEYS = SigningKeys.parse(KEY)
LIMITED = GroupSpec("run", "g", 9, "d", options={"common": {"time_limit": 2.5, "soft_time_limit": 2}})


@pytest.fixture(scope="module")
def app() -> GraflowCelery:
    made = build_app(Settings.load({"url": "redis://127.0.0.1:1/0", "signing_key": KEY}))
    install(made)
    return made


def request_of(app: GraflowCelery, name: str, kwargs: Mapping[str, Any], limits: Sequence[Any] | None) -> MemberRequest:
    """A message as it arrives in a worker's main process."""
    kwargs, limits = json.loads(json.dumps([kwargs, limits]))
    headers = {"id": "1", "task": name, "timelimit": limits}
    message = SimpleNamespace(headers=headers, delivery_info={}, properties={}, body="")
    return MemberRequest(message, app=app, headers=headers, body=([], kwargs, {}), decoded=True, task=app.tasks[name])


def limits_of(message: Mapping[str, Any]) -> list[Any]:
    return [message["time_limit"], message["soft_time_limit"]]


def test_limits_that_a_holder_of_the_key_sent_count(app: GraflowCelery) -> None:
    message = run_message(LIMITED, [3, 4, 7], KEYS)
    assert request_of(app, RUN_TASK, message["kwargs"], limits_of(message)).time_limits == [2.5, 2]
    own = GroupSpec("run", "g", 9, "d", options={"own": {"9": {"time_limit": 7}}})
    finish = finish_signature(app, own, KEYS)
    assert request_of(app, FINISH_TASK, finish.kwargs, limits_of(finish.options)).time_limits == [7, None]


@pytest.mark.parametrize("limits", [[0.3, None], [None, 0.3], [2.5, 1], ["x", "y"], [-1, -1], [1], {"a": 1}, 5])
def test_limits_that_nobody_with_the_key_gave_are_passed_over(app: GraflowCelery, limits: Any) -> None:
    signed = run_message(LIMITED, [3], KEYS)["kwargs"]
    for hint in ({"version": 1, "run_id": "run", "ranges": [[3, 3]]}, signed, {**signed, "signature": 7}):
        request = request_of(app, RUN_TASK, hint, limits)
        assert request.time_limits == (None, None)
        assert request._request_dict["timelimit"] == (None, None)


@pytest.mark.parametrize("name", [ENTRY_TASK, FLOW_TASK])
def test_what_has_no_limits_of_its_own_is_given_none(app: GraflowCelery, name: str) -> None:
    signed = run_message(LIMITED, [3], KEYS)
    assert request_of(app, name, signed["kwargs"], limits_of(signed)).time_limits == (None, None)


def test_limits_of_other_members_or_another_run_do_not_count() -> None:
    hint = run_message(LIMITED, [3], KEYS)["kwargs"]
    assert are_limits_signed(hint, [2.5, 2], KEYS)
    assert not are_limits_signed({**hint, "ranges": [[4, 4]]}, [2.5, 2], KEYS)
    assert not are_limits_signed({**hint, "run_id": "other"}, [2.5, 2], KEYS)
    assert not are_limits_signed(hint, [2.5, 2], SigningKeys.parse(generate_key()))


def test_a_message_without_limits_is_not_signed_and_one_without_a_key_is_as_before() -> None:
    assert set(run_message(GroupSpec("run", "g", 9, "d"), [3], KEYS)["kwargs"]) == {
        "version",
        "run_id",
        "ranges",
        "sent",
    }
    assert set(run_message(LIMITED, [3])["kwargs"]) == {"version", "run_id", "ranges", "sent"}


# -- tasks on their own ------------------------------------------------------------------------------------------------


def entry(**change: Any) -> dict[str, Any]:
    body = {"run_id": "r", "index": 0, "task_id": "t", "sent_at": 4e9, **change}
    body["signature"] = KEYS.sign(canonical(body, "it"), purpose="entry", bound_to=(body["run_id"], str(body["index"])))
    return body


def test_an_entry_counts_whatever_the_order_in_which_its_parts_came() -> None:
    verify(dict(reversed(entry().items())), KEYS)


@pytest.mark.parametrize("change", [{"task_id": "u"}, {"index": 1}, {"run_id": "s"}, {"signature": None}, {"more": 0}])
def test_an_entry_of_which_anything_was_changed_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(SignatureError):
        verify({**entry(), **change}, KEYS)


def test_an_entry_that_is_older_than_it_is_remembered_is_refused() -> None:
    with pytest.raises(SignatureError, match="7 days"):
        verify(entry(sent_at=4e9 - 1e10), KEYS)
    assert LIFE == 7 * 86400


def test_an_entry_of_what_is_no_json_is_refused_with_an_error_of_ours() -> None:
    with pytest.raises(PayloadError):
        verify({**entry(), "more": object()}, KEYS)


@pytest.mark.parametrize("version", [1, 2])
def test_hints_of_the_version_before_blocks_name_members_too(app: GraflowCelery, version: int) -> None:
    with pytest.raises(PayloadError, match="ranges"):  # which are looked at once the version is known
        app.tasks[RUN_TASK].run(version=version, run_id="run")


@pytest.mark.parametrize("version", [0, 3, None, "1", [1]])
def test_hints_of_another_version_are_refused_by_name(app: GraflowCelery, version: object) -> None:
    with pytest.raises(GraflowRuntimeError, match="of run is unknown; this worker reads version 2"):
        app.tasks[RUN_TASK].run(version=version, run_id="run")
