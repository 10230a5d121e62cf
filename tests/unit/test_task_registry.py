from __future__ import annotations

import base64
import datetime as dt
import json
import sys
import threading
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest

from graflow import task
from graflow.core.envelopes import by_value
from graflow.core.handlers.group_policy import BestEffortGroupPolicy
from graflow.core.task import ParallelGroup, Task, TaskWrapper
from graflow.core.task_registry import (
    SerializedTask,
    TaskResolutionError,
    TaskResolver,
    TaskResolverRegistry,
    default_registry,
)
from graflow.core.workflow import clear_workflow_context
from graflow.exceptions import PayloadError
from graflow.signing import SigningKeys, generate_key
from tests.support import at_once
from tests.unit import registry_tasks as importable

MODULE = importable.__name__


@pytest.fixture(autouse=True)
def _no_key_and_no_workflow_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRAFLOW_SIGNING_KEY", raising=False)
    monkeypatch.delenv("GRAFLOW_SIGNING_KEY_FILE", raising=False)
    clear_workflow_context()


@pytest.fixture
def keys() -> SigningKeys:
    return SigningKeys.parse(generate_key("k1"))


@pytest.fixture
def signing(keys: SigningKeys) -> TaskResolver:
    return TaskResolver(keys=keys)


@pytest.fixture
def worker() -> TaskResolver:
    resolver = TaskResolver()
    resolver.register_module(MODULE)
    return resolver


def local_task() -> TaskWrapper:
    @task
    def inside(number: int = 3) -> int:
        return number + 1

    return inside


def across(envelope: SerializedTask) -> SerializedTask:
    return SerializedTask.from_json(envelope.to_json())


# -- references --------------------------------------------------------------------------------------------------------


def test_a_reference_holds_names_only_and_resolves_to_the_registered_task(worker: TaskResolver) -> None:
    envelope = TaskResolver().serialize(importable.double)
    assert envelope.strategy == "reference"
    assert envelope.payload == {"module": MODULE, "name": "double", "qualname": "double"}
    assert worker.resolve(across(envelope)) is importable.double


def test_a_reference_resolves_in_the_process_that_made_it() -> None:
    resolver = TaskResolver()
    assert resolver.resolve(resolver.serialize(importable.double)) is importable.double


def test_an_envelope_may_be_a_dictionary_and_may_leave_out_the_qualified_name(worker: TaskResolver) -> None:
    envelope = {
        "strategy": "reference",
        "payload": {"module": MODULE, "name": "double"},
        "resolver_id": "default",
        "version": 1,
    }
    assert worker.resolve(envelope) is importable.double


def test_every_executable_of_a_module_is_tabled_and_nothing_else() -> None:
    resolver = TaskResolver()
    resolver.register_module(MODULE)
    names = {reference.partition(":")[2] for reference in resolver.references() if reference.startswith(f"{MODULE}:")}
    assert names == {
        "double",
        "with_options",
        "with_policy",
        "plus_one",
        "plus_one_patiently",
        "plus_one_informed",
        "marker",
        "custom",
        "Steps.inner",
    }
    assert resolver.modules == [MODULE]


def test_a_module_object_is_registered_like_its_name() -> None:
    resolver = TaskResolver()
    assert f"{MODULE}:double" in resolver.register_module(importable)


@pytest.mark.parametrize(
    ("found", "path"),
    [
        (importable.plus_one, "plus_one"),
        (importable.plus_one_patiently, "plus_one_patiently"),
        (importable.plus_one_informed, "plus_one_informed"),
        (importable.custom, "custom"),
        (importable.Steps.inner, "Steps.inner"),
    ],
)
def test_a_task_is_found_under_its_attribute_whatever_its_function_is_called(
    worker: TaskResolver, found: Any, path: str
) -> None:
    envelope = TaskResolver().serialize(found)
    assert envelope.payload["qualname"] == path
    assert worker.resolve(across(envelope)) is found


def test_tasks_around_one_function_are_not_mistaken_for_each_other() -> None:
    resolver = TaskResolver()
    for found in (importable.plus_one, importable.plus_one_patiently, importable.plus_one_informed):
        assert resolver.resolve(across(resolver.serialize(found))) is found
        bound = resolver.resolve(across(resolver.serialize(found(task_id="bound"))))
        assert (bound.inject_context, bound.max_retries) == (found.inject_context, found.max_retries)


