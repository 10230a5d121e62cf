"""A process that sweeps until it has found lost members, and dies before it publishes them."""

from __future__ import annotations

import os
import signal

from graflow_celery.deployment import deployment_of
from tests.record_support import swept
from tests.support import wait_until

if __name__ == "__main__":
    record = deployment_of().record
    wait_until(lambda: any(again.lost for again in swept(record)), 30, interval=0.2)
    os.kill(os.getpid(), signal.SIGKILL)
