"""Members whose function is called before they have a branch: whatever it does, the outcome is that of a branch."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from dataclasses import replace

import pytest

from graflow import RetryPolicy, task
from graflow.channels.memory_channel import MemoryChannel
from graflow.codec import describe_error
from graflow.core.branches.outcome_data import outcome_to_data
from graflow.core.branches.surroundings import Surroundings
from graflow.core.building.entering import running_frame
from graflow.core.engine import WorkflowEngine
from graflow.core.remote.branch import RemoteBranch
from graflow.core.remote.late import LateCalls, plain_function


@task
def doubled(n):
    return 2 * n


@task(inject_context=True)
def looks(ctx):
    return [ctx.task_id, ctx.session_id, ctx.cycle_count, sorted(ctx.graph.nodes)]


@task(inject_context=True)
def writes(ctx, key, value):
    ctx.get_channel().set(key, value)


@task(inject_context=True)
def goes_on(ctx, n):
    ctx.next_task(doubled(task_id=f"more_{n}", n=n))


@task(inject_context=True)
def ends(ctx, how):
    getattr(ctx, f"{how}_workflow")("enough")


class StrangeError(Exception):
    def __str__(self):
        return "strange"


def gives(n):
    return n


def gives_a_list(n):
    return [n, {"n": (n, n)}]


def fails(n):
    raise ValueError(n)


def fails_with_a_cause(n):
    try:
        {}[n]
    except KeyError as error:
        raise StrangeError from error


def is_told_of_what_lacks(n, other):
    return n, other


def calls_a_task(n):
    return doubled(n=n)


def calls_a_task_that_fails(n):
    return task(fails)(n=n)


def asks_for_the_context(n):
    return looks()


def writes_to_the_channel(n):
    writes(key="k", value=n)
    return n


def adds_a_task(n):
    goes_on(n=n)
    return n


def terminates(n):
    ends(how="terminate")
    return n


def cancels(n):
    ends(how="cancel")
    return n


def runs_a_group(n):
    return doubled.map(range(n)).run()


def makes_a_group(n):
    return len((doubled(task_id="x", n=1) | doubled(task_id="y", n=2)).tasks)


def gives_a_coroutine(n):
    async def later():
        await asyncio.sleep(0)
        return n

    return later()


def asks_on_a_thread(n):
    found, context = [], contextvars.copy_context()
    thread = threading.Thread(target=lambda: context.run(lambda: found.append(doubled(n=n))))
    thread.start()
    thread.join()
    return found


def fails_after_adding(n):
    goes_on(n=n)
    raise ValueError(n)


KINDS = [
    gives,
    gives_a_list,
    fails,
    fails_with_a_cause,
    is_told_of_what_lacks,
    calls_a_task,
    calls_a_task_that_fails,
    asks_for_the_context,
    writes_to_the_channel,
    adds_a_task,
    terminates,
    cancels,
    runs_a_group,
    makes_a_group,
    gives_a_coroutine,
    asks_on_a_thread,
    fails_after_adding,
]


@pytest.fixture
def engine():
    with WorkflowEngine().event_loop as _:
        made = WorkflowEngine()
        yield made
        made.close()


def branch_of(template, n, engine, **around):
    member = template.instance("g[3]", {"n": n})
    surroundings = Surroundings("g", "session", "trace", **around)
    return RemoteBranch(member, {}, [], surroundings, channel=MemoryChannel("shared"), engine=engine)


def called_late(template, n, engine, **around):
    """As a worker does it; returns the outcome, or the bare value where nothing asked for the branch."""
    call = plain_function(template, {"n": n}, empty_channel=True)
    with LateCalls() as calls:
        late = calls.next(lambda _, given: branch_of(template, given["n"], engine, **around), 3, {"n": n})
        try:
            value = call({"n": n})
        except Exception as error:
            return late.outcome(error=error)
        return value if late.is_plain and not asyncio.iscoroutine(value) else late.outcome(value)


def as_data(outcome):
    return outcome_to_data(replace(outcome, duration=0.0, timestamp=0.0))


@pytest.mark.parametrize("func", KINDS)
def test_what_comes_of_it_is_what_comes_of_a_branch(func, engine):
    template = task(func)
    expected = branch_of(template, 2, engine).run()
    found = called_late(template, 2, engine)
    if func in (gives, gives_a_list):
        assert found == expected.value
    else:
        assert as_data(found) == as_data(expected)
    assert running_frame.get() is None


def test_a_failure_is_tried_again_in_its_branch(engine):
    tries = []

    @task(retry_policy=RetryPolicy(max_retries=2, initial_interval=0.0))
    def flaky(n):
        tries.append(n)
        if len(tries) < 3:
            raise ValueError(n)
        return n

    outcome = called_late(flaky, 7, engine)
    assert (outcome.value, outcome.retry_counts, len(tries)) == (7, {"g[3]": 2}, 3)


def test_the_traceback_begins_in_the_function(engine):
    outcome = called_late(task(fails), 1, engine)
    assert describe_error(outcome.error).traceback.count('File "') == 1


@task
def with_another(n, other=1):
    return n + other


@pytest.mark.parametrize(
    ("template", "is_plain"),
    [
        (doubled, True),
        (with_another, True),
        (looks, False),
        (task(timeout=1.0)(gives), False),
        (task(handler="own")(gives), False),
        (task(max_cycles=3)(gives), False),
        (task(gives_a_coroutine), True),
    ],
)
def test_which_functions_are_called_at_once(template, is_plain):
    assert (plain_function(template, {"n": 1}, empty_channel=True) is not None) is is_plain


def test_a_channel_that_may_fill_a_parameter_needs_the_branch():
    assert plain_function(with_another, {"n": 1}, empty_channel=False) is None
    assert plain_function(with_another, {"n": 1, "other": 2}, empty_channel=False) is not None