def test_a_task_imported_from_elsewhere_counts_under_both_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("reexporting_tasks")
    module.double = importable.double
    monkeypatch.setitem(sys.modules, module.__name__, module)
    resolver = TaskResolver()
    resolver.register_module("reexporting_tasks")
    # Other modules that have imported it, as some of these tests do, count too.
    assert {"reexporting_tasks:double", f"{MODULE}:double"} <= set(resolver.references())


def test_attributes_with_a_will_of_their_own_are_left_asleep() -> None:
    class Touchy:
        def __getattr__(self, name: str) -> Any:
            raise AssertionError(f"{name} was touched")

    module = ModuleType("touchy_tasks")
    module.touchy = Touchy()
    assert TaskResolver().register_module(module) == []


def test_a_missing_module_is_named() -> None:
    with pytest.raises(TaskResolutionError, match="'no_such_module_here'"):
        TaskResolver().register_module("no_such_module_here")


@pytest.mark.parametrize("path", [None, "/srv/app"])
def test_a_module_that_is_nowhere_names_the_folder_and_pythonpath(
    path: str | None, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    if path:
        monkeypatch.setenv("PYTHONPATH", path)
    with pytest.raises(TaskResolutionError) as caught:
        TaskResolver().register_module("etl_here.tasks")
    assert str(caught.value) == (
        f"Cannot import the task module 'etl_here.tasks': there is no 'etl_here' in the current folder "
        f"({tmp_path}), on PYTHONPATH ({path or 'not set'}) or installed here; start in the folder that holds it, or "
        "add that to PYTHONPATH"
    )


@pytest.mark.parametrize(
    ("name", "meant"), [("etl.py", "etl"), ("./jobs/etl.py", "jobs.etl"), ("jobs/etl", "jobs.etl"), (".etl", "etl")]
)
def test_a_module_that_is_named_by_its_file_is_told_the_name(name: str, meant: str) -> None:
    with pytest.raises(TaskResolutionError) as caught:
        TaskResolver().register_module(name)
    assert str(caught.value) == (
        f"Cannot import the task module '{name}': a module is named as in an import statement; give '{meant}'"
    )


_MEND = "; mend it until `python -c 'import failing_tasks'` works here"


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("raise RuntimeError('its own fault')", f"RuntimeError: its own fault{_MEND}"),
        (
            "import sys; sys.exit(2)",
            "it ends the program, with sys.exit(2); keep that below `if __name__ == '__main__':`",
        ),
        ("def f(:", f"SyntaxError: invalid syntax (failing_tasks.py, line 1){_MEND}"),
        ("from json import nothing", f"cannot import name 'nothing' from 'json' ({json.__file__}){_MEND}"),
        (
            "import not_there_at_all",
            "it imports 'not_there_at_all', which is not found here; install that, or add its folder to PYTHONPATH",
        ),
    ],
)
def test_a_module_that_fails_on_its_own_is_named(
    source: str, why: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "failing_tasks.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(TaskResolutionError) as caught:
        TaskResolver().register_module("failing_tasks")
    assert str(caught.value) == f"Cannot import the task module 'failing_tasks': {why}"
    assert caught.value.__cause__ is not None


def test_a_registered_task_need_not_be_importable() -> None:
    inside = local_task()
    resolver = TaskResolver()
    resolver.register_task(inside)
    assert resolver.resolve(resolver.serialize(inside)) is inside
    assert resolver.resolve(resolver.serialize(inside(task_id="four", number=4))).run() == 5


def test_two_processes_with_the_same_tasks_have_the_same_digest(worker: TaskResolver) -> None:
    other = TaskResolver()
    assert other.digest() != worker.digest()
    other.register_module(MODULE)
    assert other.digest() == worker.digest()


def test_many_threads_register_and_resolve_at_once() -> None:
    resolver = TaskResolver()

    def work(index: int) -> int:
        made = importable.double(task_id=f"d{index}", number=index)
        doubled: int = resolver.resolve(resolver.serialize(made)).run()
        resolver.register_module(MODULE)
        return doubled

    assert at_once(work, range(16)) == [2 * index for index in range(16)]


# -- what cannot be sent by reference ----------------------------------------------------------------------------------


def made_in_main() -> TaskWrapper:
    def step() -> None: ...

    step.__module__, step.__qualname__ = "__main__", "step"
    return TaskWrapper("step", step, register_to_context=False)


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (local_task, "inside a function"),
        (lambda: TaskWrapper("l", lambda: 1, register_to_context=False), "lambda"),
        (made_in_main, "__main__"),
        (lambda: Task("lonely", register_to_context=False), "no attribute 'lonely'"),
        (importable.Custom, "no attribute"),
    ],
)
def test_what_cannot_be_imported_is_refused_by_the_sender_with_both_remedies(made: Any, why: str) -> None:
    made = made()
    with pytest.raises(TaskResolutionError, match=why) as raised:
        TaskResolver().serialize(made)
    assert made.task_id in str(raised.value)
    assert "GRAFLOW_SIGNING_KEY" in str(raised.value)
    assert "--graflow-import" in str(raised.value)


