"""Options are checked where they are written: at `@task`, at binding, at `with_execution`."""

from __future__ import annotations

import logging

import pytest

from graflow import RetryPolicy, task, workflow
from graflow.core.context import ExecutionContext
from graflow.core.graph import TaskGraph
from graflow.core.nodes.wrapper import TaskWrapper
from graflow.core.task import Task
from graflow.exceptions import ConfigError


def work(number=1, factor=2):
    return number * factor


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"id": 5}, "The id of a task must be text that is not empty, not 5"),
        ({"id": ""}, "The id of a task must be text that is not empty, not ''"),
        ({"id": "half\ud83d"}, r"The id of a task must be text that UTF-8 can hold, not 'half\ud83d'"),
        ({"inject_context": "no"}, "Task 'work': inject_context must be True or False, not 'no'"),
        ({"resolve_keyword_args": 0}, "Task 'work': resolve_keyword_args must be True or False, not 0"),
        ({"handler": 7}, "Task 'work': handler must be the name that the handler is registered under, not 7"),
        ({"max_retries": "3"}, "Task 'work': max_retries must be a whole number of at least 0, not '3'"),
        ({"max_retries": -1}, "Task 'work': max_retries must be a whole number of at least 0, not -1"),
        ({"max_cycles": 2.5}, "Task 'work': max_cycles must be a whole number of at least 0, not 2.5"),
        ({"max_cycles": True}, "Task 'work': max_cycles must be a whole number of at least 0, not True"),
        ({"retry_policy": 3}, "Task 'work': retry_policy must be a RetryPolicy, not 3"),
        (
            {"retry_on": KeyError, "retry_policy": RetryPolicy(3)},
            "Task 'work': retry_on and retry_policy exclude each other; give retry_on to RetryPolicy()",
        ),
        ({"give_up_on": KeyError}, "Task 'work': give_up_on does nothing without max_retries; give max_retries="),
        (
            {"max_retries": 1, "retry_on": "KeyError"},
            "Task 'work': retry_on must be an error type, a tuple of them, or a function of the error, not 'KeyError'",
        ),
        (
            {"cache": 1},
            (
                "Task 'work': cache must be True, or a function of the same arguments "
                "that gives what counts of them, not 1"
            ),
        ),
        ({"ttl": 60}, "Task 'work': ttl does nothing without a cache; give cache=True"),
        ({"cache": False, "ttl": 60}, "Task 'work': ttl does nothing without a cache; give cache=True"),
        ({"cache": True, "ttl": 0}, "Task 'work': ttl must be seconds above 0 and up to 3153600000, not 0"),
        ({"version": 1.5}, "Task 'work': version must be text or a whole number, not 1.5"),
    ],
)
def test_an_option_that_cannot_be_right_is_refused_before_the_task_is_made(options, text):
    with workflow("w") as wf:
        with pytest.raises(ConfigError) as refused:
            task(**options)(work)
        assert str(refused.value) == text
        assert list(wf.graph.nodes) == []


def test_two_ids_exclude_each_other():
    with pytest.raises(ConfigError, match="@task was given two ids, 'a' and 'b'; give one of them"):
        task("a", id="b")


def test_max_retries_counts_beside_a_policy_that_names_none():
    policy, tries = RetryPolicy(initial_interval=0.001), []
    with workflow("w") as wf:

        @task(max_retries=3, retry_policy=policy)
        def flaky():
            tries.append(1)
            if len(tries) < 3:
                raise ConnectionError
            return "ok"

        assert (flaky.retry_policy, flaky.max_retries, policy.max_retries) == (policy, 3, 0)
        assert wf.execute() == "ok"
    assert len(tries) == 3


def test_passes_of_a_loop_have_the_retries_of_their_task_beside_a_policy_that_names_none():
    tries = []
    with workflow("w") as wf:

        @task(inject_context=True, max_retries=2, retry_policy=RetryPolicy(initial_interval=0.001))
        def looping(context, data=None):
            tries.append(data)
            if data is None:
                context.next_iteration("again")
            elif len(tries) < 4:
                raise ConnectionError
            return len(tries)

        assert wf.execute() == 4
    assert tries == [None, "again", "again", "again"]


def test_a_number_that_the_policy_overrules_is_said(caplog):
    with caplog.at_level(logging.WARNING):
        made = task(max_retries=1, retry_policy=RetryPolicy(max_retries=4))(work)
    assert made.max_retries == 4
    assert caplog.messages == [
        "Task 'work': max_retries=1 does nothing beside a retry_policy with max_retries=4, which counts"
    ]


@pytest.mark.parametrize(
    ("options", "error", "tries"),
    [
        ({"retry_on": ConnectionError}, ConnectionError, 3),
        ({"retry_on": (KeyError, OSError)}, ConnectionError, 3),
        ({"retry_on": ConnectionError}, ValueError, 1),
        ({"give_up_on": lambda error: "x" in str(error)}, ValueError, 1),
        ({"retry_on": Exception, "give_up_on": ValueError}, ValueError, 1),
    ],
)
def test_errors_that_are_worth_a_retry_are_chosen_at_the_task(options, error, tries):
    seen = []
    with workflow("w") as wf:

        @task(max_retries=2, **options)
        def flaky():
            seen.append(1)
            raise error("x")

        with pytest.raises(error):
            wf.execute()
    assert len(seen) == tries


