"""Real processes are killed at each single write of asking, waiting, answering, waking and taking."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from contextlib import closing
from typing import Any

import pytest

from graflow.flows import FlowRunner
from graflow.questions.drafts import broken_line
from graflow.state import FlowStatus
from tests.flows.killed_while_asking import ANSWER, desk, store_of
from tests.support import wait_until


def killed_at(folder, moment, *url) -> list[int]:
    """Numbers of the writes at which a process was killed: all that there are."""
    command = [sys.executable, "-m", "tests.flows.killed_while_asking", str(folder), moment, *url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return list(map(int, done.stdout.split()))


def go_on(store, notes) -> list[dict[str, Any]]:
    """Have another process, this one, do what is left; the log of the question."""
    with FlowRunner(store, notifiers=desk(notes)) as runner:
        runner.submit("killed_while_asking", flow_id="f")

        def is_over() -> bool:
            for question in runner.questions():
                runner.answer(question.id, ANSWER, by="ann")
            told = notes.read_text("utf-8").splitlines() if notes.exists() else []
            return len(told) >= 2 and runner.get_flow_state("f").status is FlowStatus.COMPLETED

        wait_until(is_over, timeout=60)
        assert runner.result("f") == ANSWER
        (question,) = runner.questions(None)
        wait_until(lambda: all(each.due is None for each in runner.question(question.id).notices), timeout=60)
        return runner.audit(question.id)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("moment", ["after", "before"])
@pytest.mark.parametrize("kind", ["sqlite", pytest.param("redis", marks=pytest.mark.redis)])
def test_whichever_write_is_the_last_nothing_is_lost_and_nobody_asked_or_told_twice(
    kind, moment, tmp_path, monkeypatch, request
):
    monkeypatch.setenv("GRAFLOW_FLOW_ENGINE_POLL_INTERVAL", "0.05")
    url = [request.getfixturevalue("redis_server").url] if kind == "redis" else []
    writes = killed_at(tmp_path, moment, *url)
    assert len(writes) >= 14
    for write in writes:
        notes = tmp_path / f"{write}.txt"
        with closing(store_of(tmp_path, write, *url)) as store:
            log = go_on(store, notes)
        counts = Counter(line["what"] for line in log)
        assert [counts[what] for what in ("asked", "voted", "settled", "taken")] == [1, 1, 1, 1], write
        assert counts["woken"] <= 1, write
        assert broken_line(log) is None
        told = Counter(notes.read_text("utf-8").splitlines())
        assert {line.partition(" ")[0] for line in told} == {"asked", "settled"}
        assert len(told) == 2, "whoever keeps the ids of notices hears each once"
        # One that does not hears it again only where the process dies between telling it and noting that.
        assert sum(told.values()) <= (2 if moment == "after" else 3), write
