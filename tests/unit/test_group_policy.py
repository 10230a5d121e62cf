from __future__ import annotations

import logging
import pickle
from dataclasses import dataclass

import pytest

from graflow.core.handler import TaskResult
from graflow.core.handlers.group_policy import (
    POLICY_REGISTRY,
    AtLeastNGroupPolicy,
    BestEffortGroupPolicy,
    CriticalGroupPolicy,
    GroupExecutionPolicy,
    StrictGroupPolicy,
    canonicalize_group_policy,
    resolve_group_policy,
)
from graflow.exceptions import ParallelGroupError, TaskError


@dataclass
class Member:
    task_id: str


class AnythingGoes(GroupExecutionPolicy):
    def on_group_finished(self, group_id, tasks, results, context):
        self._validate_group_results(group_id, tasks, results)


class StricterStill(StrictGroupPolicy):
    pass


MEMBERS = [Member("a"), Member("b"), Member("c")]
BUILT_IN = [StrictGroupPolicy(), BestEffortGroupPolicy(), CriticalGroupPolicy(["a"]), AtLeastNGroupPolicy(1)]


def outcomes(**errors):
    """Results in reverse member order; a member fails with the exception given for it."""
    return {
        member.task_id: TaskResult(
            member.task_id,
            success=member.task_id not in errors,
            error=errors.get(member.task_id),
            error_message=str(errors[member.task_id]) if member.task_id in errors else None,
        )
        for member in reversed(MEMBERS)
    }


def refusal(policy, results, members=MEMBERS):
    with pytest.raises(ParallelGroupError) as caught:
        policy.on_group_finished("g", members, results, None)
    return caught.value


@pytest.mark.parametrize("policy", [*BUILT_IN, AnythingGoes()])
def test_every_policy_accepts_a_group_without_failures(policy):
    policy.on_group_finished("g", MEMBERS, outcomes(), None)


def test_a_refusal_tells_everything_in_member_order():
    first, second = ValueError("boom b"), KeyError("c")
    error = refusal(StrictGroupPolicy(), outcomes(c=second, b=first))
    assert error.group_id == "g"
    assert error.failed_tasks == [("b", "boom b"), ("c", "'c'")]
    assert error.successful_tasks == ["a"]
    assert list(error.errors.items()) == [("b", first), ("c", second)]
    assert error.__cause__ is first
    assert "boom b" in str(error)


def test_a_failure_without_any_text_is_an_unknown_error():
    results = outcomes() | {
        "b": TaskResult("b", success=False),
        "c": TaskResult("c", success=False, error=ValueError()),
    }
    error = refusal(StrictGroupPolicy(), results)
    assert error.failed_tasks == [("b", "Unknown error"), ("c", "ValueError()")]
    assert isinstance(error.errors["b"], TaskError)
    assert error.__cause__ is results["c"].error


def test_a_message_about_many_failures_stays_short():
    members = [Member(f"m{n}") for n in range(500)]
    results = {m.task_id: TaskResult(m.task_id, success=False, error_message="no") for m in members}
    error = refusal(StrictGroupPolicy(), results, members)
    assert len(error.failed_tasks) == 500
    assert "495 more" in str(error)
    assert len(str(error)) < 300


def test_best_effort_logs_what_it_accepts(caplog):
    with caplog.at_level(logging.WARNING):
        BestEffortGroupPolicy().on_group_finished("g", MEMBERS, outcomes(a=ValueError("boom")), None)
    assert "boom" in caplog.text


def test_only_critical_members_fail_a_critical_group():
    policy = CriticalGroupPolicy(["c", "b", "c"])
    assert policy.critical_task_ids == ["b", "c"]
    policy.on_group_finished("g", MEMBERS, outcomes(a=ValueError("fine")), None)
    critical = ValueError("not fine")
    error = refusal(policy, outcomes(a=ValueError("fine"), c=critical))
    assert "'c'" in str(error)
    assert [task_id for task_id, _ in error.failed_tasks] == ["a", "c"]
    assert error.__cause__ is critical


def test_critical_ids_must_be_given_and_be_members():
    with pytest.raises(ValueError, match="at least one"):
        CriticalGroupPolicy([])
    with pytest.raises(TypeError, match="string"):
        CriticalGroupPolicy("abc")
    policy = CriticalGroupPolicy(["a", "z"])
    with pytest.raises(ValueError, match="'z'"):
        policy.on_group_finished("g", MEMBERS, outcomes(), None)
    with pytest.raises(ValueError, match="'z'"):
        policy.validate(["a", "b"])
    policy.validate(["z", "a"])


def test_at_least_n_counts_successes():
    policy = AtLeastNGroupPolicy(2)
    policy.on_group_finished("g", MEMBERS, outcomes(a=ValueError()), None)
    assert "1/2" in str(refusal(policy, outcomes(a=ValueError("x"), b=ValueError("y"))))
    AtLeastNGroupPolicy(0).on_group_finished("g", MEMBERS, outcomes(a=OSError(), b=OSError(), c=OSError()), None)


