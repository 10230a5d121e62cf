"""Code by value is pickled once for all members of a group, and loaded only from bytes that a signature vouches for."""

from __future__ import annotations

import hashlib
import sys
import types
from collections import OrderedDict
from functools import partial

import pytest

from graflow import parallel, task
from graflow.core import serialization
from graflow.core.envelopes import by_value, shared_code
from graflow.core.envelopes.references import reference_of
from graflow.core.envelopes.shared_code import GroupCode, ReceivedCode
from graflow.core.retry import RetryPolicy
from graflow.core.task_registry import TaskResolver
from graflow.exceptions import PayloadError, TaskResolutionError
from graflow.signing import SigningKeys
from graflow_celery.client.submission import _identity_of

KEYS = SigningKeys({"k": b"x" * 32})
GROUP = ("run", "group")
TABLE = {f"key {n}": b"x" * 80 for n in range(1000)}


def member(index):
    return (*GROUP, str(index))


@pytest.fixture(autouse=True)
def _nothing_loaded(monkeypatch):
    monkeypatch.setattr(shared_code, "_loaded", OrderedDict())


def _look(**options):
    table = TABLE

    @task(**options)
    def look(n, extra=None):
        return len(table[f"key {n}"]), extra

    return look


def _sent(tasks, keys=KEYS):
    code, resolver = GroupCode(keys, GROUP), TaskResolver(keys=keys)
    envelopes = [
        resolver.serialize_best(one, bound_to=member(index), code=code).to_dict() for index, one in enumerate(tasks)
    ]
    return code, envelopes


def _received(envelopes, contents, keys=KEYS, group=GROUP):
    code, resolver = ReceivedCode(keys, group, contents.__getitem__), TaskResolver(keys=keys)
    return [resolver.resolve(one, bound_to=member(index), code=code) for index, one in enumerate(envelopes)]


def test_members_share_one_pickle_and_come_back_with_their_own_arguments():
    look = _look(max_retries=3)
    code, envelopes = _sent(look.map(range(300)).tasks)
    assert len(code.contents) == 1
    assert max(len(str(envelope)) for envelope in envelopes) < 600
    fetched = []
    received = _received(
        envelopes, types.SimpleNamespace(__getitem__=lambda name: fetched.append(name) or code.contents[name])
    )
    assert [one.task_id for one in received] == [f"look[{n}]" for n in range(300)]
    assert received[7].run() == (80, None)
    assert {one.max_retries for one in received} == {3}
    assert len(fetched) == 1
    assert len({id(one.func) for one in received}) == 1


def test_other_functions_and_options_have_code_of_their_own():
    look = _look()
    other = look.instance("other", {"n": 1})
    other.retry_policy = RetryPolicy(max_retries=2)
    code, envelopes = _sent([look.instance("a", {"n": 1}), look.instance("b", {"n": 2, "extra": (1,)}), other])
    assert len(code.contents) == 2
    received = _received(envelopes, code.contents)
    assert [one.run() for one in received] == [(80, None), (80, (1,)), (80, None)]
    assert received[2].retry_policy.max_retries == 2


def test_a_group_goes_beside_the_code_that_other_members_share():
    look = _look()
    inner = parallel(look(task_id="b", n=2), look(task_id="c", n=3))
    code, envelopes = _sent([look(task_id="a", n=1), inner])
    assert _received(envelopes[:1], code.contents)[0]() == (80, None)
    assert "code" not in envelopes[1]["payload"]


def test_an_argument_that_has_no_other_form_goes_beside_the_code():
    class Local:
        def __init__(self, x):
            self.x = x

    code, envelopes = _sent([_look().instance("a", {"n": 1, "extra": Local(5)})])
    assert envelopes[0]["payload"]["bound"]["extra"]["$t"] == "pickle"
    (received,) = _received(envelopes, code.contents)
    assert received.run()[1].x == 5


@pytest.mark.parametrize(
    ("keys", "group", "told"),
    [
        (SigningKeys({"k": b"y" * 32}), GROUP, "does not hold"),
        (SigningKeys({"o": b"x" * 32}), GROUP, "unknown key"),
        (None, GROUP, "no signing key"),
        (KEYS, ("run", "other"), "does not hold"),
        (KEYS, ("other", "group"), "does not hold"),
    ],
)
def test_code_is_loaded_only_when_its_group_was_signed_with_our_key(monkeypatch, keys, group, told):
    code, envelopes = _sent([_look().instance("a", {"n": 1})])
    monkeypatch.setattr(by_value, "loads", lambda _content: pytest.fail("it was opened"))
    with pytest.raises(TaskResolutionError, match=told):
        _received(envelopes, code.contents, keys, group)


