"""Any workflow of tasks, chains and nested groups runs each task once, after everything before it."""

import contextlib
import importlib
import random
import threading

from hypothesis import given, settings
from hypothesis import strategies as st

from graflow import chain, parallel, task, workflow
from graflow.core.checkpoint import CheckpointManager
from graflow.core.context import ExecutionContext
from graflow.core.engine import WorkflowEngine

leaf = st.just("leaf")
expressions = st.recursive(
    leaf,
    lambda inner: st.one_of(
        st.tuples(st.just("chain"), st.lists(inner, min_size=1, max_size=4)),
        st.tuples(st.just("group"), st.lists(inner, min_size=2, max_size=4)),
    ),
    max_leaves=14,
)


class Build:
    """Builds a workflow from an expression and remembers what has to run before what."""

    def __init__(self, backend):
        self.backend = backend
        self.before = {}
        self.order = []
        self.lock = threading.Lock()

    def leaf(self):
        name = f"t{len(self.before)}"
        self.before[name] = set()

        def body(ctx):
            with self.lock:
                self.order.append(name)
            seen = [ctx.get_result(earlier) for earlier in sorted(self.before[name])]
            return f"{name}<{len(seen)}>" if None not in seen else f"{name} ran too early"

        return task(name, inject_context=True)(body), {name}

    def build(self, expression):
        if expression == "leaf":
            return self.leaf()
        kind, parts = expression
        built = [self.build(part) for part in parts]
        names = set().union(*(inner for _, inner in built))
        if kind == "chain":
            earlier = set()
            for _, inner in built:
                for name in inner:
                    self.before[name] |= earlier
                earlier |= inner
            return chain(*(value for value, _ in built)), names
        group = parallel(*(value for value, _ in built))
        group.with_execution(backend=self.backend, backend_config={"thread_count": 3})
        return group, names


def check(expression, backend):
    build = Build(backend)
    with workflow("random") as wf:
        start, _ = build.leaf()
        value, names = build.build(expression)
        for name in names:
            build.before[name].add("t0")
        start >> value
        _, context = wf.execute(ret_context=True)
    assert sorted(build.order) == sorted(build.before)
    position = {name: place for place, name in enumerate(build.order)}
    for name, earlier in build.before.items():
        assert all(position[other] < position[name] for other in earlier)
        assert context.get_result(name) == f"{name}<{len(earlier)}>"
    assert set(build.before) <= set(context.completed_tasks)


@settings(max_examples=120, deadline=None)
@given(expressions)
def test_threads_keep_precedence(expression):
    check(expression, "threading")


@settings(max_examples=120, deadline=None)
@given(expressions)
def test_one_after_another_keeps_precedence(expression):
    check(expression, "direct")


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**9), st.integers(2, 25), st.floats(0.05, 0.6))
def test_a_random_dag_runs_like_a_topological_loop(seed, size, density):
    rng = random.Random(seed)
    order = []
    with workflow("dag") as wf:
        nodes = [task(f"n{i}")(lambda i=i: order.append(i)) for i in range(size)]
        before = {i: [j for j in range(i) if rng.random() < density] or ([0] if i else []) for i in range(size)}
        edges = [(j, i) for i, earlier in before.items() for j in earlier]
        rng.shuffle(edges)
        for j, i in edges:
            nodes[j] >> nodes[i]
        wf.execute()
    assert sorted(order) == list(range(size))
    position = {i: place for place, i in enumerate(order)}
    assert all(position[j] < position[i] for j, i in edges)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**9), st.integers(2, 14), st.data())
def test_edges_between_members_and_the_rest_keep_precedence(seed, size, data):
    """Groups over arbitrary nodes of a DAG: edges into and out of members are kept, whoever runs the node."""
    rng = random.Random(seed)
    lock, order = threading.Lock(), []

    def note(i):
        with lock:
            order.append(i)

    with workflow("mixed") as wf:
        nodes = [task(f"n{i}")(lambda i=i: note(i)) for i in range(size)]
        layer = sorted(data.draw(st.sets(st.integers(1, size - 1), min_size=min(2, size - 1), max_size=4)))
        edges = [
            (j, i)
            for i in range(1, size)
            for j in range(i)
            # Members are siblings: nothing leads from one to the next, not even by way of others.
            if rng.random() < 0.3 and not (j in layer and i in layer)
        ]
        reach = {m: {m} for m in layer}
        for j, i in sorted(edges, key=lambda edge: edge[1]):
            for inside in reach.values():
                if j in inside:
                    inside.add(i)
        clash = any(other in reach[m] for m in layer for other in layer if other != m)
        if clash or len(layer) < 2:
            return
        for i in range(1, size):
            if not any(end == i for _, end in edges) and i not in layer:
                edges.append((0, i))
        for j, i in edges:
            nodes[j] >> nodes[i]
        group = parallel(*(nodes[i] for i in layer))
        nodes[0] >> group
        wf.execute(start_node="n0")
    assert sorted(order) == list(range(size))
    position = {i: place for place, i in enumerate(order)}
    assert all(position[j] < position[i] for j, i in edges)


RUNS = []
CRASH_AT = [0]


class Crash(BaseException):
    """Ends the process, as far as the engine can tell."""


def checkpointing(name, path):
    def body(ctx):
        # A function that was pickled by value has copies of its globals: the module keeps the record.
        here = importlib.import_module("tests.unit.test_random_workflows")
        here.RUNS.append(name)
        if len(here.RUNS) == here.CRASH_AT[0]:
            raise here.Crash
        ctx.checkpoint(path=path)
        return name

    return task(name, inject_context=True)(body)


def build_checkpointing(expression, path, names):
    if expression == "leaf":
        names.append(f"t{len(names)}")
        return checkpointing(names[-1], path)
    kind, parts = expression
    built = [build_checkpointing(part, path, names) for part in parts]
    return chain(*built) if kind == "chain" else parallel(*built).with_execution("direct")


@settings(max_examples=60, deadline=None)
@given(expressions, st.data())
def test_a_run_resumed_from_any_crash_point_repeats_nothing(tmp_path_factory, expression, data):
    path = str(tmp_path_factory.mktemp("crash") / "run")
    names = []
    with workflow("crash") as wf:
        build_checkpointing(("chain", ["leaf", expression]), path, names)
    RUNS.clear()
    CRASH_AT[0] = data.draw(st.integers(2, len(names) + 1))
    context = ExecutionContext.create(wf.graph.copy(), "t0")
    with contextlib.suppress(Crash):
        WorkflowEngine().execute(context)
    CRASH_AT[0] = 0
    resumed, _ = CheckpointManager.resume_from_checkpoint(path)
    saved = set(resumed.completed_tasks)
    for members in resumed.groups.finished.values():
        saved.update(*(outcome.completed for outcome in members.values()))
    WorkflowEngine().execute(resumed)
    assert [name for name in saved if name in names and RUNS.count(name) != 1] == []
    assert set(RUNS) == set(names)
    assert {name: resumed.get_result(name) for name in names} == {name: name for name in names}
