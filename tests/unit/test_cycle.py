from __future__ import annotations

import pickle

import pytest

from graflow.core.cycle import CycleController
from graflow.exceptions import CycleLimitExceededError


def test_counts_start_at_zero_and_rise_without_ever_raising():
    controller = CycleController(default_max_cycles=2)
    assert controller.get_cycle_count("t") == 0
    assert [controller.increment("t") for _ in range(4)] == [1, 2, 3, 4]
    assert controller.get_cycle_count("t") == 4
    assert controller.get_cycle_count("other") == 0


def test_the_default_limit_is_a_hundred_and_a_task_limit_beats_it():
    controller = CycleController()
    assert controller.get_max_cycles_for_node("t") == 100
    controller.set_node_max_cycles("t", 3)
    assert controller.get_max_cycles_for_node("t") == 3
    assert controller.get_max_cycles_for_node("other") == 100


def test_cycles_are_accepted_below_the_limit_only():
    controller = CycleController(default_max_cycles=1)
    assert controller.accept_next_cycle("t") is True
    controller.check_cycle_limit("t")
    controller.increment("t")
    assert controller.accept_next_cycle("t") is False
    with pytest.raises(CycleLimitExceededError) as caught:
        controller.check_cycle_limit("t")
    assert (caught.value.task_id, caught.value.cycle_count, caught.value.max_cycles) == ("t", 1, 1)


def test_the_counts_are_a_plain_dict_that_may_be_written():
    controller = CycleController(default_max_cycles=5)
    controller.cycle_counts["t"] = 5
    assert type(controller.cycle_counts) is dict
    assert controller.accept_next_cycle("t") is False


def test_a_controller_survives_pickling_with_limits_and_counts():
    controller = CycleController(default_max_cycles=7)
    controller.set_node_max_cycles("t", 2)
    controller.increment("t")
    again = pickle.loads(pickle.dumps(controller))
    assert vars(again) == vars(controller)
