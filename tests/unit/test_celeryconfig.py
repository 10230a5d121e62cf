"""Who reads the `celeryconfig.py` of the folder that a process runs in."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from celery.bin.celery import celery as celerys_command

from graflow.cli.main import graflow as our_command
from graflow.exceptions import ConfigError
from graflow_celery import celeryconfig as module
from graflow_celery.celeryconfig import PARENT_VARIABLE, celeryconfig, warn_of_unread
from graflow_celery.settings import Settings

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, which is not on the path and has a `celeryconfig.py`."""
    (tmp_path / "celeryconfig.py").write_text("graflow_lease = 7", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in {"", str(ROOT)}])
    monkeypatch.delitem(sys.modules, "celeryconfig", raising=False)
    celeryconfig.cache_clear()
    warn_of_unread.cache_clear()
    yield tmp_path
    celeryconfig.cache_clear()
    sys.modules.pop("celeryconfig", None)


def lease() -> object:
    celeryconfig.cache_clear()
    sys.modules.pop("celeryconfig", None)
    return getattr(celeryconfig(), "graflow_lease", None)


@click.group()
def somebodys_command() -> None:
    """A command line of a program that uses us."""


def test_commands_and_workers_read_it_and_programs_do_not(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert lease() is None
    Settings.load({"host": "h"})
    assert caplog.text == ""
    Settings.load({})
    assert f"celeryconfig.py in {folder} is for commands and workers" in caplog.text
    for command, expected in ((celerys_command, 7), (our_command, 7), (somebodys_command, None)):
        root = click.Context(command)
        with root, click.Context(click.Command("inner"), parent=root):
            assert lease() == expected
    with click.Context(celerys_command):
        monkeypatch.setenv(PARENT_VARIABLE, str(os.getpid()))
        assert lease() is None, "a worker that a program started for itself"


def test_a_program_reads_what_it_can_import(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(folder))
    assert lease() == 7


def test_that_of_another_user_is_read_by_nobody(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = (folder / "celeryconfig.py").stat().st_uid
    monkeypatch.setattr(module.os, "geteuid", lambda: owner + 1)
    if owner == 0:  # what belongs to root is trusted
        os.chown(folder / "celeryconfig.py", 65534, 65534)
        owner = 65534
    says = rf"celeryconfig\.py belongs to another user \(uid {owner}\) and is not read: start in a folder of your own"
    with click.Context(our_command), pytest.raises(ConfigError, match=says):
        lease()
    assert "celeryconfig" not in sys.modules
    monkeypatch.setenv("PYTHONPATH", str(folder))
    with click.Context(our_command):
        assert lease() == 7, "whose folder the user named"
    for relative in (".", f"..{os.sep}{folder.name}"):  # which names any folder, this one by chance
        monkeypatch.setenv("PYTHONPATH", relative)
        with click.Context(our_command), pytest.raises(ConfigError, match=says):
            lease()
    monkeypatch.delenv("PYTHONPATH")
    monkeypatch.syspath_prepend(str(folder))
    with pytest.raises(ConfigError, match=says):  # as in an interpreter that was started there
        lease()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give a file away")
def test_a_link_that_another_user_left_is_not_followed(folder: Path) -> None:
    (folder / "celeryconfig.py").rename(folder / "mine.py")
    (folder / "celeryconfig.py").symlink_to(folder / "mine.py")
    os.lchown(folder / "celeryconfig.py", 65534, 65534)
    with click.Context(our_command), pytest.raises(ConfigError, match="belongs to another user"):
        lease()


def test_a_real_command_reads_it_and_a_real_program_does_not(tmp_path: Path) -> None:
    scripts, folder = tmp_path / "scripts", tmp_path / "folder"
    scripts.mkdir()
    folder.mkdir()
    (folder / "celeryconfig.py").write_text("graflow_lease = 'never'", encoding="utf-8")
    (scripts / "program.py").write_text("from graflow_celery.settings import Settings; Settings.load()", "utf-8")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GRAFLOW_")}
    done = [
        subprocess.run(
            [sys.executable, *command],
            cwd=folder,
            env={**clean, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        for command in ([str(scripts / "program.py")], ["-m", "graflow", "runs", "--url", "redis://127.0.0.1:1/0"])
    ]
    assert done[0].returncode == 0, done[0].stderr
    assert "graflow_lease of celeryconfig.py: it takes a number, not 'never'" in done[1].stderr
