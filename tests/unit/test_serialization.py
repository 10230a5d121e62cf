from __future__ import annotations

import io
import logging
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from graflow.core.graph import TaskGraph
from graflow.core.serialization import dump, dumps, load, loads, pickles_by_value
from graflow.core.task import Task


def test_lambdas_and_closures_survive():
    offset = 5
    assert loads(dumps(lambda x: x + offset))(1) == 6
    assert loads(dumps({"a": [1, (2,)]})) == {"a": [1, (2,)]}


def test_files_work_both_ways():
    file = io.BytesIO()
    dump([1, 2], file)
    file.seek(0)
    assert load(file) == [1, 2]


def test_nothing_is_written_of_what_cannot_be_pickled():
    file = io.BytesIO()
    with pytest.raises(TypeError, match="lock"):
        dump([threading.Lock()], file)
    assert file.getvalue() == b""


def test_text_is_no_pickle():
    with pytest.raises(pickle.UnpicklingError):
        loads(b"plain text")


def test_the_log_names_the_place_of_a_lock_in_a_graph(caplog):
    graph = TaskGraph()
    task = Task("a", register_to_context=False)
    task.lock = threading.Lock()
    graph.add_node(task, "a")
    with caplog.at_level(logging.ERROR), pytest.raises(TypeError, match="lock"):
        dumps(graph)
    assert "A TaskGraph cannot be pickled" in caplog.text
    assert "root._graph._node['a']['task'].lock" in caplog.text


def test_the_log_gives_the_cause_when_there_is_no_lock(caplog):
    with caplog.at_level(logging.ERROR), pytest.raises(TypeError):
        dumps(item for item in [1])
    assert "A generator cannot be pickled: cannot pickle 'generator' object" in caplog.text


def test_functions_of_a_script_travel_as_code_only_while_dumping():
    class Probe:
        def __reduce__(self):
            return str, (f"{pickles_by_value('__main__')} {pickles_by_value('json')}",)

    assert loads(dumps(Probe())) == "True False"
    assert pickle.loads(pickle.dumps(str(pickles_by_value("__main__")))) == "False"


PROGRAM = """
import multiprocessing
from graflow import task
from graflow.core.envelopes.references import reference_of
from graflow.core.serialization import dumps
from graflow.exceptions import TaskResolutionError

@task
def double(number):
    return factor * number

factor = 2

def child():
    try:
        print(reference_of(double))
    except TaskResolutionError as error:
        print("on a worker is another program" in str(error))
    print(dumps(double.func).hex())

if __name__ == "__main__":
    process = multiprocessing.get_context("spawn").Process(target=child)
    process.start()
    process.join()
"""


def test_functions_of_a_script_travel_as_code_from_children_that_it_spawns_too(tmp_path: Path):
    script = tmp_path / "script.py"
    script.write_text(PROGRAM, encoding="utf-8")
    ran = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False, timeout=60)
    is_another_program, pickled = ran.stdout.split()
    assert is_another_program == "True", ran.stderr
    assert loads(bytes.fromhex(pickled))(4) == 8