# -- binding ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "bound", "text"),
    [
        (
            task(work),
            {"task_id": "x", "numbr": 3},
            (
                "Task 'work' has no parameter 'numbr', which is bound; did you mean 'number'? "
                "its parameters are number, factor"
            ),
        ),
        (task("none")(lambda: 0), {"zzz": 1}, "Task 'none' has no parameter 'zzz', which is bound; it has none"),
        (
            task("told", inject_context=True)(lambda context, a: a),
            {"context": 1},
            "Task 'told' has no parameter 'context', which is bound; its parameters are a",
        ),
    ],
)
def test_an_argument_that_the_function_does_not_take_is_refused_when_it_is_bound(made, bound, text):
    with workflow("w") as wf:
        with pytest.raises(TypeError) as refused:
            made(**bound)
        assert str(refused.value) == text
        assert list(wf.graph.nodes) == []


def test_an_id_that_is_no_text_is_refused_when_an_instance_is_made():
    with pytest.raises(ConfigError, match="The id of a task must be text that is not empty, not 7"):
        task(work)(task_id=7, number=1)


def test_a_parameter_called_task_id_gets_the_id_that_the_instance_is_made_with():
    @task
    def audit(task_id: str, level: int = 0):
        return task_id, level

    made = audit(task_id="order-7", level=2)
    assert (made.task_id, made.run()) == ("order-7", ("order-7", 2))
    assert audit.run(task_id="order-8") == ("order-8", 0)


# -- groups -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "error", "text"),
    [
        ({"backend": "thredding"}, ValueError, "Unknown coordination backend 'thredding'; known are redis, threading"),
        ({"backend": 7}, ValueError, "Unknown coordination backend 7"),
        ({"policy": "stict"}, ValueError, "Unknown group policy 'stict'; known: at_least_n, best_effort"),
        ({"policy": 2}, TypeError, "A group policy is a name, a mapping or a GroupExecutionPolicy, not int"),
        ({"backend_config": "redis://"}, ConfigError, "Settings come as a mapping, such as {'url': ...}, not as a str"),
        (
            {"backend_config": {"thread_count": "4"}},
            ConfigError,
            "thread_count must be a whole number above 0, not '4'",
        ),
        ({"backend_config": {"thread_count": 0}}, ConfigError, "thread_count must be a whole number above 0, not 0"),
        ({"backend_config": {"timeout": "5"}}, ConfigError, "timeout is a number of seconds, not '5'"),
    ],
)
def test_how_a_group_runs_is_checked_where_it_is_written_and_refused_as_a_whole(settings, error, text):
    with workflow("w"):
        group = Task("a") | Task("b")
        with pytest.raises(error) as refused:
            group.with_execution(**{"backend": "direct", "policy": "best_effort", **settings})
        assert text in str(refused.value)
        assert group._execution_config == {"backend": None, "backend_config": {}, "policy": "strict"}


# -- templates --------------------------------------------------------------------------------------------------------


def test_a_function_that_only_serves_to_make_instances_is_no_step():
    with workflow("w") as wf:
        template = task("copy")(lambda name: name)
        template(task_id="a", name="a") >> template(task_id="b", name="b")
        assert list(wf.graph.nodes) == ["copy", "a", "b"]
        assert wf.execute() == "b"


def test_a_function_that_is_connected_is_a_step_also_when_instances_are_made_of_it():
    with workflow("w") as wf:
        base = task("base")(lambda n=0: n)
        base >> base(task_id="other", n=5)
        assert wf.execute() == 5


def test_instances_in_another_workflow_make_no_template_here():
    base = TaskWrapper("base", lambda n=0: n, register_to_context=False)
    with workflow("one"):
        base(task_id="made", n=1)
    with workflow("two") as two:
        two.add_node("base", base)
        assert two.execute() == 0


# -- runs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"max_steps": "5"}, "max_steps must be a whole number of at least 0, not '5'"),
        ({"default_max_cycles": -1}, "default_max_cycles must be a whole number of at least 0, not -1"),
        ({"default_max_retries": 1.5}, "default_max_retries must be a whole number of at least 0, not 1.5"),
        ({"config": "redis://"}, "Settings come as a mapping, such as {'url': ...}, not as a str"),
    ],
)
def test_the_limits_of_a_run_are_checked_where_they_are_given(settings, text):
    with pytest.raises(ConfigError) as refused:
        ExecutionContext(TaskGraph(), **settings)
    assert str(refused.value) == text


def test_what_a_workflow_is_given_is_checked_before_anything_runs():
    ran = []
    with workflow("w") as wf:
        task("a")(lambda: ran.append(1))
        with pytest.raises(ConfigError, match="max_steps must be a whole number of at least 0, not '9'"):
            wf.execute(max_steps="9")
        with pytest.raises(ConfigError, match="initial_channel must be a mapping of keys to values, not 5"):
            wf.execute(initial_channel=5)
        with pytest.raises(ConfigError, match="takes a name and a TaskHandler, not 'x', 5"):
            wf.register_handler("x", 5)
    with pytest.raises(ConfigError, match="The name of a workflow must be text, not ' '"):
        workflow(" ")
    with pytest.raises(ConfigError, match="The name of a workflow must be text, not 5"):
        workflow(5)
    assert ran == []
