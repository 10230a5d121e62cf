"""Which code a resumed run has: digests, the script's functions of now, and what is said about differences."""

from __future__ import annotations

import subprocess
import sys

import pytest

from graflow import exceptions
from graflow.core.checkpoint import CheckpointManager
from graflow.core.checkpoints.code_digest import digest_of


def made(source):
    space = {}
    exec(source, space)
    return space["f"]


SAME = "def f(x, y=1):\n    return [a + y for a in x if a != 'no']\n"


@pytest.mark.parametrize(
    "source",
    [
        "\n\n\n" + SAME,
        "def f(x, y=1):\n    'Says so.'\n\n    # and why\n    return [a + y for a in x if a != 'no']\n",
    ],
)
def test_place_and_words_do_not_count(source):
    assert digest_of(made(source)) == digest_of(made(SAME))


@pytest.mark.parametrize(
    "source",
    [
        SAME.replace("'no'", "'yes'"),
        SAME.replace("y=1", "y=2"),
        SAME.replace("a + y", "a - y"),
        SAME.replace("if a", "if x and a"),
        SAME.replace("(x, y=1)", "(x, z=1, y=1)"),
    ],
)
def test_what_it_does_counts(source):
    assert digest_of(made(source)) != digest_of(made(SAME))


def test_sets_look_alike_in_every_process_and_builtins_have_no_digest():
    home = "graflow.core.checkpoints.code_digest"
    code = f"from {home} import digest_of\nprint(digest_of(lambda x: x in {{'a', 'b', 'c', 'd'}}))"
    seen = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in "123"
    }
    assert len(seen) == 1
    assert digest_of(len) is None


SCRIPT = """
import sys
from graflow import task, workflow
from graflow.core.checkpoint import CheckpointManager
from graflow.core.engine import WorkflowEngine

@task(inject_context=True)
def first(context):
    context.checkpoint(path="ck")
    return 1

@task
def second(first):
    BODY

def resume():
    return WorkflowEngine().execute(CheckpointManager.resume_from_checkpoint("ck", code=sys.argv[2])[0])

if sys.argv[1] == "bare":
    print(resume())
else:
    with workflow("w") as wf:
        first >> second
        MORE
        print(wf.execute() if sys.argv[1] == "run" else resume())
"""


@pytest.fixture
def run_script(tmp_path):
    def run(body, *arguments, more="pass"):
        (tmp_path / "job.py").write_text(SCRIPT.replace("BODY", body).replace("MORE", more), encoding="utf-8")
        command = [sys.executable, "job.py", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)

    return run


def test_a_corrected_script_goes_on_with_its_own_code_and_says_so(run_script):
    assert "the bug" in run_script("raise ValueError('the bug')", "run").stderr
    for how in ("inside", "bare"):
        again = run_script("return 'corrected'", how, "present")
        assert again.stdout == "corrected\n"
        assert "UserWarning" in again.stderr
        assert "'second' runs other code (" in again.stderr
        assert "'first'" not in again.stderr
    kept = run_script("return 'corrected'", "inside", "saved")
    assert "ValueError: the bug" in kept.stderr
    same = run_script("raise ValueError('the bug')", "inside", "present")
    assert "other code" not in same.stderr


def test_steps_that_the_workflow_has_now_are_told(run_script):
    run_script("raise ValueError('the bug')", "run")
    more = "second >> task(id='third')(lambda: 3)"
    again = run_script("return 'corrected'", "inside", "present", more=more)
    assert "'third' is new in the workflow and does not run" in again.stderr
    assert again.stdout == "corrected\n"


NAMELESS = """
import sys
from graflow import task, workflow
from graflow.core.checkpoint import CheckpointManager

def save(context):
    context.checkpoint(path="ck")
    return 1

with workflow("other") as other:
    task(id="unlike")(lambda: 0)

with workflow("w") as wf:
    task(id="first", inject_context=True)(save) >> task(id="second")(lambda first: BODY)
    MORE

if sys.argv[1] == "run":
    print(wf.execute())
else:
    print(CheckpointManager.resume_from_checkpoint("ck")[0].execute())
"""


def test_a_resume_after_the_block_knows_the_workflow_of_the_script(tmp_path):
    def run(how, body, more):
        (tmp_path / "job.py").write_text(NAMELESS.replace("BODY", body).replace("MORE", more), encoding="utf-8")
        return subprocess.run(
            [sys.executable, "job.py", how], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
        )

    assert run("run", "first + 1", "pass").stdout == "2\n"
    assert not run("resume", "first + 1", "pass").stderr
    again = run("resume", "first + 100", "wf.graph.get_node('second') >> task(id='third')(lambda: 3)")
    assert again.stdout == "101\n"
    assert "'second' runs other code (" in again.stderr
    assert "'third' is new in the workflow and does not run" in again.stderr


def test_another_choice_of_code_is_refused():
    with pytest.raises(exceptions.ConfigError, match=r"'present' or 'saved', not 'new'"):
        CheckpointManager.resume_from_checkpoint("nowhere", code="new")