def test_bytes_of_another_hash_are_not_opened(monkeypatch):
    code, envelopes = _sent([_look().instance("a", {"n": 1})])
    monkeypatch.setattr(by_value, "loads", lambda _content: pytest.fail("it was opened"))
    with pytest.raises(TaskResolutionError, match="hash"):
        _received(envelopes, dict.fromkeys(code.contents, b"other"))
    for payload in ({"code": 1}, {"code": "x", "signature": None}, {}):
        with pytest.raises(TaskResolutionError, match="as text"):
            ReceivedCode(KEYS, GROUP, code.contents.__getitem__).task(payload)
    with pytest.raises(TaskResolutionError, match="Unknown strategy 'code'"):
        TaskResolver(keys=KEYS).resolve(envelopes[0], bound_to=member(0))


def test_signed_code_must_be_a_task():
    content = serialization.dumps([1])
    name = hashlib.sha256(content).hexdigest()
    payload = {"code": name, "signature": KEYS.sign(name.encode(), purpose="code", bound_to=GROUP)}
    with pytest.raises(TaskResolutionError, match="not a task"):
        ReceivedCode(KEYS, GROUP, {name: content}.__getitem__).task(payload)


def test_code_that_cannot_be_pickled_is_refused_where_it_is_sent():
    lines = (line for line in "ab")

    @task
    def read():
        return list(lines)

    with pytest.raises(PayloadError, match="'read' cannot be sent by value"):
        GroupCode(KEYS, GROUP).take(read)


def test_what_identifies_a_member_is_its_code_and_arguments_not_its_bytes():
    def identity(wanted, value):
        @task
        def grade(number):
            return number if "a" in wanted else None

        _, (envelope,) = _sent([grade.instance("grade", {"number": value})])
        return _identity_of(envelope)

    assert identity({"a", "b"}, 1) == identity({"b", "a"}, 1)
    assert identity({"a", "b"}, 1) != identity({"a", "c"}, 1)
    assert identity({"a"}, {"code": 1}) != identity({"a"}, {"code": 2})


# -- by reference, under the name that a task has in the module that made it -----------------------------------------


@pytest.fixture
def modules(monkeypatch):
    def make(name, source):
        module = types.ModuleType(name)
        monkeypatch.setitem(sys.modules, name, module)
        exec(source, module.__dict__)
        return module

    make("lib_x", "def compute(x): return x + 1\nclass Model:\n    def predict(self, x): return x * 2\n")
    made = make(
        "tasks_x",
        "import functools, lib_x\nfrom graflow import task\n"
        "compute = task(lib_x.compute)\n"
        "power = task(id='power')(functools.partial(pow, 2))\n"
        "predict = task(id='predict')(lib_x.Model().predict)\n"
        "class Box:\n    inner = task(id='inner')(functools.partial(pow, 3))\n",
    )
    monkeypatch.setitem(sys.modules, "app_x", types.ModuleType("app_x"))
    sys.modules["app_x"].__dict__.update(compute=made.compute)
    return made


@pytest.mark.parametrize("name", ["compute", "power", "predict"])
def test_a_task_of_a_function_of_elsewhere_goes_under_the_name_that_it_has(modules, name):
    base = getattr(modules, name)
    assert reference_of(base) == ("tasks_x", name, base)
    instance = base.instance("one", {})
    assert reference_of(instance) == ("tasks_x", name, base)
    worker = TaskResolver()
    worker.register_module(modules)
    envelope = TaskResolver().serialize(instance)
    assert envelope.strategy == "reference"
    assert worker.resolve(envelope).func is base.func


def test_a_worker_that_knows_only_a_module_which_imports_the_task_finds_it(modules):
    worker = TaskResolver()
    worker.register_module(sys.modules["app_x"])
    assert worker.resolve(TaskResolver().serialize(modules.compute)) is modules.compute


def test_a_task_that_no_module_holds_is_still_refused(modules):
    with pytest.raises(TaskResolutionError, match="cannot be sent by reference"):
        reference_of(task(id="lost")(partial(pow, 5)))
