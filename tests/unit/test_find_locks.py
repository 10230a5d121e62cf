from __future__ import annotations

import logging
import pickle
import threading
from collections import deque
from types import MappingProxyType

import pytest
import redis

from graflow.core.graph import TaskGraph
from graflow.core.nodes.wrapper import TaskWrapper
from graflow.core.task import Task
from graflow.debug.find_locks import debug_taskgraph_for_locks, find_thread_locks, find_unpicklable_objects

GLOBAL_LOCK = threading.Lock()
log = logging.getLogger(__name__)


class Holder:
    def __init__(self, **fields):
        self.__dict__.update(fields)


class Slotted:
    __slots__ = ("empty", "lock")

    def __init__(self, lock):
        self.lock = lock


class Cleaned:
    """Leaves its lock behind when pickled."""

    def __init__(self):
        self.lock = threading.Lock()
        self.data = [1]

    def __getstate__(self):
        return {"data": self.data}


class Broken:
    """Cannot even say what its state is."""

    def __init__(self):
        self.lock = threading.Lock()

    def __getstate__(self):
        raise RuntimeError("no state")


def _paths(root, **options):
    return [path for path, _ in find_thread_locks(root, **options)]


@pytest.mark.parametrize(
    "lock",
    [
        threading.Lock(),
        threading.RLock(),
        threading.Condition(),
        threading.Event(),
        threading.Semaphore(),
        threading.Barrier(1),
    ],
    ids=lambda lock: type(lock).__name__,
)
def test_every_kind_of_lock_is_found_once(lock):
    assert find_thread_locks(lock) == [("root", lock)]
    assert find_thread_locks({"a": [lock]}) == [("root['a'][0]", lock)]


def test_the_path_leads_to_the_lock():
    lock = threading.Lock()
    root = Holder(table={"k": (1, [Holder(inner=lock)])})
    path, found = find_thread_locks(root)[0]
    assert path == "root.table['k'][1][0].inner"
    assert eval(path, {"root": root}) is found is lock


def test_containers_of_all_kinds_are_walked():
    lock = threading.Lock()
    for container in (
        [lock],
        (lock,),
        {lock},
        frozenset({lock}),
        deque([lock]),
        {"k": lock},
        MappingProxyType({"k": lock}),
    ):
        assert [found for _, found in find_thread_locks(container)] == [lock]
    assert _paths({(1, lock): 2}) == ["root.keys()[" + repr((1, lock)) + "][1]"]


def test_slots_closures_defaults_and_methods_are_walked():
    lock = threading.Lock()

    def closing():
        return lock

    def defaults(x=lock, *, y=lock):
        return x, y

    assert _paths(Slotted(lock)) == ["root.lock"]
    assert _paths(closing) == ["root.<closure lock>"]
    assert _paths(defaults) == ["root.__defaults__[0]"]
    assert _paths(Holder(lock=lock).__init__) == ["root.__self__.lock"]


def test_globals_that_a_function_refers_to_are_walked():
    def direct():
        return GLOBAL_LOCK

    def nested():
        return [GLOBAL_LOCK for _ in range(3)]

    def clean():
        log.info("a logger is pickled by its name")
        return threading, Holder

    assert _paths(direct) == ["root.<global GLOBAL_LOCK>"]
    assert _paths(nested) == ["root.<global GLOBAL_LOCK>"]
    assert _paths(clean) == []


def test_an_unfilled_closure_is_no_problem():
    def outer():
        def inner():
            return later

        assert find_thread_locks(inner) == []
        later = 1
        return later

    outer()


def test_what_an_object_leaves_behind_when_pickled_is_not_reported():
    assert find_thread_locks(Cleaned()) == []
    assert _paths(Broken()) == ["root.lock"]


def test_cycles_and_wide_structures_end():
    loop: list[object] = []
    loop.append(loop)
    loop.append({"back": loop, "lock": threading.Lock()})
    assert _paths(loop) == ["root[1]['lock']"]
    assert find_thread_locks([list(range(1000)) for _ in range(1000)]) == []


def test_the_depth_is_bounded():
    root: object = threading.Lock()
    for _ in range(5):
        root = [root]
    assert _paths(root) == ["root[0][0][0][0][0]"]
    assert _paths(root, max_depth=4) == []


def test_a_mapping_that_fails_is_passed_over():
    class Failing(dict):
        def items(self):
            raise RuntimeError("no")

    assert find_thread_locks([Failing(), threading.Lock()])[0][0] == "root[1]"


def test_the_locks_of_a_live_client_in_a_graph_are_found_with_their_paths():
    graph = TaskGraph()
    task = Task("g", register_to_context=False)
    task.config = {"redis_client": redis.Redis()}
    graph.add_node(task, "g")
    paths = _paths(graph, max_depth=12)
    assert any(
        path.startswith("root._graph._node['g']['task'].config['redis_client'].connection_pool") for path in paths
    )


def test_a_clean_graph_yields_nothing():
    def work(x=1):
        log.info("working")
        return x

    graph = TaskGraph()
    for task in (Task("a", register_to_context=False), TaskWrapper("b", work, register_to_context=False)):
        graph.add_node(task, task.task_id)
    graph.add_edge("a", "b")
    assert find_thread_locks(graph, max_depth=20) == []
    assert find_unpicklable_objects(graph) == []


def test_objects_that_cannot_be_pickled_are_found_innermost_first_with_a_reason():
    gen = (item for item in [1])
    lock = threading.Lock()
    root = Holder(good=[1, lambda: 2], bad={"generator": gen, "more": (lock,)})
    found = find_unpicklable_objects(root)
    assert [(path, value) for path, value, _ in found] == [
        ("root.bad['generator']", gen),
        ("root.bad['more'][0]", lock),
    ]
    assert all("cannot pickle" in reason for *_, reason in found)


def test_an_object_whose_own_pickling_fails_is_the_reason_itself():
    class Refusing:
        def __reduce__(self):
            raise pickle.PicklingError("not me")

    root = [Refusing()]
    assert [(path, reason) for path, _, reason in find_unpicklable_objects(root)] == [
        ("root[0]", "PicklingError: not me")
    ]
    assert find_unpicklable_objects(root, max_depth=0)[0][0] == "root"


def test_what_hinders_a_graph_is_logged(caplog):
    graph = TaskGraph()
    task = Task("a", register_to_context=False)
    task.lock = threading.Lock()
    task.rows = (row for row in [1])
    graph.add_node(task, "a")
    with caplog.at_level(logging.INFO, logger="graflow.debug.find_locks"):
        debug_taskgraph_for_locks(graph)
    assert "root._graph._node['a']['task'].lock" in caplog.text
    assert "root._graph._node['a']['task'].rows" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="graflow.debug.find_locks"):
        debug_taskgraph_for_locks(TaskGraph())
    assert "No lock" in caplog.text
