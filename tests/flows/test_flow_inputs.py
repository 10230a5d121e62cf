"""Names and inputs of flows: what is taken, what is refused and how, and what is shown."""

import base64
import enum
import hashlib
import math
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import AfterValidator, BaseModel, FilePath, SecretStr

from graflow import task, workflow
from graflow.exceptions import ConfigError, FlowConflictError, FlowInputError, FlowNotFoundError
from graflow.flows import FlowContext, FlowRunner, flow
from graflow.flows.registry import FlowRegistry, definition_of
from graflow.secret import MASK
from graflow.state import FlowStatus


class Size(enum.Enum):
    SMALL = "s"
    LARGE = "l"


class Address(BaseModel):
    street: str
    number: int = 1


@dataclass
class Point:
    x: int
    y: int


def echoing(store="memory://", **options):
    """A runner, and a function that registers a flow whose one step keeps what its function was called with."""
    runner, calls = FlowRunner(store, **options), []

    def register(function, name="echo"):
        runner.register(function, name)

    def step(**given):
        calls.append(given)
        return task("only")(lambda: None)

    return runner, register, step, calls


def test_inputs_are_converted_to_the_types_of_the_signature_and_are_the_same_each_time():
    runner, register, step, calls = echoing()

    def build(day: date, path: Path, size: Size, to: Address, at: Point, raw: bytes, tags: set[str], n: int = 10):
        return step(day=day, path=path, size=size, to=to, at=at, raw=raw, tags=tags, n=n)

    register(build)
    given = {
        "day": "2024-05-01",
        "path": "/tmp/x",
        "size": "l",
        "to": {"street": "a"},
        "at": {"x": 1, "y": "2"},
        "raw": b"\x00\xff",
        "tags": ["a", "a"],
    }
    state = runner.execute("echo", given, flow_id="f")
    assert state.status is FlowStatus.COMPLETED, state.error
    expected = {
        "day": date(2024, 5, 1),
        "path": Path("/tmp/x"),
        "size": Size.LARGE,
        "to": Address(street="a"),
        "at": Point(1, 2),
        "raw": b"\x00\xff",
        "tags": {"a"},
        "n": 10,
    }
    assert calls == [expected]
    assert state.inputs["raw"] == base64.urlsafe_b64encode(b"\x00\xff").decode()
    assert runner.execute("echo", {**given, "n": 10}, flow_id="f").version == state.version
    assert runner.fork_flow("f", "only", inputs={"n": 11}).status is FlowStatus.COMPLETED
    assert calls[-1] == {**expected, "n": 11}


def test_each_input_that_does_not_fit_is_named_and_nothing_is_recorded():
    runner, register, step, calls = echoing()

    def build(count: int, names: list[str], api_key: int):
        return step()

    register(build)
    with pytest.raises(FlowInputError) as refused:
        runner.execute("echo", {"names": ["a", 3], "api_key": "hidden", "more": 1})
    text = str(refused.value)
    assert "count: is required" in text
    assert "names.1: " in text
    assert f"not {MASK}" in text
    assert "hidden" not in text
    assert "more: is no input of this flow; inputs are count, names, api_key" in text
    with pytest.raises(FlowInputError, match="mapping"):
        runner.execute("echo", ["a"])
    assert not runner.list_flows()
    assert not calls


def _looked_up(code):
    return {"a": "of a"}[code]


def test_whatever_the_check_of_an_input_raises_is_a_fault_of_that_input_and_nothing_is_recorded():
    runner, register, step, _ = echoing()

    class Scan(BaseModel):
        page: FilePath

    def build(
        file: FilePath,
        scan: Scan | None = None,
        code: Annotated[str, AfterValidator(_looked_up)] = "",
        api_key: Annotated[str, AfterValidator(_looked_up)] = "",
        **more: Any,
    ):
        return step()

    register(build)
    long, loop = "x" * 5000, []
    loop.append(loop)
    for given, told in [
        ({"file": long}, "file: cannot be checked: OSError: "),
        ({"file": __file__, "scan": {"page": long}}, "scan: cannot be checked: OSError: "),
        ({"file": __file__, "code": "b"}, "code: cannot be checked: KeyError: 'b', not 'b'"),
        ({"file": __file__, "api_key": "k-123"}, "api_key: cannot be checked: KeyError"),
        ({"file": __file__, "loop": loop}, "cannot be stored as JSON: Circular reference"),
        ({"file": "/no/such"}, "file: Path does not point to a file, not '/no/such'"),
    ]:
        with pytest.raises(FlowInputError, match=re.escape(told)) as caught:
            runner.execute("echo", given, flow_id="1")
        assert len(str(caught.value)) < 400
        assert "k-123" not in str(caught.value)
    with pytest.raises(FlowNotFoundError):
        runner.get_flow_state("1")
    runner.execute("echo", {"file": __file__, "code": "a"}, flow_id="1")


