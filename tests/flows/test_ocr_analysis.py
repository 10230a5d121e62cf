"""The flow `ocr_analysis` over drawn pages, read by a stand-in for the program tesseract."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("PIL", reason="the extra ocr is not installed")
pytest.importorskip("pytesseract", reason="the extra ocr is not installed")

from examples.flows.images import SAMPLES, draw_page, draw_samples
from examples.flows.ocr_analysis import NOT_READ, ocr_analysis
from graflow.exceptions import FlowInputError
from graflow.flows import FlowRunner
from graflow.state import FlowState, FlowStatus, StepStatus

ROOT = Path(__file__).resolve().parents[2]
FLOW = ocr_analysis.__name__

# Called as `tesseract IMAGE OUTPUT ...`, it "reads" any image as an invoice, and tells that it was called.
STAND_IN = """#!/bin/sh
echo called >> "{calls}"
printf 'INVOICE 7\\n\\nPaper 1.50\\nTotal 12.50\\n' > "$2.txt"
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A line for each call of the stand-in, which is the only tesseract that is found."""
    programs, told = tmp_path / "programs", tmp_path / "calls"
    programs.mkdir()
    (programs / "tesseract").write_text(STAND_IN.format(calls=told))
    (programs / "tesseract").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    told.touch()
    return told


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[FlowRunner]:
    with FlowRunner(f"sqlite:///{tmp_path}/flows.db", recovery=False) as made:
        yield made


def analysed(runner: FlowRunner, *paths: object) -> FlowState:
    state = runner.execute(FLOW, {"paths": [str(path) for path in paths]})
    assert state.status is FlowStatus.COMPLETED, state.error
    return state


def test_pages_are_measured_read_and_searched(runner: FlowRunner, calls: Path, tmp_path: Path) -> None:
    draw_samples(tmp_path / "pages")
    found = analysed(runner, tmp_path / "pages").outputs
    assert (found["images"], found["read"], found["totals"]) == (3, 3, [12.5] * 3)
    assert found["frequent"] == ["invoice", "paper", "total"]
    assert [page["first_line"] for page in found["pages"]] == ["INVOICE 7"] * 3
    assert [Path(page["path"]).name for page in found["pages"]] == sorted(SAMPLES)
    assert all(page["size"] == [900, 700] and 0.001 < page["ink"] < 0.2 for page in found["pages"])


def test_a_page_is_read_once_whatever_its_name(runner: FlowRunner, calls: Path, tmp_path: Path) -> None:
    draw_page(tmp_path / "first.png", "one")
    analysed(runner, tmp_path / "first.png")
    draw_page(tmp_path / "again.png", "one")
    draw_page(tmp_path / "other.png", "two")
    state = analysed(runner, tmp_path / "again.png", tmp_path / "other.png")
    assert len(calls.read_text().split()) == 2
    assert [member.status for member in runner.list_members(state.flow_id, "pages")] == [
        StepStatus.CACHED,
        StepStatus.COMPLETED,
    ]
    assert "A kept value was given" in runner.explain_step(state.flow_id, "pages", index=0).text


def test_without_the_program_pages_are_measured_and_read_later(
    runner: FlowRunner, calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_page(tmp_path / "page.png", "one")
    with monkeypatch.context() as without:
        without.setenv("PATH", str(tmp_path))
        found = analysed(runner, tmp_path / "page.png").outputs
    assert (found["images"], found["read"], found["pages"][0]["first_line"]) == (1, 0, None)
    assert analysed(runner, tmp_path / "page.png").outputs["read"] == 1, "nothing was kept of what was not read"


def test_what_is_no_image_is_refused(runner: FlowRunner, tmp_path: Path) -> None:
    for paths, text in (([tmp_path / "absent"], "there is no file or folder"), ([tmp_path], "no images")):
        with pytest.raises(FlowInputError, match=text):
            analysed(runner, *paths)


def test_the_program_says_what_it_could_not_do(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "examples/flows/ocr_analysis.py", "--samples", "pages", "--store", "sqlite:///f.db"],
        cwd=tmp_path,
        env={**os.environ, "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert NOT_READ in done.stdout
    assert "900 x 700" in done.stdout
