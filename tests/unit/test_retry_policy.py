from __future__ import annotations

import pickle
import re
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graflow.core.retry import RetryController, RetryPolicy
from graflow.exceptions import ConfigError, RetryLimitExceededError


def test_delays_grow_by_the_factor_up_to_the_maximum():
    policy = RetryPolicy(max_retries=5, initial_interval=1.0, backoff_factor=3.0, max_interval=20.0)
    assert [policy.get_delay(n) for n in range(5)] == [1.0, 3.0, 9.0, 20.0, 20.0]


def test_the_default_policy_never_retries_and_would_double_from_one_second_to_a_minute():
    policy = RetryPolicy()
    assert policy == RetryPolicy(0, 1.0, 2.0, 60.0, False)
    assert policy.get_delay(0) == 1.0
    assert policy.get_delay(100_000) == 60.0


@given(retry=st.integers(0, 2000), maximum=st.floats(0, 1e6), factor=st.floats(0, 1e3), initial=st.floats(0, 1e6))
def test_jitter_stays_within_half_and_one_and_a_half_and_below_the_maximum(retry, maximum, factor, initial):
    plain = RetryPolicy(1, initial, factor, maximum)
    delay = RetryPolicy(1, initial, factor, maximum, jitter=True).get_delay(retry)
    base = plain.get_delay(retry)
    assert base * 0.5 <= delay <= min(base * 1.5, maximum)


def test_jitter_varies():
    policy = RetryPolicy(initial_interval=10.0, jitter=True)
    assert len({policy.get_delay(0) for _ in range(20)}) > 1


@pytest.mark.parametrize("field", ["max_retries", "initial_interval", "backoff_factor", "max_interval"])
def test_negative_settings_are_refused(field):
    with pytest.raises(ValueError, match=field):
        RetryPolicy(**{field: -1})


def test_a_budget_is_used_up_by_counting():
    controller = RetryController(default_max_retries=2)
    assert controller.accept_retry("t") is True
    assert controller.increment("t") == 1
    controller.check_retry_limit("t")
    assert controller.increment("t") == 2
    assert controller.accept_retry("t") is False
    assert controller.get_retry_count("t") == 2


def test_the_limit_error_carries_the_last_error():
    controller, error = RetryController(default_max_retries=1), ValueError("last")
    controller.increment("t", error)
    with pytest.raises(RetryLimitExceededError) as caught:
        controller.check_retry_limit("t")
    assert (caught.value.task_id, caught.value.retry_count, caught.value.max_retries) == ("t", 1, 1)
    assert caught.value.last_error is error


def test_a_budget_of_zero_is_used_up_from_the_start():
    with pytest.raises(RetryLimitExceededError) as caught:
        RetryController().check_retry_limit("t")
    assert (caught.value.retry_count, caught.value.max_retries, caught.value.last_error) == (0, 0, None)


def test_counting_without_an_error_keeps_the_earlier_one():
    controller, error = RetryController(), ValueError("first")
    assert controller.get_last_error("t") is None
    controller.increment("t", error)
    controller.increment("t")
    assert controller.get_last_error("t") is error


def test_a_task_limit_beats_the_default_and_a_policy_brings_its_own():
    controller, policy = RetryController(default_max_retries=1), RetryPolicy(max_retries=4)
    assert controller.get_max_retries_for_node("t") == 1
    controller.set_node_max_retries("t", 2)
    assert controller.get_max_retries_for_node("t") == 2
    assert controller.get_policy_for_node("t") is None
    controller.set_node_policy("t", policy)
    assert controller.get_policy_for_node("t") is policy
    assert controller.get_max_retries_for_node("t") == 4


def test_waiting_follows_the_policy_of_the_task():
    controller = RetryController(default_max_retries=3)
    assert controller.get_delay("t") == 0.0
    controller.set_node_policy("t", RetryPolicy(max_retries=3, initial_interval=0.5))
    delays = [controller.get_delay("t")]
    for _ in range(3):
        controller.increment("t")
        delays.append(controller.get_delay("t"))
    assert delays == [0.5, 0.5, 1.0, 2.0]


def test_a_reset_gives_the_full_budget_of_the_same_limits():
    controller = RetryController()
    controller.set_node_max_retries("t", 1)
    controller.increment("t", ValueError())
    controller.reset("t")
    assert controller.accept_retry("t") is True
    assert controller.get_last_error("t") is None


def test_a_controller_survives_pickling_with_limits_policies_and_counts():
    controller = RetryController(default_max_retries=1)
    controller.set_node_policy("t", RetryPolicy(max_retries=2))
    controller.increment("t")
    again = pickle.loads(pickle.dumps(controller))
    assert vars(again) == vars(controller)


class TwoPartError(Exception):
    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")


def test_the_last_error_survives_pickling_at_least_as_a_description():
    controller = RetryController()
    controller.increment("plain", ValueError("boom"))
    controller.increment("picky", TwoPartError("this", "that"))
    again = pickle.loads(pickle.dumps(controller))
    assert isinstance(again.get_last_error("plain"), ValueError)
    assert "this and that" in str(again.get_last_error("picky"))
    assert isinstance(controller.get_last_error("picky"), TwoPartError)


@pytest.mark.parametrize(
    "options",
    [
        {"max_retries": "3"},
        {"max_retries": True},
        {"max_retries": 1.5},
        {"initial_interval": None},
        {"backoff_factor": "2"},
        {"max_interval": float("inf")},
        {"max_interval": float("nan")},
        {"jitter": "yes"},
        {"retry_on": "ConnectionError"},
        {"retry_on": ()},
        {"give_up_on": int},
        {"give_up_on": (ValueError, "KeyError")},
    ],
    ids=str,
)
def test_a_setting_of_a_wrong_kind_is_refused_by_name(options):
    ((name, value),) = options.items()
    with pytest.raises(ConfigError, match=f"RetryPolicy.{name} must be .*{re.escape(repr(value))}"):
        RetryPolicy(**options)


@pytest.mark.parametrize(
    ("options", "accepted", "refused"),
    [
        ({}, [ValueError(), ConnectionError()], []),
        ({"retry_on": ConnectionError}, [ConnectionError(), ConnectionResetError()], [ValueError()]),
        ({"retry_on": (ConnectionError, TimeoutError)}, [TimeoutError()], [OSError()]),
        ({"give_up_on": ValueError}, [KeyError()], [ValueError(), UnicodeError()]),
        ({"retry_on": OSError, "give_up_on": FileNotFoundError}, [OSError()], [FileNotFoundError(), ValueError()]),
        ({"retry_on": lambda error: "again" in str(error)}, [ValueError("again")], [ValueError("never")]),
    ],
)
def test_a_policy_says_which_errors_are_worth_a_retry(options, accepted, refused):
    policy = RetryPolicy(max_retries=1, **options)
    assert [error for error in accepted if not policy.accepts(error)] == []
    assert [error for error in refused if policy.accepts(error)] == []


@pytest.mark.parametrize(
    ("wanted", "delay"), [(7, 7.0), (0, 0.0), (timedelta(seconds=2), 2.0), (-1, 5.0), ("soon", 5.0), (None, 5.0)]
)
def test_an_error_may_say_when_a_retry_makes_sense(wanted, delay):
    controller = RetryController()
    controller.set_node_policy("t", RetryPolicy(max_retries=3, initial_interval=5.0))
    error = ConnectionError("busy")
    error.retry_in = wanted
    controller.increment("t", error)
    assert controller.get_delay("t") == delay