def _nested(levels):
    value = []
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "given",
    ["half\ud83d", ["half\ud83d"], math.nan, {"a": [-math.inf]}, 10**5000, _nested(210)],
    ids=["surrogate", "within", "nan", "infinite", "digits", "deep"],
)
def test_an_input_that_could_not_be_read_back_is_refused_by_name_and_nothing_is_recorded(given):
    runner, register, step, calls = echoing()
    register(lambda anything, **more: step(anything=anything))
    for inputs, name in [({"anything": given}, "anything"), ({"anything": 1, "more": given}, "more")]:
        with pytest.raises(FlowInputError, match=rf"do not fit: {name}: cannot be stored as JSON: "):
            runner.execute("echo", inputs, flow_id="1")
    with pytest.raises(FlowNotFoundError):
        runner.get_flow_state("1")
    runner.execute("echo", {"anything": 10**30, "more": "\x00 \u2603 \U0001f600"}, flow_id="1")
    assert calls == [{"anything": 10**30}]


@pytest.mark.parametrize("name", ["", "x" * 201, "half\ud83d", 5], ids=["empty", "long", "surrogate", "number"])
def test_an_id_is_text_that_a_store_can_hold(name):
    runner, register, step, calls = echoing()
    register(step)
    with pytest.raises(ConfigError, match="flow_id is a text of 1 to 200 characters"):
        runner.execute("echo", flow_id=name)
    with pytest.raises(ConfigError, match="The name of a flow is a text of 1 to 200 characters"):
        runner.register(step, name)
    assert not calls
    runner.execute("echo", flow_id="1")
    with pytest.raises(ConfigError, match="flow_id is a text of 1 to 200 characters"):
        runner.submit(FlowContext("echo", {}, name))
    with pytest.raises(ConfigError, match="flow_id is a text of 1 to 200 characters"):
        runner.fork_flow("1", "only", new_flow_id=name)
    assert len(runner.list_flows()) == 1


@pytest.mark.parametrize(
    ("metadata", "told"),
    [
        ({"ratio": math.nan}, "'ratio' has nan"),
        ({"far": [math.inf]}, r"'far' has \[inf\]"),
        ({"what": {1, 2}}, "'what' has {1, 2}"),
        ({1: 2}, "1 has 2"),
        ([1], r"a mapping of names to plain JSON, not \[1\]"),
    ],
    ids=["nan", "infinity", "set", "number as name", "list"],
)
def test_metadata_is_plain_json_and_else_nothing_is_recorded(metadata, told, tmp_path):
    for store in ("memory://", f"sqlite:///{tmp_path}/flows.db"):
        for durability in ("best_effort", "off"):
            runner, register, step, calls = echoing(store, durability=durability)
            register(step)
            with pytest.raises(ConfigError, match=told):
                runner.execute("echo", metadata=metadata)
            assert not calls
        assert not runner.list_flows()


def test_a_result_of_more_digits_than_the_interpreter_writes_is_recorded_and_read_back():
    seen = []

    @task("long")
    def long():
        return 10**5000

    @task("fails")
    def fails(long: int):
        seen.append(long)
        if len(seen) == 1:
            raise ValueError("once")
        return 1

    with FlowRunner("memory://") as runner:
        runner.register(lambda: long >> fails, "digits")
        assert runner.execute("digits", flow_id="d").error == "ValueError: once"
        assert runner.resume_flow("d").status is FlowStatus.COMPLETED
    assert seen == [10**5000] * 2


