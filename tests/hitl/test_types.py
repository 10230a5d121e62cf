from __future__ import annotations

import pickle
import subprocess
import sys

import pytest

from graflow.exceptions import ConfigError, FeedbackAnswerError
from graflow.hitl import FeedbackRequest, FeedbackResponse, FeedbackTimeoutError, FeedbackType
from graflow.hitl.checks import check_answer, check_question


def _request(**changes):
    fields = {
        "feedback_id": "q1",
        "task_id": "t",
        "session_id": "s",
        "feedback_type": FeedbackType.APPROVAL,
        "prompt": "Go on?",
        **changes,
    }
    return FeedbackRequest(**fields)


def test_records_become_plain_data_and_come_back():
    request = _request(options=["a"], metadata={"n": [1, {"x": None}]})
    data = request.to_dict()
    assert (data["feedback_type"], data["status"], data["timeout"]) == ("approval", "pending", 180.0)
    assert len(data) == 12
    before = dict(data)
    assert FeedbackRequest.from_dict(data) == request
    assert data == before
    assert FeedbackRequest.from_dict({**data, "feedback_type": FeedbackType.APPROVAL}) == request
    response = FeedbackResponse(feedback_id="q1", response_type=FeedbackType.TEXT, text="x")
    assert FeedbackResponse.from_dict(response.to_dict()) == response
    request.status = "completed"
    assert request.to_dict()["status"] == "completed"


def test_a_time_out_says_so_and_survives_pickling():
    error = pickle.loads(pickle.dumps(FeedbackTimeoutError("abc", 1.5)))
    assert (str(error), error.feedback_id, error.timeout) == (
        "Feedback request abc timed out after 1.5 seconds",
        "abc",
        1.5,
    )
    assert FeedbackTimeoutError.__bases__ == (Exception,)


def test_an_unknown_kind_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"vote.*approval, text, selection, multi_selection, custom"):
        FeedbackType.of("vote")


@pytest.mark.parametrize(
    ("kind", "answer", "field"),
    [
        ("approval", {}, "approved"),
        ("text", {}, "text"),
        ("selection", {"selected": "c"}, "selected"),
        ("multi_selection", {"selected_multiple": ["a", "c"]}, "selected_multiple"),
        ("multi_selection", {"selected_multiple": ["a", "a"]}, "selected_multiple"),
        ("custom", {}, "custom_data"),
        ("text", {"text": "x" * 300_000}, "text"),
        ("approval", {"approved": True, "reason": "x" * 20_000}, "reason"),
        ("approval", {"approved": True, "responded_by": "x" * 300}, "responded_by"),
        ("approval", {"approved": True, "response_type": "text"}, "response_type"),
    ],
)
def test_answers_that_do_not_fit_are_refused_by_field(kind, answer, field):
    request = _request(feedback_type=kind, options=["a", "b"] if "selection" in kind else None)
    response = FeedbackResponse(**{"feedback_id": "q1", "response_type": kind, **answer})
    with pytest.raises(FeedbackAnswerError) as refused:
        check_answer(request, response)
    assert refused.value.field == field


def test_answers_that_fit_pass():
    for kind, answer in [
        ("approval", {"approved": False}),
        ("text", {"text": ""}),
        ("selection", {"selected": "a"}),
        ("multi_selection", {"selected_multiple": []}),
        ("custom", {"custom_data": {"x": [1]}}),
    ]:
        request = _request(feedback_type=kind, options=["a"] if "selection" in kind else None)
        check_answer(request, FeedbackResponse(feedback_id="q1", response_type=kind, **answer))


@pytest.mark.parametrize(
    "changes",
    [
        {"feedback_id": "../x"},
        {"feedback_id": ".lock"},
        {"prompt": "x" * 20_000},
        {"timeout": -1.0},
        {"timeout": float("inf")},
        {"options": [str(n) for n in range(101)]},
        {"feedback_type": "selection", "options": []},
        {"write_to_channel": True},
        {"metadata": {"when": object()}},
    ],
    ids="-".join,
)
def test_questions_that_cannot_be_asked_are_refused(changes):
    with pytest.raises(ConfigError):
        check_question(_request(**changes))


def test_importing_touches_nothing(tmp_path):
    code = (
        "import sys, graflow, graflow.hitl, graflow.hitl.backend.redis\n"
        "print([name for name in ('fastapi', 'redis', 'fcntl') if name in sys.modules and name != 'fcntl'])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert list(tmp_path.iterdir()) == []
