from __future__ import annotations

import copy
import inspect
import json
import pickle
import re
import threading

import cloudpickle
import pytest

from graflow import exceptions
from graflow.codec import ErrorData, describe_error, rebuild_error
from graflow.exceptions import (
    ConfigError,
    CycleLimitExceededError,
    DuplicateTaskError,
    GraflowError,
    GraflowRuntimeError,
    GraflowWorkflowCanceledError,
    GroupNotFoundError,
    GroupTimeoutError,
    MaxStepsExceededError,
    ParallelGroupError,
    PayloadError,
    RemoteTaskError,
    RetryLimitExceededError,
    TaskError,
    TaskResolutionError,
    TaskTimeoutError,
    as_runtime_error,
    travelling_errors,
)
from graflow_celery import errors

_REMOTE = ErrorData("shop.OutOfStock", "no apples", "Traceback: in the shop")

SAMPLES = {
    "AnswerInvalidError": {"question_id": "q-1", "errors": ["version: is no text"]},
    "AnswerRefusedError": {"question_id": "q-1", "state": "answered", "by": "alice", "at": 1.5, "via": "rest"},
    "NotAskedError": {"message": "not bob", "cause": None},
    "QuestionChangedError": {"question_id": "q-1", "asked": "'Ship 1?'", "asks": "'Ship 2?'"},
    "QuestionExpiredError": {"question_id": "q-1", "prompt": "Ship?"},
    "QuestionNotFoundError": {"message": "none", "cause": None},
    "QuestionWithdrawnError": {"question_id": "q-1", "by": "alice", "reason": "no need"},
    "AccessRefusedError": {"message": "refused", "cause": None},
    "BrokerUnreachableError": {"message": "silent", "cause": OSError(111, "refused")},
    "ConfigError": {"message": "bad", "cause": ValueError("why")},
    "CycleLimitExceededError": {"task_id": "t", "cycle_count": 3, "max_cycles": 2, "run_id": "r"},
    "DuplicateTaskError": {"task_id": "t", "places": ["a.py:1", "b.py:2"]},
    "FeedbackAnswerError": {"field": "selected", "why": "is none of them"},
    "FeedbackCancelledError": {"feedback_id": "q"},
    "GraflowError": {"message": "bad", "cause": ValueError("why")},
    "GraflowRuntimeError": {"message": "bad", "cause": None},
    "GraflowWorkflowCanceledError": {"message": "stop", "task_id": "t", "run_id": "r"},
    "ChildFlowError": {"flow_id": "f.1", "status": "failed", "error": "no"},
    "FlowTimeoutError": {"message": "too long", "cause": None},
    "FlowChangedError": {"message": "other code", "cause": None},
    "FlowConflictError": {"message": "other inputs", "cause": None},
    "FlowInputError": {"message": "no number", "cause": None},
    "FlowNotFoundError": {"message": "none", "cause": None},
    "GraphCompilationError": {"message": "bad", "cause": None},
    "InvalidCursorError": {"message": "no cursor", "cause": None},
    "MoveRefusedError": {"message": "completed", "cause": None},
    "PlanOutdatedError": {"message": "another plan", "cause": None},
    "StaleEpochError": {"flow_id": "f", "epoch": 1, "present": 2},
    "StoreConfigError": {"message": "bad", "cause": None},
    "StoreError": {"message": "newer", "cause": None},
    "StoreUnavailableError": {"message": "away", "cause": OSError(111, "refused")},
    "TakeOverError": {"message": "nowhere", "cause": None},
    "VersionConflictError": {"flow_id": "f", "version": 1, "present": 2},
    "GroupConflictError": {"run_id": "r", "message": "other content"},
    "GroupLostError": {"run_id": "r", "message": "gone"},
    "GroupNotFoundError": {"run_id": "r", "why": "expired"},
    "GroupTimeoutError": {
        "group_id": "g",
        "done": 1,
        "total": 2,
        "timeout": None,
        "run_id": "r",
        "task_id": "after",
    },
    "MaxStepsExceededError": {"max_steps": 5, "pending": ["a", "b"], "loop": ["a", "b"], "run_id": "r"},
    "MemberCancelledError": {"task_id": "t", "message": "cancelled"},
    "MemberLostError": {"task_id": "t", "attempts": 4, "losses": 3, "how": "killed by SIGKILL"},
    "NoWorkerError": {"message": "nobody", "queue": "q", "length": 7},
    "ParallelGroupError": {
        "message": "failed",
        "group_id": "g",
        "failed_tasks": [("a", "boom")],
        "successful_tasks": ["b"],
        "errors": {"a": ValueError("boom")},
    },
    "MemberLeftOutError": {"task_id": "t", "why": "a member has failed"},
    "PayloadError": {"message": "bad", "cause": None},
    "RecordDamagedError": {"run_id": "r", "what": "a key of it has another type"},
    "RecordVersionError": {"run_id": "r", "version": "2"},
    "RecordFullError": {"run_id": "r", "needed": 10},
    "RetryRefusedError": {"run_id": "r", "why": "it has not ended"},
    "RecordUnreachableError": {"message": "silent", "cause": None},
    "RemoteTaskError": {"error": _REMOTE, "task_id": "t"},
    "RetryLimitExceededError": {"task_id": "t", "retry_count": 3, "max_retries": 2, "last_error": KeyError("k")},
    "RunOwnedError": {"session_id": "s", "owner": "host:12", "since": 1_700_000_000.5},
    "SettingError": {"message": "bad", "cause": None},
    "SignatureError": {"message": "bad", "cause": None},
    "TaskError": {"task_id": "t", "message": "boom", "cause": ValueError("why")},
    "TaskResolutionError": {"message": "bad", "cause": None},
    "TaskFailedError": {"task_id": "t", "cause": KeyError("country"), "run_id": "r"},
    "TaskTimeoutError": {"task_id": "t", "timeout": 2.5},
    "UnknownTaskError": {"message": "no such task", "reference": "shop:refund"},
    "UnknownHandlerError": {"message": "bad", "cause": None},
    "UnknownNodeError": {"message": "bad", "cause": None},
}