@pytest.mark.parametrize("given", [{"older_than": -1}, {"older_than": math.nan}, {"keep": -1}, {"keep": 1.5}])
def test_a_cleanup_of_less_than_nothing_removes_nothing(given):
    with FlowRunner("memory://") as runner:
        runner.register(lambda: task("only")(lambda: None), "small")
        runner.execute("small", flow_id="kept")
        with pytest.raises(ConfigError, match=f"{next(iter(given))}= is "):
            runner.cleanup(**given)
        assert runner.get_flow_state("kept").status is FlowStatus.COMPLETED


@pytest.mark.parametrize(
    "given",
    [{"seconds": 1e18}, {"seconds": timedelta.max}, {"until": datetime(9000, 1, 1, tzinfo=UTC)}],
    ids=["seconds", "timedelta", "until"],
)
def test_a_sleep_beyond_a_hundred_years_fails_its_step_and_flows_are_listed_as_before(given):
    with FlowRunner("memory://", recovery=False) as runner:

        @task("ask", inject_context=True)
        def ask(context):
            context.flow.sleep(**given)

        runner.register(lambda: ask, "sleeper")
        state = runner.execute("sleeper")
        assert (state.status, "3153600000" in state.error or "100 years" in state.error) == (FlowStatus.FAILED, True)
        assert [each.flow_id for each in runner.list_flows()] == [state.flow_id]
        with pytest.raises(ConfigError, match="is seconds above 0 and up to 3153600000, not 1e"):
            runner.register(lambda: ask, "late", timeout=1e18)


def test_names_that_a_model_could_not_have_and_keyword_inputs_are_taken():
    runner, register, step, calls = echoing()
    register(lambda _private, copy, /, model_dump=1, **others: step(of=(_private, copy, model_dump, others)))
    state = runner.execute("echo", {"_private": 1, "copy": 2, "x": [3]})
    assert state.status is FlowStatus.COMPLETED, state.error
    assert calls == [{"of": (1, 2, 1, {"x": [3]})}]
    assert state.inputs == {"_private": 1, "copy": 2, "model_dump": 1, "x": [3]}


def test_secret_inputs_are_stored_and_masked_wherever_a_flow_is_shown():
    runner, register, step, calls = echoing()

    def build(password: str, key: SecretStr, options: dict[str, str]):
        return step(password=password, key=key.get_secret_value(), options=options)

    register(build)
    inputs = {"password": "p1", "key": "p2", "options": {"api_token": "p3", "name": "n"}}
    state = runner.execute("echo", inputs)
    assert calls == [{"password": "p1", "key": "p2", "options": {"api_token": "p3", "name": "n"}}]
    assert state.inputs["password"] == MASK
    assert state.inputs["options"] == {"api_token": MASK, "name": "n"}
    shown = f"{runner.get_flow_state(state.flow_id)} {runner.list_flows()} {FlowContext('echo', inputs)}"
    assert "p1" not in shown
    assert "p3" not in shown


def test_a_signature_that_cannot_be_that_of_a_flow_is_refused_where_it_is_registered():
    for function, why in (
        (lambda *paths: None, r"takes \*paths"),
        ("text", "a function that builds a workflow"),
    ):
        with pytest.raises(ConfigError, match=why):
            definition_of(function, "wrong")

    def unknown_type(x: "Nowhere"):  # noqa: F821 - it is not there
        """Nothing."""

    with pytest.raises(ConfigError, match="Nowhere"):
        definition_of(unknown_type, "wrong")
    with pytest.raises(ConfigError, match="max_recoveries"):
        definition_of(lambda: None, "wrong", max_recoveries=-1)
    with pytest.raises(ConfigError, match="takes a name"):
        flow(3)


async def coroutine():
    pass


def generator():
    yield


async def both():
    yield


@pytest.mark.parametrize("function", [coroutine, generator, both])
def test_a_function_that_would_build_nothing_when_it_is_called_is_refused(function):
    with pytest.raises(ConfigError, match="has to be a plain `def` without `yield`; tasks may be `async def`"):
        definition_of(function, None)


@task
def load():
    return [3]


@task
def price(rate=2.0):
    return rate


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: load() >> price(), "unsupported operand type(s) for >>: 'list' and 'float'. "),
        (lambda: load() | price(), "unsupported operand type(s) for |: 'list' and 'float'. "),
        (lambda: [load()], "has no tasks. "),
    ],
)
def test_tasks_that_are_called_where_they_should_be_named_are_told_how(build, said):
    with FlowRunner("memory://") as runner:
        runner.register(build, "report")
        error = runner.execute("report").error
    assert said in error
    assert (
        'names its tasks: load >> price, or load(task_id="load") >> price(task_id="price", rate=2); load() runs'
        in error
    )