def test_a_task_hidden_behind_another_of_its_name_is_refused() -> None:
    def double(number: int) -> int:
        return number

    double.__module__, double.__qualname__ = MODULE, "double"
    with pytest.raises(TaskResolutionError, match="no attribute 'double'"):
        TaskResolver().serialize(TaskWrapper("double", double, register_to_context=False))


def test_an_unloaded_module_is_not_imported_to_look() -> None:
    def step() -> None: ...

    step.__module__, step.__qualname__ = "this.does.not.exist", "step"
    with pytest.raises(TaskResolutionError, match=r"this\.does\.not\.exist"):
        TaskResolver().serialize(TaskWrapper("step", step, register_to_context=False))


# -- bound arguments and options ---------------------------------------------------------------------------------------


def test_bound_arguments_travel_with_their_types(worker: TaskResolver) -> None:
    when = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
    made = importable.with_options(task_id="seven", number=7, unit=(when, b"\x00", {1, 2}))
    found = worker.resolve(across(TaskResolver().serialize(made)))
    assert found is not importable.with_options
    assert found.task_id == "seven"
    assert dict(found._bound_kwargs) == {"number": 7, "unit": (when, b"\x00", {1, 2})}
    assert found.run() == 7


def test_an_argument_that_cannot_be_kept_names_task_and_parameter() -> None:
    made = importable.double(task_id="odd", number=object())
    with pytest.raises(PayloadError, match=r"argument 'number'.*'odd'"):
        TaskResolver().serialize(made)


def test_options_of_the_definition_and_of_an_instance_travel(worker: TaskResolver) -> None:
    made = importable.with_options(task_id="mine", number=1)
    made.options = {"queue": "mine", "priority": 3}
    made.max_retries = None
    made.timeout = 2.5
    found = worker.resolve(across(TaskResolver().serialize(made)))
    assert (found.options, found.max_retries, found.timeout) == ({"queue": "mine", "priority": 3}, None, 2.5)
    base = worker.resolve(across(TaskResolver().serialize(importable.with_options)))
    assert base is importable.with_options


def test_a_retry_policy_travels_as_its_numbers(worker: TaskResolver) -> None:
    envelope = across(TaskResolver().serialize(importable.with_policy))
    assert envelope.payload["options"]["retry_policy"]["initial_interval"] == 0.5
    assert worker.resolve(envelope).retry_policy == importable.with_policy.retry_policy


def test_a_retry_policy_of_ones_own_is_refused_unless_it_comes_with_the_definition() -> None:
    class Patient(type(importable.with_policy.retry_policy)):
        pass

    made = importable.double(task_id="patient", number=1)
    made.retry_policy = Patient(max_retries=1)
    with pytest.raises(PayloadError, match=r"'patient'.*Patient"):
        TaskResolver().serialize(made)


@pytest.mark.parametrize(
    "changed",
    [
        {"options": {"func": "os:system"}},
        {"options": {"_bound_kwargs": {}}},
        {"options": {"max_retries": "many"}},
        {"options": {"retry_policy": {"__class__": 1}}},
        {"options": {"retry_policy": {"max_retries": "1"}}},
        {"options": ["queue"]},
        {"bound": ["x"]},
        {"bound": {"number": {"$t": "no-such-kind", "v": 1}}},
        {"task_id": 7},
    ],
)
def test_fields_that_do_not_fit_are_refused(worker: TaskResolver, changed: dict[str, Any]) -> None:
    payload = {"module": MODULE, "name": "double", "qualname": "double", "task_id": "x", **changed}
    with pytest.raises(TaskResolutionError):
        worker.resolve(SerializedTask("reference", payload))