def _whole_tree():
    def below(kind):
        for sub in kind.__subclasses__():
            if sub.__module__.partition(".")[0] in ("graflow", "graflow_celery"):
                yield sub
                yield from below(sub)

    return sorted({GraflowError, *below(GraflowError)}, key=lambda kind: kind.__name__)


def _same(one, other):
    if isinstance(one, BaseException):
        return type(one) is type(other) and str(one) == str(other) and _same(one.args, other.args)
    if isinstance(one, dict):
        return isinstance(other, dict) and list(one) == list(other) and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return type(one) is type(other) and len(one) == len(other) and all(map(_same, one, other))
    return one == other


_WAYS = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "cloudpickle": lambda error: pickle.loads(cloudpickle.dumps(error)),
    **{
        f"pickle{protocol}": lambda error, protocol=protocol: pickle.loads(pickle.dumps(error, protocol))
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
    },
}


@pytest.mark.parametrize("way", list(_WAYS))
@pytest.mark.parametrize("kind", _whole_tree(), ids=lambda kind: kind.__name__)
def test_every_error_keeps_type_text_and_fields(kind, way):
    error = kind(**SAMPLES[kind.__name__])
    back = _WAYS[way](error)
    assert type(back) is kind
    assert str(back) == str(error)
    assert _same(back.args, error.args)
    assert _same(back.__dict__, error.__dict__)


@pytest.mark.parametrize("kind", _whole_tree(), ids=lambda kind: kind.__name__)
def test_every_error_stores_what_it_was_made_from(kind):
    given = SAMPLES[kind.__name__]
    error = kind(**given)
    assert list(inspect.signature(kind).parameters) == list(given)
    for name, value in given.items():
        assert getattr(error, name) == value


@pytest.mark.parametrize("kind", _whole_tree(), ids=lambda kind: kind.__name__)
def test_every_error_survives_a_field_that_cannot_be_pickled(kind):
    error = kind(**SAMPLES[kind.__name__])
    error.extra = threading.Lock()
    error.listed = [1, {"lock": threading.Lock(), ("x",): lambda: None}]
    back = pickle.loads(pickle.dumps(error))
    assert str(back) == str(error)
    assert "lock" in back.extra
    assert back.listed[0] == 1
    assert "lock" in back.listed[1]["lock"]
    assert copy.deepcopy(error).extra is error.extra


