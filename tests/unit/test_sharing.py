"""What tasks share: results that can be read more than once, and writes of members that are private."""

from __future__ import annotations

import io
import itertools
import threading
from dataclasses import dataclass, field
from unittest.mock import MagicMock

import pytest

from graflow import exceptions, task, workflow
from graflow.channels.branch import BranchChannel
from graflow.channels.memory_channel import MemoryChannel
from graflow.core.checkpoint import CheckpointManager
from graflow.encoding.sharing import own_copy, require_repeatable


async def _async_items():
    yield 1


@pytest.mark.parametrize(
    "make", [lambda: (n for n in "ab"), lambda: iter("ab"), lambda: map(str, "ab"), itertools.count]
)
def test_an_iterator_for_several_readers_is_refused_where_it_is_given(make):
    with workflow("w") as wf:
        read = task("read")(lambda rows: next(iter(rows)))
        with pytest.raises(exceptions.ConfigError, match=r"initial_channel key 'rows' is a .* list\(\.\.\.\)"):
            wf.execute(initial_channel={"rows": make()})
        with pytest.raises(exceptions.ConfigError, match=r"'read': the bound argument 'rows' is a .* list\(\.\.\.\)"):
            read(task_id="bound", rows=make())
        assert list(wf.graph.nodes) == ["read"]
        assert wf.execute(initial_channel={"rows": io.StringIO("a handle")}) == "a handle"


@pytest.mark.parametrize("write", ["set", "append", "prepend"])
def test_a_key_that_is_no_text_is_refused_where_it_is_given(write):
    with workflow("w") as wf:
        task("give", inject_context=True)(lambda context: getattr(context.get_channel(), write)(1, 2))
        with pytest.raises(TypeError, match="The key of a channel is text, not 1"):
            wf.execute()
        with pytest.raises(exceptions.ConfigError, match="The keys of initial_channel are text, not 1"):
            wf.execute(initial_channel={1: 2})


@pytest.mark.parametrize("write", ["set", "append", "prepend"])
def test_an_iterator_for_several_readers_is_refused_where_a_task_writes_it(write):
    with workflow("w") as wf:

        @task(inject_context=True)
        def give(context):
            getattr(context.get_channel(), write)("rows", (n for n in "ab"))

    with pytest.raises(exceptions.ConfigError, match=r"channel key 'rows' is a generator, .* list\(\.\.\.\)"):
        wf.execute()
    assert not wf.last_context.channel.exists("rows")


@pytest.mark.parametrize(
    "value",
    [
        (n for n in range(3)),
        iter([1]),
        map(str, [1]),
        zip([1], [2], strict=True),
        enumerate([1]),
        io.StringIO("a\nb"),
        _async_items(),
        ("header", iter([1])),
        {"rows": (n for n in range(3))},
        [[1], iter([])],
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_result_that_can_be_read_only_once_is_refused_with_the_remedy(value):
    with workflow("w") as wf:

        @task
        def rows():
            return value

        @task(max_retries=1)
        def load(rows):
            pytest.fail("it was handed on")

        rows >> load
        with pytest.raises(exceptions.GraflowError) as caught:
            wf.execute()
    text = str(caught.value)
    assert "'rows' returned a" in text
    assert "only once" in text
    assert "list(...)" in text


@pytest.mark.parametrize(
    "value", [[1], range(3), {"a": 1}.keys(), "text", {1: [2]}, None, (1, (2,)), MagicMock(), [MagicMock()]]
)
def test_what_can_be_read_again_is_no_iterator(value):
    require_repeatable("t", value)


def test_a_generator_of_a_member_is_refused_for_that_member_alone():
    with workflow("w") as wf:

        @task
        def start():
            return 1

        @task
        def numbers(n):
            return (i for i in range(n)) if n else [0]

        start >> numbers.map([0, 1])
        with pytest.raises(exceptions.ParallelGroupError, match=r"'numbers\[1\]'.*generator") as caught:
            wf.execute()
    assert caught.value.successful_tasks == ["numbers[0]"]


@dataclass
class State:
    seen: list[int] = field(default_factory=list)


@pytest.mark.parametrize("shared", [[1], {"a": [1]}, State([1])], ids=lambda value: type(value).__name__)
def test_a_member_changes_its_own_copy_until_it_has_succeeded(shared):
    parent = MemoryChannel("c")
    parent.set("k", shared)
    before = repr(shared)
    member = BranchChannel(parent)
    mine = member.get("k")
    (mine.seen if isinstance(mine, State) else mine if isinstance(mine, list) else mine["a"]).append(2)
    assert repr(parent.get("k")) == before
    assert repr(member.get("k")) == before
    member.set("k", mine)
    (mine.seen if isinstance(mine, State) else mine if isinstance(mine, list) else mine["a"]).append(3)
    (write,) = member.writes()
    assert "2" in repr(write.value)
    assert "3" not in repr(write.value)
    assert repr(parent.get("k")) == before


def test_what_cannot_travel_as_data_is_shared():
    lock = threading.Lock()
    member = BranchChannel(MemoryChannel("c"))
    member.set("k", lock)
    assert member.get("k") is lock
    assert own_copy(object) is object


def test_an_argument_is_the_result_itself():
    made = [1]
    with workflow("w") as wf:

        @task
        def load():
            return made

        @task
        def first(load):
            return load is made

        @task
        def second(load):
            return load is made

        load >> (first | second)
        wf.execute()
    _, context = wf.execute(ret_context=True)
    assert (context.get_result("first"), context.get_result("second")) == (True, True)


def test_a_run_that_cannot_be_saved_names_the_result_and_the_place_in_it(tmp_path):
    with workflow("w") as wf:

        @task
        def connect():
            return {"pool": [threading.Lock()]}

        _, context = wf.execute(ret_context=True)
    for save in (context.save, lambda path: CheckpointManager.create_checkpoint(context, path=path)):
        with pytest.raises(TypeError, match=r"result of task 'connect', \['pool'\]\[0\] is a lock: "):
            save(tmp_path / "c")
    assert list(tmp_path.glob("*.pkl")) == []


def test_a_run_that_cannot_be_saved_names_a_channel_key(tmp_path):
    with workflow("w") as wf:

        @task(inject_context=True)
        def put(context):
            context.get_channel().set("conn", threading.Lock())

        _, context = wf.execute(ret_context=True)
    with pytest.raises(TypeError, match="channel key 'conn' is a lock"):
        context.save(tmp_path / "c")


@pytest.mark.parametrize("in_a_group", [False, True])
def test_a_result_that_is_refused_is_not_tried_again(in_a_group):
    attempts = []

    def rows(x=0):
        attempts.append(x)
        return iter([x])

    with workflow("w") as wf:
        made = task(id="rows", max_retries=3)(rows)
        if in_a_group:
            made.map([1])
        with pytest.raises(exceptions.GraflowRuntimeError, match=r"Task 'rows.*' returned a list_iterator") as caught:
            wf.execute()
    assert len(attempts) == 1
    assert "Retry limit" not in str(caught.value)


def test_the_same_type_of_error_of_the_tasks_own_is_tried_again():
    attempts = []

    def rows():
        attempts.append(1)
        raise exceptions.PayloadError("not yet")

    with workflow("w") as wf:
        task(id="rows", max_retries=3)(rows)
        with pytest.raises(exceptions.RetryLimitExceededError):
            wf.execute()
    assert len(attempts) == 4
