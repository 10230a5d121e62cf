"""What is counted, how processes count together, and that nothing is imported for it while it is off."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from graflow import task, workflow
from graflow.exceptions import StaleEpochError, StoreUnavailableError
from graflow.flows import FlowRunner
from graflow.flows.recording.stopping import FlowStopped
from graflow.flows.recording.writing import Writer
from graflow.metrics.sharing import SharedCounts
from graflow.observing import Happening, Observer, observe, observers
from graflow.runtime import this_runtime
from graflow.state import MemoryStore
from graflow.state.changes import Change
from graflow.state.statuses import Move
from graflow_celery.worker.batches.tally import Tally
from tests.flows.support import WatchedStore

ROOT = Path(__file__).resolve().parents[2]

RUNS_FLOWS = """
import sys, json, os
from graflow import task, workflow
from graflow.flows import FlowRunner
from graflow.metrics import exposition

@task
def double(n: int) -> int:
    if n < 0:
        raise ValueError(n)
    return n * 2

with FlowRunner("memory://", recovery=False) as runner:
    for n in json.loads(sys.argv[1]):
        with workflow("doubles") as made:
            double(task_id="the-step", n=n)
        runner.run(made, flow_id=f"the-flow-{n}")
text = exposition().decode()
"""


def in_process(code: str, *arguments: object, **environment: object) -> str:
    """What a fresh interpreter prints."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("GRAFLOW_", "PROMETHEUS_"))}
    env |= {name: str(value) for name, value in environment.items()} | {"GRAFLOW_CONFIG": os.devnull}
    command = [sys.executable, "-c", code, *map(json.dumps, arguments)]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def value(text: str, name: str, **labels: str) -> float:
    """The one sample of that name whose labels are these."""
    found = [
        float(number)
        for said, number in re.findall(rf"^{name}{{(.*)}} (\S+)$", text, flags=re.MULTILINE)
        if dict(re.findall(r'(\w+)="([^"]*)"', said)) == labels
    ]
    assert len(found) == 1, text
    return found[0]


@pytest.fixture
def told() -> Iterator[list[tuple[Happening, tuple[str, ...]]]]:
    """What observers hear, without the values."""
    heard: list[tuple[Happening, tuple[str, ...]]] = []

    def hear(what: Happening, number: float, labels: tuple[str, ...]) -> None:
        assert number >= 0
        heard.append((what, labels))

    observers.append(hear)
    yield heard
    observers.remove(hear)


@task
def one() -> int:
    return 1


def only_one() -> Any:
    with workflow("ones") as made:
        one(task_id="one")
    return made


# -- what the library shows --------------------------------------------------------------------------------------------


def test_runs_and_steps_are_counted_by_name_and_end_and_no_id_is_shown() -> None:
    text = in_process(RUNS_FLOWS + "print(text)", [1, 2, -1], GRAFLOW_MONITORING_METRICS="true")
    assert value(text, "graflow_flow_run_seconds_count", flow="doubles", end="completed") == 2
    assert value(text, "graflow_flow_run_seconds_count", flow="doubles", end="failed") == 1
    assert value(text, "graflow_flow_wait_seconds_count", flow="doubles") == 3
    assert value(text, "graflow_step_seconds_count", flow="doubles", end="completed") == 2
    assert value(text, "graflow_step_seconds_count", flow="doubles", end="failed") == 1
    assert value(text, "graflow_step_seconds_bucket", flow="doubles", end="completed", le="7200.0") == 2
    assert value(text, "graflow_step_seconds_bucket", flow="doubles", end="completed", le="+Inf") == 2
    assert 0 < value(text, "graflow_step_seconds_sum", flow="doubles", end="completed") < 60
    assert "the-flow" not in text
    assert "the-step" not in text


def test_processes_count_together_in_a_folder_and_the_dead_are_gathered(tmp_path: Path) -> None:
    shared = {"GRAFLOW_MONITORING_METRICS": "1", "GRAFLOW_MONITORING_METRICS_DIR": tmp_path / "made" / "here"}
    for _ in range(3):
        text = in_process(RUNS_FLOWS + "print(text)", [1, 2], **shared)
    ended = {"flow": "doubles", "end": "completed"}
    assert value(text, "graflow_flow_run_seconds_count", **ended) == 6
    assert value(text, "graflow_flow_run_seconds_bucket", le="+Inf", **ended) == 6
    assert value(text, "graflow_step_seconds_count", **ended) == 6
    files = sorted(path.name for path in (tmp_path / "made" / "here").glob("*.db"))
    assert len(files) == 2, "that of the last process, and one for all before"
    assert "histogram_gathered.db" in files