def test_a_task_without_instances_takes_no_arguments_from_a_message(worker: TaskResolver) -> None:
    payload = {"module": MODULE, "name": "custom", "qualname": "custom", "bound": {"number": 1}}
    with pytest.raises(TaskResolutionError, match="'custom'"):
        worker.resolve(SerializedTask("reference", payload))


# -- attacks on references ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("os:system", "os:system"),
        (MODULE, "not_a_task"),
        (MODULE, "_plain"),
        (MODULE, "double.func"),
        (MODULE, "double.func.__globals__"),
        (MODULE, "custom.run"),
        (MODULE, "Task"),
        (f"{MODULE}.double", "func"),
        ("antigravity", "fly"),
        ("graflow.core.task_registry", "default_registry"),
        ("", ""),
    ],
)
def test_nothing_but_tabled_tasks_is_resolved_and_nothing_is_imported(
    worker: TaskResolver, module: str, name: str
) -> None:
    before = set(sys.modules)
    with pytest.raises(TaskResolutionError, match="registered"):
        worker.resolve(SerializedTask("reference", {"module": module, "name": name, "qualname": name}))
    assert set(sys.modules) == before


@pytest.mark.parametrize("payload", [{}, {"module": 1, "name": "x"}, {"module": MODULE, "qualname": ["double"]}])
def test_a_reference_without_names_is_refused(worker: TaskResolver, payload: dict[str, Any]) -> None:
    with pytest.raises(TaskResolutionError, match="as text"):
        worker.resolve(SerializedTask("reference", payload))


def test_an_imported_module_is_no_registered_one() -> None:
    envelope = TaskResolver().serialize(importable.double)
    with pytest.raises(TaskResolutionError, match=f"{MODULE}:double.*--graflow-import"):
        TaskResolver().resolve(envelope)


def test_text_of_a_message_cannot_break_the_lines_of_a_log(worker: TaskResolver) -> None:
    with pytest.raises(TaskResolutionError) as raised:
        worker.resolve(SerializedTask("reference", {"module": "a\nCRITICAL all is lost", "qualname": "x" * 10_000}))
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 1000


@pytest.mark.parametrize("version", [0, 2, 99])
def test_an_unknown_version_is_refused(worker: TaskResolver, version: int) -> None:
    with pytest.raises(TaskResolutionError, match=str(version)):
        worker.resolve({**TaskResolver().serialize(importable.double).to_dict(), "version": version})


def test_an_unknown_strategy_lists_the_known_ones(worker: TaskResolver) -> None:
    with pytest.raises(TaskResolutionError, match=r"'marshal'.*pickle.*reference"):
        worker.resolve(SerializedTask("marshal", {}))
    with pytest.raises(TaskResolutionError, match="'marshal'"):
        worker.serialize(importable.double, "marshal")


# -- by value ----------------------------------------------------------------------------------------------------------


def test_a_closure_goes_by_value_when_both_sides_have_the_key(signing: TaskResolver, keys: SigningKeys) -> None:
    offset = 10
    base = TaskWrapper("closure", lambda number: number + offset, register_to_context=False)
    made = base.instance("c7", {"number": 7})
    envelope = across(signing.serialize(made, "pickle", bound_to=("run", "g", "0")))
    found = TaskResolver(keys=keys).resolve(envelope, bound_to=("run", "g", "0"))
    assert found.task_id == "c7"
    assert found.run() == 17


def test_without_a_key_the_sender_is_told_how_to_get_one() -> None:
    with pytest.raises(TaskResolutionError, match=r"(?s)without a signing key.*--graflow-import.*GRAFLOW_SIGNING_KEY"):
        TaskResolver().serialize(local_task(), "pickle")


def test_the_key_of_the_environment_counts_when_none_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    resolver = TaskResolver()
    monkeypatch.setenv("GRAFLOW_SIGNING_KEY", generate_key("env"))
    assert resolver.resolve(resolver.serialize(local_task(), "pickle")).run() == 4


def test_other_keys_over_the_same_table(worker: TaskResolver, keys: SigningKeys) -> None:
    signing = worker.with_keys(keys)
    assert signing.resolve(signing.serialize(local_task(), "pickle")).run() == 4
    assert signing.references() == worker.references()
    with pytest.raises(TaskResolutionError):
        worker.serialize(local_task(), "pickle")


def test_what_cannot_be_pickled_names_the_task(signing: TaskResolver) -> None:
    lock = threading.Lock()
    made = TaskWrapper("locked", lambda: lock, register_to_context=False)
    with pytest.raises(PayloadError, match=r"'locked'.*lock"):
        signing.serialize(made, "pickle")


