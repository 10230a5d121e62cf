"""Processes that members fork."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import os, signal, sys

def as_pool_children_do(*_):
    sys.exit(1)

signal.signal(signal.SIGTERM, as_pool_children_do)
os.register_at_fork(after_in_child=lambda: os.kill(os.getpid(), signal.SIGTERM))  # as early as it can come

from graflow_celery.worker.main.forks import end_forked_processes_as_others

end_forked_processes_as_others()
child = os.fork()
if not child:
    os._exit(0)  # it lives on
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(signal.getsignal(signal.SIGTERM) is as_pool_children_do, signal.pthread_sigmask(signal.SIG_BLOCK, []))
"""


def test_a_process_that_is_ended_while_it_is_forked_ends() -> None:
    ran = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False, timeout=60)

    assert ran.stdout.splitlines() == ["-15", "True set()"], ran.stderr
