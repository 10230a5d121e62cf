"""How long members take, as far as earlier ones tell."""

from __future__ import annotations

import math
from operator import add

from graflow import task
from graflow.core.task import Task
from graflow_celery.broker.messages import FEW
from graflow_celery.broker.paces import Paces, kind_of


def test_a_group_is_brief_when_its_members_were() -> None:
    paces = Paces()
    assert not paces.is_brief("quick", 2)
    paces.note("quick", [0.0001, 0.0003])
    assert paces.is_brief("quick", 2)
    assert not paces.is_brief("quick", 20)
    assert not paces.is_brief("another", 2)
    paces.note("quicker still", [1e-9])
    assert not paces.is_brief("quicker still", FEW + 1)


def test_what_came_last_counts_half() -> None:
    paces = Paces()
    paces.note("task", [0.0001])
    paces.note("task", [1.0])
    assert not paces.is_brief("task", 2)
    for _ in range(20):
        paces.note("task", [0.0001])
    assert paces.is_brief("task", 2)


def test_members_that_never_ended_by_themselves_tell_nothing() -> None:
    paces = Paces()
    paces.note("lost", [0.0, -1.0, math.nan])
    paces.note("", [0.0001])
    assert not paces.is_brief("lost", 1)
    assert not paces.is_brief("", 1)


def test_members_are_of_one_kind_when_all_run_one_function() -> None:
    adding, other = task("adding")(add), task("other")(max)
    group = adding.map(range(3))
    assert kind_of(group.tasks) == "_operator:add"
    assert kind_of([*group.tasks, other]) == ""
    assert kind_of([Task("nothing")]) == kind_of([]) == ""