@pytest.fixture
def tripwire(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Every content that gets as far as the unpickler."""
    reached: list[bytes] = []

    def note(content: bytes) -> Any:
        reached.append(content)
        raise AssertionError("unpickled")

    monkeypatch.setattr(by_value, "loads", note)
    return reached


def flipped(data: str) -> str:
    raw = bytearray(base64.b64decode(data))
    raw[len(raw) // 2] ^= 1
    return base64.b64encode(bytes(raw)).decode()


def swapped_key_id(signature: str) -> str:
    return "other:" + signature.partition(":")[2]


@pytest.mark.parametrize(
    "tamper",
    [
        lambda p: {**p, "data": flipped(p["data"])},
        lambda p: {**p, "data": p["data"][: len(p["data"]) // 8 * 4]},
        lambda p: {**p, "data": "not base64!"},
        lambda p: {**p, "data": ""},
        lambda p: {**p, "data": None},
        lambda p: {**p, "signature": ""},
        lambda p: {**p, "signature": p["signature"][:-2]},
        lambda p: {**p, "signature": swapped_key_id(p["signature"])},
        lambda p: {**p, "signature": None},
        lambda p: {"data": p["data"]},
        lambda p: {"signature": p["signature"]},
        lambda _p: {},
    ],
)
def test_a_changed_or_unsigned_value_never_reaches_the_unpickler(
    signing: TaskResolver, tripwire: list[bytes], tamper: Any
) -> None:
    envelope = signing.serialize(local_task(), "pickle")
    with pytest.raises(TaskResolutionError):
        signing.resolve(replace(envelope, payload=tamper(dict(envelope.payload))))
    assert tripwire == []


@pytest.mark.parametrize("bound_to", [(), ("run2", "g", "0"), ("run", "g", "1"), ("run", "g0"), ("rung", "", "0")])
def test_a_signature_holds_for_its_own_run_group_and_index_only(
    signing: TaskResolver, tripwire: list[bytes], bound_to: tuple[str, ...]
) -> None:
    envelope = signing.serialize(local_task(), "pickle", bound_to=("run", "g", "0"))
    with pytest.raises(TaskResolutionError, match="refused"):
        signing.resolve(envelope, bound_to=bound_to)
    assert tripwire == []


def test_a_signature_made_for_another_purpose_is_refused(
    signing: TaskResolver, keys: SigningKeys, tripwire: list[bytes]
) -> None:
    content = b"anything"
    signature = keys.sign(content, purpose="result", bound_to=("pickle",))
    payload = {"data": base64.b64encode(content).decode(), "signature": signature}
    with pytest.raises(TaskResolutionError):
        signing.resolve(SerializedTask("pickle", payload))
    assert tripwire == []


def test_a_stranger_s_key_and_no_key_are_refused(signing: TaskResolver, tripwire: list[bytes]) -> None:
    envelope = signing.serialize(local_task(), "pickle")
    stranger = TaskResolver(keys=SigningKeys.parse(generate_key("k1")))
    with pytest.raises(TaskResolutionError):
        stranger.resolve(envelope)
    with pytest.raises(TaskResolutionError, match="GRAFLOW_SIGNING_KEY"):
        TaskResolver().resolve(envelope)
    assert tripwire == []


def test_a_signed_value_that_is_no_task_is_refused(signing: TaskResolver, keys: SigningKeys) -> None:
    content = by_value.dumps({"not": "a task"})
    payload = {
        "data": base64.b64encode(content).decode(),
        "signature": keys.sign(content, purpose="task", bound_to=("pickle",)),
    }
    with pytest.raises(TaskResolutionError, match="dict"):
        signing.resolve(SerializedTask("pickle", payload))


def test_a_value_whose_module_is_missing_here_names_the_cause(signing: TaskResolver, keys: SigningKeys) -> None:
    content = b"cno_such_module_here\nthing\n."
    payload = {
        "data": base64.b64encode(content).decode(),
        "signature": keys.sign(content, purpose="task", bound_to=("pickle",)),
    }
    with pytest.raises(TaskResolutionError, match="no_such_module_here"):
        signing.resolve(SerializedTask("pickle", payload))


# -- strategies of one's own -------------------------------------------------------------------------------------------


def _compiled(payload: Any) -> TaskWrapper:
    namespace: dict[str, Any] = {}
    exec(payload["source"], namespace)
    return TaskWrapper(payload["name"], namespace[payload["name"]], register_to_context=False)


def with_source(resolver: TaskResolver) -> TaskResolver:
    def source_of(made: TaskWrapper) -> dict[str, str]:
        return {"name": made.task_id, "source": f"def {made.task_id}(): return 'from source'"}

    resolver.register_strategy("source", source_of, _compiled, carries_code=True)
    return resolver


def test_a_strategy_that_carries_code_is_signed_like_a_value(signing: TaskResolver, keys: SigningKeys) -> None:
    envelope = across(with_source(signing).serialize(local_task(), "source", bound_to=("r",)))
    found = with_source(TaskResolver(keys=keys)).resolve(envelope, bound_to=("r",))
    assert found.run() == "from source"


def test_an_unsigned_or_relabelled_payload_does_not_reach_a_strategy_with_code(signing: TaskResolver) -> None:
    reached: list[Any] = []
    signing.register_strategy("source", lambda made: {"name": made.task_id}, reached.append, carries_code=True)
    content = json.dumps({"name": "x", "source": "boom"}).encode()
    forged = {"data": base64.b64encode(content).decode(), "signature": "k1:"}
    pickled = signing.serialize(local_task(), "pickle")
    for envelope in (
        SerializedTask("source", {"name": "x", "source": "boom"}),
        SerializedTask("source", forged),
        replace(pickled, strategy="source"),
    ):
        with pytest.raises(TaskResolutionError):
            signing.resolve(envelope)
    assert reached == []


def test_a_strategy_with_code_needs_a_key() -> None:
    with pytest.raises(TaskResolutionError, match="signing key"):
        with_source(TaskResolver()).serialize(local_task(), "source")


def test_a_strategy_of_plain_data_needs_no_key() -> None:
    resolver = TaskResolver()
    resolver.register_strategy(
        "named", lambda made: {"id": made.task_id}, lambda payload: Task(payload["id"], False), carries_code=False
    )
    assert resolver.resolve(across(resolver.serialize(Task("n", False), "named"))).task_id == "n"


@pytest.mark.parametrize("name", ["reference", "pickle", "noop", "group"])
def test_a_built_in_strategy_cannot_be_replaced(name: str) -> None:
    with pytest.raises(ValueError, match="built in"):
        TaskResolver().register_strategy(name, lambda made: {}, lambda payload: None, carries_code=False)


# -- nodes that are data, and the choice of a strategy -----------------------------------------------------------------


def test_a_plain_node_travels_as_its_id() -> None:
    envelope = TaskResolver().serialize_best(Task("marker", register_to_context=False))
    assert (envelope.strategy, envelope.payload) == ("noop", {"task_id": "marker"})
    found = TaskResolver().resolve(across(envelope))
    assert type(found) is Task
    assert found.task_id == "marker"


def test_only_plain_nodes_go_by_id() -> None:
    with pytest.raises(TaskResolutionError, match="'double'"):
        TaskResolver().serialize(importable.double, "noop")
    with pytest.raises(TaskResolutionError, match="'task_id'"):
        TaskResolver().resolve(SerializedTask("noop", {"task_id": 5}))


def test_a_group_travels_with_its_members_and_settings_but_without_secrets(worker: TaskResolver) -> None:
    inner = importable.double.map([1, 2], name="inner")
    inner.with_execution("redis", {"host": "example", "password": "hunter2", "thread_count": 2}, "best_effort")
    outer = ParallelGroup([inner, Task("marker", register_to_context=False)], name="outer")
    envelope = across(TaskResolver().serialize_best(outer))
    assert envelope.strategy == "group"
    assert "hunter2" not in envelope.to_json()
    found = worker.resolve(envelope)
    assert (found.task_id, [member.task_id for member in found.tasks]) == ("outer", ["inner", "marker"])
    kept = found.tasks[0]
    assert type(kept) is type(inner)
    assert [member.run() for member in kept.tasks] == [2, 4]
    assert kept._execution_config == {
        "backend": "redis",
        "backend_config": {"host": "example", "thread_count": 2},
        "policy": "best_effort",
    }


class OwnPolicy(BestEffortGroupPolicy):
    """No data: only a signed value can carry it."""


def test_a_group_with_a_policy_of_ones_own_goes_by_value(signing: TaskResolver) -> None:
    outer = ParallelGroup([importable.double(task_id="one", number=1)], name="outer").with_execution(policy=OwnPolicy())
    with pytest.raises(PayloadError, match="'outer'"):
        TaskResolver().serialize_best(outer)
    envelope = across(signing.serialize_best(outer))
    assert envelope.strategy == "pickle"
    assert type(signing.resolve(envelope)._execution_config["policy"]["policy"]) is OwnPolicy


def test_the_members_of_a_group_must_be_a_list() -> None:
    with pytest.raises(TaskResolutionError, match="'members'"):
        TaskResolver().resolve(SerializedTask("group", {"task_id": "g", "members": "abc"}))


def test_members_of_a_group_that_go_by_value_are_signed_for_their_place(signing: TaskResolver) -> None:
    outer = ParallelGroup([local_task()], name="outer")
    envelope = across(signing.serialize_best(outer, bound_to=("run", "0")))
    assert signing.resolve(envelope, bound_to=("run", "0")).tasks[0].run() == 4
    with pytest.raises(TaskResolutionError):
        signing.resolve(envelope, bound_to=("run", "1"))


def test_the_best_strategy_is_a_reference_then_a_value_then_an_error(signing: TaskResolver) -> None:
    assert signing.serialize_best(importable.double).strategy == "reference"
    assert signing.serialize_best(local_task()).strategy == "pickle"
    kept = signing.serialize_best(importable.double(task_id="o", number=object))
    assert (kept.strategy, kept.payload["bound"]["number"]["$t"]) == ("reference", "pickle")
    assert signing.resolve(kept)._bound_kwargs == {"number": object}
    with pytest.raises(TaskResolutionError, match=r"--graflow-import.*GRAFLOW_SIGNING_KEY"):
        TaskResolver().serialize_best(local_task())
    with pytest.raises(PayloadError, match="'number'"):
        TaskResolver().serialize_best(importable.double(task_id="o", number=object))


# -- the registry ------------------------------------------------------------------------------------------------------


def test_an_unknown_resolver_lists_the_known_ones() -> None:
    registry = TaskResolverRegistry()
    registry.register("etl", TaskResolver())
    assert registry.ids() == ["etl"]
    with pytest.raises(TaskResolutionError, match=r"'default'.*'etl'"):
        registry.get("default")


def test_an_envelope_names_the_resolver_that_made_it() -> None:
    registry = TaskResolverRegistry()
    registry.register("etl", TaskResolver())
    envelope = registry.get("etl").serialize(importable.double)
    assert envelope.resolver_id == "etl"
    assert registry.resolve(across(envelope)) is importable.double
    assert registry.serialize(importable.double, resolver_id="etl").resolver_id == "etl"


def test_one_resolver_under_two_ids_answers_to_both() -> None:
    registry, resolver = TaskResolverRegistry(), TaskResolver()
    registry.register("one", resolver)
    registry.register("two", resolver)
    assert registry.serialize(importable.double, resolver_id="two").resolver_id == "two"


def test_two_registries_do_not_meet() -> None:
    one, other = TaskResolverRegistry(), TaskResolverRegistry()
    for registry in (one, other):
        registry.register("default", TaskResolver())
    one.get().register_module(MODULE)
    envelope = SerializedTask("reference", {"module": MODULE, "name": "double", "qualname": "double"})
    assert one.resolve(envelope) is importable.double
    with pytest.raises(TaskResolutionError):
        other.resolve(envelope)


def test_the_registry_of_the_process_knows_default() -> None:
    assert default_registry() is default_registry()
    assert "default" in default_registry().ids()


def test_a_task_that_is_not_registered_says_whether_the_module_or_the_code_is_missing() -> None:
    receiver = TaskResolver()
    lost = {"module": "etl.jobs", "name": "load", "qualname": "load"}
    with pytest.raises(TaskResolutionError) as caught:
        receiver.resolve(SerializedTask("reference", lost))
    assert str(caught.value) == (
        "No task 'etl.jobs:load' is registered in this process (registered are: none); "
        "start this worker with `--graflow-import etl.jobs`"
    )
    receiver.register_module(MODULE)
    with pytest.raises(TaskResolutionError) as caught:
        receiver.resolve(SerializedTask("reference", {**lost, "module": MODULE}))
    assert str(caught.value) == (
        f"No task '{MODULE}:load' is registered in this process, whose module {MODULE} is without it: the code here is "
        "not the sender's; deploy that code here and restart this worker"
    )