def test_the_counts_are_shown_at_a_port_and_a_second_process_says_who_has_it(tmp_path: Path) -> None:
    shows = RUNS_FLOWS + (
        "import urllib.request, socket, logging\n"
        "from graflow.metrics import counting\n"
        "port = int(os.environ['GRAFLOW_MONITORING_METRICS_PORT'])\n"
        "print(urllib.request.urlopen(f'http://127.0.0.1:{port}/metrics', timeout=60).read().decode())\n"
        "logging.basicConfig(stream=sys.stdout)\n"
        "counting._served.clear()\n"
        "counting.start_counting()\n"
    )
    with_port = "import socket\nwith socket.create_server(('127.0.0.1', 0)) as s: port = s.getsockname()[1]\n"
    code = f"{with_port}import os\nos.environ['GRAFLOW_MONITORING_METRICS_PORT'] = str(port)\n{shows}"
    text = in_process(code, [4], GRAFLOW_MONITORING_METRICS_DIR=tmp_path)
    assert value(text, "graflow_step_seconds_count", flow="doubles", end="completed") == 1
    assert "Metrics are not shown at 127.0.0.1:" in text
    assert "which shows these counts too" in text


def test_nothing_is_imported_while_metrics_are_off() -> None:
    code = RUNS_FLOWS.replace("text = exposition().decode()", "print('prometheus_client' in sys.modules)")
    assert in_process(code, [1]).strip() == "False"


def test_what_is_missing_is_named_with_its_install_line() -> None:
    code = (
        "import sys\nsys.modules['prometheus_client'] = None\n"
        "from graflow.flows import FlowRunner\nfrom graflow.metrics import exposition\n"
        "for call in (exposition, lambda: FlowRunner('memory://')):\n"
        "    try: call()\n    except ImportError as error: print(error)\n"
    )
    lines = in_process(code, GRAFLOW_MONITORING_METRICS="yes").splitlines()
    assert lines == ["Metrics need prometheus-client; install it with: pip install 'graflow-celery[metrics]'"] * 2


@pytest.mark.slow
def test_processes_count_together_where_something_else_has_imported_the_library_before(tmp_path: Path) -> None:
    code = "import prometheus_client\n" + RUNS_FLOWS
    in_process(code, [1, 2], GRAFLOW_MONITORING_METRICS="1", GRAFLOW_MONITORING_METRICS_DIR=tmp_path)
    in_process(code, [3], GRAFLOW_MONITORING_METRICS="1", GRAFLOW_MONITORING_METRICS_DIR=tmp_path)
    names = {sample.name: sample.value for each in SharedCounts(tmp_path).collect() for sample in each.samples}
    assert names["graflow_step_seconds_count"] == 3


@pytest.mark.slow
def test_a_folder_that_comes_too_late_is_refused(tmp_path: Path) -> None:
    code = (
        "from graflow.metrics import exposition\nfrom graflow.flows import FlowRunner\nexposition()\n"
        "try: FlowRunner('memory://')\nexcept ValueError as error: print(error)\n"
    )
    late = in_process(code, GRAFLOW_MONITORING_METRICS="1", GRAFLOW_MONITORING_METRICS_DIR=tmp_path)
    assert "set PROMETHEUS_MULTIPROC_DIR to that folder" in late
    given = {"GRAFLOW_MONITORING_METRICS_DIR": tmp_path, "PROMETHEUS_MULTIPROC_DIR": tmp_path}
    assert in_process(code, GRAFLOW_MONITORING_METRICS="1", **given) == ""


def test_gathered_steps_are_in_the_buckets_where_single_ones_would_be() -> None:
    code = (
        "import json\nfrom graflow.metrics.prometheus import record, text\nfrom graflow.observing import Happening\n"
        "for seconds in (0.0005, 0.001, 0.0011, 3.0, 3.0, 1e9):\n"
        "    record(Happening.STEP_ENDED, seconds, ('f', 'completed'))\n"
        "print(text().decode())\n"
    )
    shown = in_process(code)
    found = [
        value(shown, "graflow_step_seconds_bucket", flow="f", end="completed", le=bound)
        for bound in ("0.001", "0.005", "1.0", "5.0", "7200.0", "+Inf")
    ]
    assert found == [2, 3, 3, 5, 5, 6]