def _two_beginnings():
    load >> price
    task("other")(lambda: 1) >> price


def _no_beginning():
    load >> price >> load


@pytest.mark.parametrize("build", [_two_beginnings, _no_beginning])
def test_a_flow_that_begins_nowhere_or_twice_is_told_what_a_flow_may_do(build):
    with FlowRunner("memory://") as runner:
        runner.register(build, "report")
        error = runner.execute("report").error
    assert "Put a task before those that begin, as in begin >> load, or " in error
    assert "start_node=" not in error


def test_names_are_given_once_and_near_ones_are_told():
    registry = FlowRegistry()

    def one():
        """Nothing."""

    registry.add(definition_of(one, "document_analysis"))
    registry.add(definition_of(one, "document_analysis"))
    with pytest.raises(ConfigError, match="Two flows are called 'document_analysis'"):
        registry.add(definition_of(lambda: None, "document_analysis"))
    with pytest.raises(FlowNotFoundError, match=r"Flow documnt_analysis not found.*near names: document_analysis"):
        registry.get("documnt_analysis")
    with pytest.raises(ValueError, match="import the module"):
        FlowRegistry().get("any")
    runner = FlowRunner("memory://")
    for ask in (runner.get_flow_state, runner.resume_flow, runner.cancel_flow, runner.pause_flow, runner.result):
        with pytest.raises(FlowNotFoundError, match="Flow nowhere not found"):
            ask("nowhere")


def test_a_flow_function_stays_a_function_and_may_return_a_workflow():
    @flow("inputs_of_flows_returning")
    def returning(n: int):
        with workflow("other") as made:
            task("a")(lambda: n) >> task("b")(lambda: n + 1)
        return made

    assert returning(1).name == "other"
    assert FlowRunner("memory://").execute("inputs_of_flows_returning", {"n": 3}).outputs == 4


def test_a_workflow_without_a_function_goes_on_under_its_id():
    is_mended, ran = [], []

    def made():
        def last():
            ran.append("last")
            if not is_mended:
                raise ValueError("not yet")
            return "end"

        with workflow("by hand") as wf:
            task("first")(lambda: ran.append("first")) >> task("last")(last)
        return wf

    runner = FlowRunner("memory://")
    assert runner.run(made(), flow_id="w").status is FlowStatus.FAILED
    is_mended.append(True)
    state = runner.run(made(), flow_id="w")
    assert (state.status, state.outputs, ran) == (FlowStatus.COMPLETED, "end", ["first", "last", "last"])
    assert runner.run(made(), flow_id="w").version == state.version
    with workflow("another") as other:
        task("first")(lambda: None) >> task("last")(lambda: None)
    with pytest.raises(FlowConflictError, match="'by hand'"):
        runner.run(other, flow_id="w")
    with pytest.raises(FlowNotFoundError):
        runner.retry_failed_step("w", "last")


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()


def test_the_row_of_a_step_has_digests_of_what_it_was_given_and_of_what_it_returned():
    repeated = task("repeated")(lambda word, times: word * times)
    ends = task("ends")(lambda password: None)
    with workflow("w") as wf:
        small = repeated(task_id="small", word="é", times=3)
        small >> repeated(task_id="large", word=["x" * 2000], times=2) >> ends(task_id="secret", password="hunter2")
    with FlowRunner("memory://") as runner:
        state = runner.run(wf, flow_id="f")
    small, large, secret = state.steps
    assert (small.inputs, small.input_digest) == ({"word": "é", "times": 3}, digest('{"word":"é","times":3}'))
    assert (small.outputs, small.output_digest) == ("ééé", digest('"ééé"'))
    assert (large.inputs, large.input_digest) == ({"word": "<list>", "times": 2}, None)
    assert (large.outputs, large.output_digest) == (None, digest(f'["{"x" * 2000}","{"x" * 2000}"]'))
    assert (secret.inputs, secret.input_digest) == ({"password": MASK}, None)
    assert secret.output_digest == digest("null")
