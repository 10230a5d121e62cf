"""What `graflow doctor` says of questions that nobody has answered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from graflow import task
from graflow.cli.findings import Asked, Finding, Level
from graflow.cli.flows.checks import checks
from graflow.flows import FlowRunner
from tests.support import wait_until


def _found(store: str) -> list[Finding]:
    return [each for each in checks(Asked(store=store)) if each.topic == "questions"]


def test_open_questions_are_told_with_the_age_of_the_oldest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @task("ask", inject_context=True)
    def ask(context: Any) -> Any:
        return context.ask("Go?", deadline=context.flow.inputs["deadline"])

    def asks(deadline: float | None = None) -> Any:
        return ask

    url = f"sqlite:///{tmp_path / 'flows.db'}"
    with FlowRunner(url) as runner:
        runner.register(asks, "asks")
        first, second = runner.submit("asks"), runner.submit("asks", {"deadline": 3600.0})
        wait_until(lambda: len(runner.questions()) == 2)
        (oldest,) = runner.questions(flow_id=first)
        (finding,) = _found(url)
        assert finding.level is Level.OK
        assert finding.text.startswith("2 are open")

        monkeypatch.setattr("graflow.cli.flows.checks._LONG_OPEN", -1.0)
        (finding,) = _found(url)
        assert (finding.level, "1 of them" in finding.text) == (Level.WARNING, True), "the other one has a deadline"
        runner.answer(oldest.id, True, by="ann")
        (other,) = runner.questions(flow_id=second)
        (finding,) = _found(url)
        assert (finding.level, other.id in finding.text) == (Level.OK, True)
        runner.answer(other.id, True, by="ann")
        assert _found(url) == []
