"""The flow `document_analysis` over real documents: those of this project, and some whose figures are known."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from examples.flows import documents
from examples.flows.document_analysis import document_analysis
from graflow.exceptions import FlowInputError
from graflow.flows import FlowRunner
from graflow.state import FlowState, FlowStatus, MemoryStore, StepStatus
from graflow_celery import LocalCluster
from tests.support import wait_until

FLOW = document_analysis.__name__
ROOT = Path(__file__).resolve().parents[2]

GUIDE = """# A guide

Read https://example.org/start first. The walrus sleeps on the ice. The walrus eats what the sea gives it.

## The walrus

It sings as well, which few people know, since few people live where the walrus sings in the long night.
"""

WALRUS = '''"""The walrus of Python. See http://example.org."""


class Walrus:
    # the walrus eats
    def eat(self): ...
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five documents, of which two are equal and two nearly so, and a file that is none."""
    docs = tmp_path / "docs"
    (docs / "deep").mkdir(parents=True)
    (docs / "guide.md").write_text(GUIDE)
    (docs / "deep" / "guide.md").write_text(GUIDE)
    (docs / "almost.md").write_text(GUIDE.replace("It sings as well", "It also sings"))
    (docs / "walrus.py").write_text(WALRUS)
    (docs / "notes.rst").write_text("Notes\n=====\n\nNothing of note.\n")
    (docs / "image.png").write_bytes(b"\x89PNG")
    return docs


@pytest.fixture(scope="module")
def own_documents() -> list[str]:
    """The documentation of this project."""
    return documents.documents_under([str(ROOT / "docs")])


def ran(state: FlowState) -> dict[str, Any]:
    """The report of a flow that completed."""
    assert state.status is FlowStatus.COMPLETED, state.error
    assert [step.step_name for step in state.steps] == ["discover", "pages", "comparisons", "report"]
    return state.outputs


def test_the_figures_of_known_documents_are_right(folder: Path) -> None:
    report = ran(FlowRunner(durability="off").execute(FLOW, {"paths": [str(folder)], "top": 3}))
    assert report["documents"] == 5
    assert {kind: totals["documents"] for kind, totals in report["kinds"].items()} == {
        "markdown": 3,
        "python": 1,
        "reStructuredText": 1,
    }
    assert report["kinds"]["markdown"]["headings"] == 6
    assert report["kinds"]["python"] == {"documents": 1, "words": 11, "headings": 2, "links": 1}
    assert report["links"] == 2
    same, near = report["duplicates"]["same"], report["duplicates"]["near"]
    assert same == [[str(folder / "deep" / "guide.md"), str(folder / "guide.md")]]
    assert {tuple(sorted(Path(path).name for path in pair["paths"])) for pair in near} == {("almost.md", "guide.md")}
    assert "walrus" in {keyword["word"] for keyword in report["keywords"]}


def test_a_folder_stands_for_the_documents_that_it_had_when_the_flow_was_made(folder: Path) -> None:
    runner = FlowRunner(MemoryStore(), recovery=False)
    state = runner.execute(FLOW, {"paths": [str(folder), str(folder / "guide.md")]}, flow_id="f")
    assert len(state.inputs["paths"]) == 5
    assert all(Path(path).is_file() for path in state.inputs["paths"])


def test_what_is_no_document_is_refused_before_anything_is_recorded(folder: Path) -> None:
    runner = FlowRunner(MemoryStore(), recovery=False)
    with pytest.raises(FlowInputError, match=r"image.png is neither a folder nor a document \(.md, .py, .rst, .txt\)"):
        runner.execute(FLOW, {"paths": [str(folder / "image.png")]})
    assert runner.list_flows() == []


def test_a_text_is_as_hard_as_flesch_has_it() -> None:
    words = ["the", "cat", "sat", "on", "the", "mat"]
    assert documents.readability(words, 1) == pytest.approx(206.835 - 1.015 * 6 - 84.6, abs=0.1)
    assert documents.readability([], 1) is None


def test_without_a_store_with_one_in_memory_and_in_a_file_it_is_the_same(
    own_documents: list[str], tmp_path: Path
) -> None:
    inputs = {"paths": own_documents, "top": 5}
    unrecorded = FlowRunner(durability="off").execute(FLOW, inputs)
    in_memory = FlowRunner("memory://", recovery=False).execute(FLOW, inputs)
    with FlowRunner(f"sqlite:///{tmp_path}/flows.db", recovery=False) as runner:
        in_file = runner.execute(FLOW, inputs)
        members = runner.list_members(in_file.flow_id, "pages", limit=1000)
    assert ran(in_file) == ran(in_memory) == ran(unrecorded)
    assert len(members) == len(own_documents) == ran(in_file)["documents"]
    assert {member.status for member in members} == {StepStatus.COMPLETED}


def test_a_document_that_is_not_there_fails_the_flow_which_goes_on_when_it_is(folder: Path) -> None:
    runner = FlowRunner(MemoryStore(), recovery=False)
    missing = folder / "missing.md"
    state = runner.execute(FLOW, {"paths": [str(folder), str(missing)]}, flow_id="f")
    assert state.status is FlowStatus.FAILED
    assert (state.error or "").startswith("FileNotFoundError")
    missing.write_text(GUIDE)
    assert ran(runner.resume_flow("f"))["documents"] == 6


# -- on workers --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(workers=2, imports=[documents.__name__]) as cluster:
        yield cluster


@pytest.mark.redis
def test_on_workers_it_is_the_same(
    own_documents: list[str], cluster: LocalCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAFLOW_REDIS_URL", cluster.redis_url.reveal())
    monkeypatch.setenv("GRAFLOW_SIGNING_KEY", cluster.backend_config["signing_key"].reveal())
    here = FlowRunner(durability="off").execute(FLOW, {"paths": own_documents})
    with FlowRunner(f"sqlite:///{tmp_path}/flows.db", recovery=False) as runner:
        on_workers = runner.execute(FLOW, {"paths": own_documents, "backend": "redis"})
        members = runner.list_members(on_workers.flow_id, "pages", limit=1000)
    assert ran(on_workers) == ran(here)
    assert len({member.worker for member in members}) == 2


# -- as a program ------------------------------------------------------------------------------------------------------


def program(*arguments: str, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(ROOT / "examples" / "flows" / "document_analysis.py"), *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_program_prints_its_report_and_leaves_a_flow_to_look_at(folder: Path) -> None:
    running = program("docs", "--top", "2", "--id", "mine", folder=folder.parent)
    printed, errors = running.communicate(timeout=60)
    assert running.returncode == 0, errors
    assert printed.startswith("\n5 documents, ")
    assert re.search(r"Keywords\n  .*walrus", printed)
    assert re.search(r"Flow mine: 4 steps in \d+\.\d\d s\n$", printed)
    with FlowRunner(f"sqlite:///{folder.parent}/.graflow/flows.db", recovery=False) as runner:
        assert ran(runner.get_flow_state("mine"))["documents"] == 5


@pytest.mark.slow
def test_a_program_that_is_killed_and_started_again_measures_no_document_twice(tmp_path: Path) -> None:
    many = [str(path) for path in sorted(Path(subprocess.__file__).parent.glob("*.py"))]
    store = f"sqlite:///{tmp_path}/flows.db"
    arguments = [*many, "--backend", "direct", "--id", "mine", "--store", store]
    running = program(*arguments, folder=tmp_path)
    with FlowRunner(store, recovery=False) as runner:
        wait_until(lambda: measured(runner) >= 10, 60)
        running.send_signal(signal.SIGKILL)
        running.communicate()
        before = runner.list_members("mine", "pages", status=StepStatus.COMPLETED, limit=10_000)
        assert 10 <= len(before) < len(many)
        again = program(*arguments, folder=tmp_path)
        _, errors = again.communicate(timeout=100)
        assert again.returncode == 0, errors
        after = runner.list_members("mine", "pages", limit=10_000)
    assert len(after) == len(many)
    assert after.items[: len(before)] == before.items, "what was measured before the kill is as it was"


def measured(runner: FlowRunner) -> int:
    state = runner.store.get_flow_state("mine")
    steps = [] if state is None else state.steps
    return sum((step.counts or {}).get("completed", 0) for step in steps if step.step_name == "pages")
