"""Members that came in columns leave a run in the very state that they leave it in when they come one by one."""

from __future__ import annotations

import pickle

import pytest

from graflow import ExecutionContext, task, workflow
from graflow.core.branches.given import Given, given_outcome, in_order
from graflow.core.branches.outcome import BranchOutcome
from graflow.core.handlers.group_policy import StrictGroupPolicy
from graflow.trace.base import Tracer
from graflow.trace.notify import tell, tell_members

N = 7


@task
def number(item: int) -> int:
    return item


def row_of(group, first, values):
    ids = group.member_ids[first : first + len(values)]
    return Given(first, ids, values, 1_000.0, [10 + first] * len(values), [100 * (first + 1)] * len(values))


def opened(tracer=None):
    with workflow("rows") as wf:
        group = number.map(range(N), name="numbers")
        group.register_in(wf.graph)
        context = ExecutionContext.create(wf.graph, "numbers", tracer=tracer)
    return group, context, context.open_group("numbers", group.members)


def deliver(run, context, rows, *, one_by_one):
    for row in rows:
        if not one_by_one:
            assert run.record_row(row)
            tell_members(context.tracer, run.group_id, row.ids, context)
            continue
        for index, outcome in row.outcomes():
            run.record(index, outcome, "worker", 1)
            tell(context.tracer.on_member_end, run.group_id, outcome.task_id, context, ran={outcome.task_id: True})


def state_of(context):
    ledger, channel, graph = context.ledger, context.channel, context.tracer.get_runtime_graph()
    keys = channel.keys()
    return {
        "values": {key: channel.get(key) for key in keys},
        "completed": list(ledger.completed),
        "steps": ledger.steps,
        "repeats": ledger.repeats,
        "counts": dict(ledger.cycles.cycle_counts),
        "failed": set(ledger.failed),
        "visits": context.groups.visits_of("numbers"),
        "finished": dict(context.groups.finished),
        "order": context.tracer.get_execution_order(),
        "nodes": {
            name: (told["status"], told["executions"], told["metadata"]) for name, told in graph.nodes(data=True)
        },
        "edges": sorted(graph.edges(data="relation")),
    }


@pytest.mark.parametrize(
    "values",
    [
        [0, 1, 2, 3, 4, 5, 6],
        ["a", None, True, 2.5, "", -1, 0],
        [[1], {"a": 2}, (3,), b"4", None, 5, ValueError("returned")],
    ],
    ids=["ints", "scalars", "any"],
)
@pytest.mark.parametrize("order", [(0, 3, 5), (5, 0, 3)], ids=["in-order", "out-of-order"])
def test_a_run_is_in_the_same_state_whether_members_came_in_columns_or_one_by_one(values, order):
    states = []
    for one_by_one in (False, True):
        group, context, run = opened()
        ends = {0: 3, 3: 5, 5: N}
        rows = [row_of(group, first, values[first : ends[first]]) for first in order]
        deliver(run, context, rows, one_by_one=one_by_one)
        assert run.pending() == [] if one_by_one else run.finished_count() == N
        run.close(StrictGroupPolicy())
        assert group.values_in(context) == values
        states.append(state_of(context))
    columns, single = states
    assert columns == single
    assert columns["steps"] == N


def test_listeners_and_policies_of_users_hear_of_each_member():
    heard, judged = [], []

    class Listener(Tracer):
        def on_member_end(self, group_id, member_id, context, error=None, ran=None):
            heard.append((group_id, member_id, error, ran))

        def on_parallel_group_end(self, group_id, member_ids, context, results=None):
            heard.append([result.success for result in results.values()])

    class Mine(StrictGroupPolicy):
        def on_group_finished(self, group_id, tasks, results, context):
            judged.extend((result.task_id, result.duration, result.timestamp) for result in results.values())

    group, context, run = opened(Listener())
    deliver(run, context, [row_of(group, 0, list(range(N)))], one_by_one=False)
    run.close(Mine())

    ids = [f"numbers[{index}]" for index in range(N)]
    assert heard == [*(("numbers", name, None, {name: True}) for name in ids), [True] * N]
    assert judged == [(name, 10 / 1e6, 1_000.0001) for name in ids]


@pytest.mark.parametrize("before", [0, 1, 2], ids=["comes first", "comes between", "comes last"])
def test_a_member_that_came_to_something_else_leaves_the_others_as_they_came(before):
    group, context, run = opened()
    rows = [row_of(group, 0, [0, 1, 2]), row_of(group, 4, [4, 5, 6])]
    deliver(run, context, rows[:before], one_by_one=False)
    run.record(3, BranchOutcome("numbers[3]", success=False, error=ValueError("odd"), results=[]))
    deliver(run, context, rows[before:], one_by_one=False)
    assert run.finished_count() == N
    assert run.pending() == []
    assert not run.record_row(row_of(group, 0, [7, 7, 7]))  # it is known what came of them

    with pytest.raises(Exception, match="1 of 7 tasks failed") as refused:
        run.close(StrictGroupPolicy())
    assert refused.value.successful_tasks == [f"numbers[{index}]" for index in (0, 1, 2, 4, 5, 6)]
    assert [context.get_result(name) for name in refused.value.successful_tasks] == [0, 1, 2, 4, 5, 6]


def test_a_run_that_is_saved_meanwhile_keeps_what_came_in_columns():
    group, context, run = opened()
    deliver(run, context, [row_of(group, 2, [2, 3])], one_by_one=False)
    assert context.groups.succeeded() == {run.run_key: ["numbers[2]", "numbers[3]"]}
    deliver(run, context, [row_of(group, 4, [4])], one_by_one=True)

    kept = pickle.loads(pickle.dumps(context.groups)).finished[run.run_key]
    assert {index: outcome.value for index, outcome in kept.items()} == {2: 2, 3: 3, 4: 4}


def test_what_was_given_up_takes_nothing_in_any_more():
    group, _, run = opened()
    run.abandon()
    assert run.record_row(row_of(group, 0, [0, 1]))
    assert run.finished == {}


def test_rows_are_whole_when_each_member_is_in_one_of_them():
    def row(first, count):
        return Given(first, ["x"] * count, [0] * count, 0.0, [0] * count, [0] * count)

    early, late = row(0, 2), row(2, 3)
    assert in_order([late, early], 5) == [early, late]
    assert in_order([early, late], 6) == []  # the last one lacks
    assert in_order([early, row(3, 2)], 5) == []  # one between lacks
    assert in_order([early, row(1, 3)], 5) == []  # one came twice
    assert in_order([early, row(0, 2), late], 5) == []
    assert in_order([], 0) == []


def test_the_outcome_of_a_member_in_a_row_is_that_of_one_that_came_alone():
    row = Given(4, ["g[4]", "g[5]"], ["a", [1]], 12.25, [1_500, 2], [0, 3])
    assert list(row.outcomes()) == [
        (4, given_outcome("g[4]", "a", 0.0015, 12.25)),
        (5, given_outcome("g[5]", [1], 2e-6, 12.250003)),
    ]


def test_a_group_whose_members_came_in_columns_has_made_none_of_them():
    group, context, run = opened()
    assert run.columns is group.members
    deliver(run, context, [row_of(group, 0, list(range(N)))], one_by_one=False)
    run.close(StrictGroupPolicy())
    assert group.values_in(context) == list(range(N))
    assert context.graph.is_folded("numbers")
    group.members.sample().template = None  # a sample is none of the members
    assert group.members._made is None
    assert [member.template for member in group.tasks] == [number.template] * N