def test_every_error_has_a_sample_and_lives_in_the_file_of_its_package():
    assert set(SAMPLES) == {kind.__name__ for kind in _whole_tree()}
    assert {kind.__module__ for kind in _whole_tree()} == {"graflow.exceptions", "graflow_celery.errors"}


@pytest.mark.parametrize("home", [exceptions, errors], ids=lambda home: home.__name__)
def test_the_docstring_draws_the_whole_tree_and_all_lists_it(home):
    names = {
        name
        for name, kind in vars(home).items()
        if isinstance(kind, type) and issubclass(kind, Exception) and kind.__module__ == home.__name__
    }
    assert names == {name for name in home.__all__ if name not in {"as_runtime_error", "named"}}
    drawn = re.findall(r"[├└]── ([\w.]+)", home.__doc__)
    branch = {"GraflowRuntimeError", "celery.exceptions.Ignore"} - names  # where it grows from
    assert {"GraflowError", *drawn} - branch == names | {"GraflowError"}


@pytest.mark.parametrize("kind", _whole_tree(), ids=lambda kind: kind.__name__)
def test_every_error_that_a_member_raises_comes_back_as_itself_with_its_fields(kind):
    error = kind(**SAMPLES[kind.__name__])
    if kind is RemoteTaskError:
        assert describe_error(error) is _REMOTE  # it stands for what was raised elsewhere, and stays that
        return
    back = rebuild_error(ErrorData.from_dict(json.loads(json.dumps(describe_error(error).to_dict()))))
    assert type(back) is kind
    assert str(back) == str(error)
    assert all(_same(getattr(back, name), getattr(error, name)) for name in SAMPLES[kind.__name__])


def test_errors_that_a_program_derives_do_not_enter_the_table_of_those_that_travel():
    before = dict(travelling_errors)

    class StockError(GraflowRuntimeError):
        pass

    forged = type("ConfigError", (GraflowError,), {"__module__": "graflow.exceptions"})
    assert travelling_errors == before
    assert travelling_errors["graflow.exceptions.ConfigError"] is ConfigError
    assert type(rebuild_error(describe_error(StockError("apples")))) is RemoteTaskError
    assert type(rebuild_error(describe_error(forged("apples")))) is ConfigError


def test_a_group_timeout_says_whose_time_is_over_and_what_becomes_of_the_rest():
    here = str(GroupTimeoutError("g", 1, 3, timeout=2.0))
    assert here == "Group 'g' was not finished within its timeout of 2 s: 1 of 3 members had ended"
    there = str(GroupTimeoutError("g", 1, 3, timeout=0.5, run_id="r"))
    assert there.endswith("timeout of 0.5 s: 1 of 3 members had ended, the others are cancelled (group run 'r')")
    wait = str(GroupTimeoutError("g", 1, 3, run_id="r"))
    assert wait.startswith("Group 'g' has not ended yet: 1 of 3 members have. It goes on; graflow_celery.attach('r') ")
    after = str(GroupTimeoutError("g", 1, 3, run_id="r", task_id="sum"))
    assert after.startswith("The continuation 'sum' of group 'g' has not ended yet")
    assert "attach('r').continuation()" in after


def test_a_cause_of_a_local_class_becomes_an_error_that_describes_it():
    class LocalError(Exception):
        pass

    back = pickle.loads(pickle.dumps(RetryLimitExceededError("t", 2, 1, LocalError("secret place"))))
    assert isinstance(back.last_error, GraflowError)
    assert "LocalError: secret place" in str(back.last_error)
    assert back.cause is back.last_error


def test_a_cause_whose_class_is_missing_on_the_other_side_becomes_a_description(monkeypatch):
    class GoneError(Exception):
        pass

    GoneError.__qualname__ = "GoneError"
    monkeypatch.setitem(globals(), "GoneError", GoneError)
    data = pickle.dumps(TaskError("t", "failed", GoneError("away")))
    monkeypatch.delitem(globals(), "GoneError")
    assert str(pickle.loads(data)) == "Error in task 't': failed (caused by GoneError: away)"