def test_names_are_those_that_prometheus_asks_for() -> None:
    shown = in_process(RUNS_FLOWS + "print(text)", [1], GRAFLOW_MONITORING_METRICS="true")
    kinds = dict(re.findall(r"^# TYPE (graflow_\S+) (\w+)$", shown, flags=re.MULTILINE))
    kinds = {name: kind for name, kind in kinds.items() if not name.endswith("_created")}
    assert set(kinds.values()) == {"counter", "gauge", "histogram"}
    for name, kind in kinds.items():
        assert re.fullmatch(r"graflow_[a-z_]+", name)
        assert name.endswith("_total") == (kind == "counter"), name
        assert kind != "histogram" or name.endswith("_seconds"), name


ASKS = """
from graflow import task
from graflow.flows import FlowRunner
from graflow.metrics import exposition

@task(inject_context=True)
def release(context):
    return context.ask("Release?")

def build():
    release(task_id="release")

with FlowRunner("memory://", recovery=False) as runner:
    runner.register(build, "made")
    runner.initialize()
    texts = [exposition().decode()]
    runner.submit("made", flow_id="f")
    while not runner.questions():
        pass
    texts.append(exposition().decode())
texts.append(exposition().decode())
print("next".join(texts))
"""


@pytest.mark.parametrize("is_shared", [False, True], ids=["alone", "shared"])
def test_how_long_people_have_let_a_question_wait_is_shown(tmp_path: Path, is_shared: bool) -> None:
    shared = {"GRAFLOW_MONITORING_METRICS_DIR": tmp_path} if is_shared else {}
    before, asked, closed = in_process(ASKS, GRAFLOW_MONITORING_METRICS="1", **shared).split("next")
    assert value(before, "graflow_questions_open", store="memory") == 0
    assert value(before, "graflow_questions_open_seconds", store="memory") == 0
    assert value(asked, "graflow_questions_open", store="memory") == 1
    assert 0 < value(asked, "graflow_questions_open_seconds", store="memory") < 100
    assert "graflow_questions_open{" not in closed


# -- what is told ------------------------------------------------------------------------------------------------------


def test_a_store_that_is_away_is_told(
    told: list[tuple[Happening, tuple[str, ...]]],
) -> None:
    left = [StoreUnavailableError("away"), StoreUnavailableError("away")]

    def away(writes: int) -> None:
        if writes >= 2 and left:
            raise left.pop()

    with FlowRunner(WatchedStore(MemoryStore(), away), recovery=False) as runner:
        runner.run(only_one(), flow_id="f")
    assert told.count((Happening.STORE_FAILED, ("memory",))) == 2
    assert told[-1] == (Happening.FLOW_ENDED, ("ones", "completed"))


def test_a_lease_that_is_lost_is_told(told: list[tuple[Happening, tuple[str, ...]]]) -> None:
    def refuse(_: Change) -> None:
        raise StaleEpochError("f", 1, 2)

    store: Any = SimpleNamespace(append=refuse, url="memory:")
    record: Any = SimpleNamespace(flow_id="f", fields={})
    writer = Writer(store, record, this_runtime(), patience=1.0, is_required=True)
    writer.epoch = 1
    with pytest.raises(FlowStopped):
        writer.append(Change("f", Move.STEP, 1, 0.0))
    assert told == [(Happening.LEASE_LOST, ("flow",))]


def test_an_observer_that_raises_changes_nothing_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def raises(*_: object) -> None:
        raise RuntimeError("no")

    added: list[Observer] = [raises]
    observers.extend(added)
    try:
        with FlowRunner("memory://", recovery=False) as runner:
            assert runner.run(only_one(), flow_id="f").status == "completed"
        observe(Happening.LEASE_LOST, 1.0, "flow")
    finally:
        observers.remove(raises)
    assert "What happened is not counted" in caplog.text


def test_a_batch_tells_what_its_members_came_to(told: list[tuple[Happening, tuple[str, ...]]]) -> None:
    runtime: Any = SimpleNamespace(monotonic=lambda: 5.0)
    tally = Tally(runtime, SimpleNamespace(run_id="r"), None)  # type: ignore[arg-type]
    tally.add(3, SimpleNamespace(blobs={}))  # type: ignore[arg-type]
    tally.tell()
    assert told == [(Happening.BATCH_ENDED, ()), (Happening.MEMBERS_ENDED, ("succeeded",))]
