"""What the description of the API promises: no server error, and no answer that it does not describe."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_no_request_gets_an_answer_that_is_not_described() -> None:
    probing = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.api.probing"],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        timeout=560,
        check=False,
    )
    assert probing.returncode == 0, probing.stdout[-1000:] + probing.stderr[-8000:]
    asked = probing.stdout.splitlines()
    assert {"POST /api/v1/sums/execute", "GET /api/v1/{flow}/status/{flow_id}", "GET /api/v1/stats"} <= set(asked)
