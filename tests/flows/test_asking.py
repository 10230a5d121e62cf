"""Questions at the command line."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from graflow.cli.flows.asking import answer, question, questions, signal
from graflow.cli.flows.running import retry
from graflow.flows import FlowRunner
from graflow.questions import Question
from tests.flows import command_flows
from tests.flows.support import asked
from tests.support import wait_until


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("GRAFLOW_SIGNING_KEY", "k1:" + "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s=")
    made = f"sqlite:///{tmp_path}/flows.db"
    monkeypatch.setenv("GRAFLOW_FLOW_STORE", made)
    return made


def waiting(runner: FlowRunner, flow_id: str) -> Question:
    """The question that a flow waits for, once it is put away."""
    wait_until(lambda: runner.questions(flow_id=flow_id) and runner.get_flow_state(flow_id).owner is None)
    return runner.questions(flow_id=flow_id)[0]


def run(command: Any, *args: str) -> Result:
    return CliRunner().invoke(command, list(args))


def test_a_question_is_listed_answered_and_logged(url: str) -> None:
    with FlowRunner(url) as runner:
        flow_id, found = asked(runner, "Which?", str)
        (line,) = run(questions, "--open", "--json").output.splitlines()
        assert json.loads(line)["id"] == found.id
        assert "Which?" in run(questions).output
        assert run(questions, "--of", "alice", "--flow", "nobody").exit_code == 0
        assert "anybody" in run(question, "show", found.id).output
        assert run(answer, found.id, "--value", "3").exit_code == 2
        assert run(answer, found.id, "--value", "three").exit_code == 2, "no JSON"
        assert run(answer, found.id).exit_code == 2
        assert run(answer, "q-0", "--approve").exit_code == 2
        done = run(answer, found.id, "--value", '"beta"', "--by", "ann", "--reason", "new")
        assert (done.exit_code, "answered by ann" in done.output) == (0, True)
        assert run(answer, found.id, "--value", '"beta"', "--by", "ann").exit_code == 0, "the same again"
        late = run(answer, found.id, "--value", '"stable"', "--by", "bob")
        assert (late.exit_code, "answered by ann (cli)" in late.output) == (3, True)
        assert runner.wait(flow_id, 60).outputs == "beta"
        lines = [json.loads(each) for each in run(question, "audit", found.id).output.splitlines()]
        told = [(each["what"], each["via"]) for each in lines]
        assert told[:3] == [("asked", ""), ("viewed", "cli"), ("refused", "cli")], "a value of another type"
        assert [what for what, _ in told[3:5]] == ["voted", "settled"]


def test_a_retry_at_the_command_line_asks_people_again_where_that_is_said(url: str) -> None:
    flows = ("--flows", command_flows.__name__)
    with FlowRunner(url) as runner, ThreadPoolExecutor(1) as elsewhere:
        flow_id = runner.submit("asks_people")
        found = waiting(runner, flow_id)
        assert (found.flow_name, found.step) == ("asks_people", "ask")
        assert "asks_people: ask" in run(questions).output
        assert run(answer, found.id, "--reject", "--by", "ann").exit_code == 0
        assert runner.wait(flow_id, 60).outputs is False
        plans = [run(retry, flow_id, "ask", *more, *flows, "--dry-run").output for more in ((), ("--ask-again",))]
        assert plans[0] != plans[1]
        retried = elsewhere.submit(run, retry, flow_id, "ask", "--ask-again", "--quiet", *flows)
        again = waiting(runner, flow_id)
        assert again.id != found.id
        runner.answer(again.id, True, by="ann")  # no command, as two at once would have one output
        assert retried.result(60).exit_code == 0
        assert runner.get_flow_state(flow_id).outputs is True


def test_a_question_is_taken_back_and_a_flow_is_told_of_a_signal(url: str) -> None:
    with FlowRunner(url) as runner:
        flow_id, found = asked(runner, "Pay?", of=["alice", "bob"], needs=2)
        assert run(answer, found.id, "--approve", "--by", "alice").exit_code == 2, "two are needed, who can show it"
        assert run(question, "link", found.id, "--for", "alice").output.startswith("/answer/")
        assert run(question, "link", found.id, "--for", "mallory").exit_code == 2
        assert "nobody is told" in run(question, "remind", found.id).output
        assert run(signal, flow_id, "bank", '{"paid": 3}', "--id", "e1").output == "Told\n"
        assert run(signal, flow_id, "bank", '{"paid": 3}', "--id", "e1").output == "It had been told before\n"
        assert run(signal, "nobody", "bank").exit_code == 2
        assert run(question, "withdraw", found.id, "--reason", "no need").exit_code == 0
        assert run(question, "withdraw", found.id).exit_code == 3
        runner.wait(flow_id, 60)