def test_an_error_that_cannot_even_print_itself_is_described():
    class Mute:
        def __reduce__(self):
            raise RuntimeError("no")

        def __repr__(self):
            raise RuntimeError("no")

    error = GraflowError("x")
    error.mute = Mute()
    assert "Mute" in pickle.loads(pickle.dumps(error)).mute


def test_a_long_chain_of_errors_stays_linear_in_size():
    error = GraflowError("first")
    for index in range(40):
        error = RetryLimitExceededError(f"t{index}", 1, 1, error)
    data = pickle.dumps(error)
    assert len(data) < 100_000
    assert str(pickle.loads(data)) == str(error)


def test_an_error_that_is_its_own_cause_can_be_pickled():
    error = GraflowError("loop")
    error.other = error
    assert pickle.loads(pickle.dumps(error)).message == "loop"


def test_a_subclass_of_a_user_survives_with_its_fields():
    back = pickle.loads(pickle.dumps(_ShopError("apples", 3)))
    assert (type(back), back.what, back.left, str(back)) == (_ShopError, "apples", 3, "3 apples left")


class _ShopError(GraflowRuntimeError):
    def __init__(self, what: str, left: int) -> None:
        super().__init__(f"{left} {what} left")
        self.what = what
        self.left = left


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (GraflowError("msg"), "msg"),
        (GraflowError("msg", ValueError("why")), "msg (caused by why)"),
        (TaskResolutionError("msg: why", ValueError("why")), "msg: why"),
        (TaskResolutionError("msg", ValueError("why")), "msg (caused by why)"),
        (TaskError("a", "boom"), "Error in task 'a': boom"),
        (GraflowWorkflowCanceledError("enough", "a"), "Workflow canceled by task 'a': enough"),
        (GraflowWorkflowCanceledError("enough"), "Workflow canceled: enough"),
        (DuplicateTaskError("a"), "Duplicate task ID: a"),
        (ParallelGroupError("two failed", "g", [("a", "x")], []), "two failed"),
        (
            MaxStepsExceededError(5, 12),
            "Stopped after max_steps=5 with work pending: 12 tasks; raise max_steps to go on",
        ),
        (RemoteTaskError(_REMOTE), "shop.OutOfStock: no apples\n\nTraceback: in the shop"),
        (RemoteTaskError(ErrorData("shop.OutOfStock", "no apples")), "shop.OutOfStock: no apples"),
    ],
)
def test_texts(error, text):
    assert str(error) == text


def test_limits_name_all_that_they_are_made_of():
    assert all(part in str(CycleLimitExceededError("loop", 7, 5)) for part in ("loop", "7", "5"))
    retry = str(RetryLimitExceededError("flaky", 4, 3, ValueError("last")))
    assert all(part in retry for part in ("flaky", "4", "3", "last"))
    many = str(MaxStepsExceededError(9, [f"t{index}" for index in range(30)]))
    assert all(part in many for part in ("9", "t0", "t9", "20 more"))
    assert "t10" not in many


def test_some_errors_are_builtin_ones_too():
    assert issubclass(ConfigError, ValueError)
    assert issubclass(PayloadError, ValueError)
    assert issubclass(TaskTimeoutError, TimeoutError)
    assert issubclass(GroupTimeoutError, TimeoutError)
    assert issubclass(GroupNotFoundError, LookupError)


def test_the_cause_is_chained():
    why = ValueError("why")
    assert GraflowError("msg", why).__cause__ is why
    assert pickle.loads(pickle.dumps(GraflowError("msg", why))).__cause__.args == ("why",)


def test_a_runtime_error_passes_unchanged_and_others_are_wrapped():
    already = TaskError("a", "boom")
    assert as_runtime_error(already) is already
    plain = KeyError("k")
    wrapped = as_runtime_error(plain)
    assert type(wrapped) is GraflowRuntimeError
    assert wrapped.cause is plain
    assert str(wrapped).startswith("An error occurred: KeyError: 'k'")
    assert "ValueError" in str(as_runtime_error(ValueError()))
