"""What a command about flows is given that cannot be right ends it with 2, in words, before anything is done."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from graflow.cli.main import graflow
from graflow.flows import FlowRunner
from tests.flows import command_flows


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store with one flow, `s1`."""
    url = f"sqlite:///{tmp_path}/flows.db"
    monkeypatch.setenv("GRAFLOW_FLOW_STORE", url)
    monkeypatch.setenv("GRAFLOW_FLOWS", command_flows.__name__)
    with FlowRunner(url, recovery=False) as runner:
        runner.execute("squares", {"folder": str(tmp_path)}, flow_id="s1")
    return url


def refused(*arguments: str) -> str:
    done = CliRunner().invoke(graflow, ["flow", *arguments], prog_name="graflow")
    assert done.exit_code == 2, done.output
    assert "Traceback" not in done.output
    return done.output


@pytest.mark.parametrize("flow_id", ["", "a\udcff"], ids=["empty", "no text"])
def test_an_id_that_cannot_be_one_makes_no_flow(store: str, tmp_path: Path, flow_id: str) -> None:
    told = "flow_id is a text of 1 to 200 characters"
    assert told in refused("run", "squares", f"folder={tmp_path}", "--id", flow_id)
    assert told in refused("fork", "s1", "squares", "--id", flow_id)
    with FlowRunner(store, recovery=False) as runner:
        assert [flow.flow_id for flow in runner.list_flows()] == ["s1"]


@pytest.mark.parametrize("command", [["show"], ["resume"], ["cancel"], ["show", "--members", "squares"]], ids="-".join)
@pytest.mark.usefixtures("store")
def test_a_flow_of_an_id_that_no_store_can_hold_is_not_found(command: list[str]) -> None:
    assert "not found" in refused(command[0], "a\udcff", *command[1:])


def test_a_store_that_is_a_folder_is_refused(tmp_path: Path) -> None:
    told = f"The store of flows is a file, and {tmp_path} is a folder; name a file in it"
    assert told in refused("list", "--store", f"sqlite:///{tmp_path}")