def test_min_success_must_fit_the_group():
    with pytest.raises(ValueError, match="negative"):
        AtLeastNGroupPolicy(-1)
    with pytest.raises(TypeError, match="int"):
        AtLeastNGroupPolicy("2")
    with pytest.raises(ValueError, match="larger"):
        AtLeastNGroupPolicy(4).on_group_finished("g", MEMBERS, outcomes(), None)
    with pytest.raises(ValueError, match="larger"):
        AtLeastNGroupPolicy(4).validate(["a", "b", "c"])
    AtLeastNGroupPolicy(3).validate(["a", "b", "c"])


@pytest.mark.parametrize("policy", [*BUILT_IN, AnythingGoes()])
def test_missing_and_unexpected_results_are_a_mismatch(policy):
    results = outcomes() | {"z": TaskResult("z", success=True)}
    del results["b"]
    error = refusal(policy, results)
    assert "result mismatch" in str(error)
    assert "'b'" in str(error)
    assert "'z'" in str(error)


@pytest.mark.parametrize(
    ("policy", "name", "canonical"),
    [
        (StrictGroupPolicy(), "strict", "strict"),
        (BestEffortGroupPolicy(), "best_effort", "best_effort"),
        (CriticalGroupPolicy({"y", "x"}), "critical", {"type": "critical", "critical_task_ids": ["x", "y"]}),
        (AtLeastNGroupPolicy(3), "at_least_3", {"type": "at_least_n", "min_success": 3}),
    ],
)
def test_built_in_policies_have_a_plain_form_that_leads_back(policy, name, canonical):
    assert policy.get_name() == name
    assert canonicalize_group_policy(policy) == canonical
    assert canonicalize_group_policy(canonical) == canonical
    again = resolve_group_policy(canonical)
    assert type(again) is type(policy)
    assert vars(again) == vars(policy)
    assert resolve_group_policy(policy) is policy
    assert vars(pickle.loads(pickle.dumps(policy))) == vars(policy)


@pytest.mark.parametrize("policy", [AnythingGoes(), StricterStill()])
def test_subclasses_keep_their_instance(policy):
    canonical = canonicalize_group_policy(policy)
    assert canonical == {"type": "__custom__", "policy": policy}
    assert canonicalize_group_policy(canonical) == canonical
    assert resolve_group_policy(canonical) is policy


def test_a_policy_is_named_after_its_class_unless_it_says_otherwise():
    assert AnythingGoes().get_name() == "AnythingGoes"
    AnythingGoes().validate([])


def test_names_pass_unchanged_and_are_looked_up_without_case():
    assert canonicalize_group_policy("STRICT") == "STRICT"
    assert isinstance(resolve_group_policy("Best_Effort"), BestEffortGroupPolicy)
    assert resolve_group_policy({"type": "AT_LEAST_N", "min_success": 2}).min_success == 2


@pytest.mark.parametrize(
    "form",
    [
        "no_such_policy",
        "critical",
        {},
        {"type": 5},
        {"type": "no_such_policy"},
        {"type": "critical"},
        {"type": "critical", "critical_task_ids": []},
        {"type": "critical", "critical_task_ids": "ab"},
        {"type": "critical", "critical_task_ids": 5},
        {"type": "at_least_n"},
        {"type": "at_least_n", "min_success": "2"},
        {"type": "at_least_n", "min_success": -1},
        {"type": "at_least_n", "min_success": 1, "extra": 2},
        {"type": "__custom__"},
        {"type": "__custom__", "policy": "strict"},
    ],
)
def test_unknown_and_malformed_forms_are_value_errors(form):
    with pytest.raises(ValueError):
        resolve_group_policy(form)
    if not isinstance(form, str):
        with pytest.raises(TypeError):
            canonicalize_group_policy(form)


@pytest.mark.parametrize("other", [None, 5, ["strict"], StrictGroupPolicy, object()])
def test_other_python_types_are_type_errors(other):
    with pytest.raises(TypeError):
        resolve_group_policy(other)
    with pytest.raises(TypeError):
        canonicalize_group_policy(other)


def test_a_registered_policy_is_found_by_its_name(monkeypatch):
    monkeypatch.setitem(POLICY_REGISTRY, "anything_goes", AnythingGoes)
    assert isinstance(resolve_group_policy("anything_goes"), AnythingGoes)


def test_a_policy_of_ones_own_may_sort_results_by_how_they_ended():
    results = {
        "b": TaskResult("b", False, error=ValueError("bad")),
        "a": TaskResult("a", True),
        "c": TaskResult("c", False, error_message="lost"),
    }
    partition = GroupExecutionPolicy._partition_group_results(results)
    assert partition == (["a"], [("b", "bad"), ("c", "lost")])
