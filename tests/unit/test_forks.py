"""Processes that members fork."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import os, signal, sys

from billiard.common import reset_signals
from graflow_celery.worker.main.forks import end_forked_processes_as_others

os.register_at_fork(after_in_child=lambda: os.kill(os.getpid(), signal.SIGTERM))  # as early as it can come
end_forked_processes_as_others()
reset_signals()  # which a pool child does behind what is called at its start
of_pool_child = signal.getsignal(signal.SIGTERM)
child = os.fork()
if not child:
    os._exit(0)  # it lives on
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(signal.getsignal(signal.SIGTERM) is of_pool_child, signal.pthread_sigmask(signal.SIG_BLOCK, []))
"""


def test_a_process_that_is_ended_while_it_is_forked_ends() -> None:
    ran = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False, timeout=60)

    assert ran.stdout.splitlines() == ["-15", "True set()"], ran.stderr
