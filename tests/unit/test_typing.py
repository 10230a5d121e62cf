"""mypy knows what tasks and workflows return, and refuses calls that would fail."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
USER = ROOT / "tests/typing/tasks.py"
SETTINGS = ROOT / "tests/typing/mypy.ini"


def test_types_and_errors_of_a_users_file_are_those_it_expects(tmp_path):
    command = [sys.executable, "-m", "mypy", f"--config-file={SETTINGS}", f"--cache-dir={tmp_path}"]
    ended = subprocess.run(
        [*command, "--no-error-summary", str(USER)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    said = re.findall(r"tasks\.py:(\d+): (error: .*|note: Revealed type is \".*\")", ended.stdout)
    wanted = {
        number: text
        for number, line in enumerate(USER.read_text(encoding="utf-8").splitlines(), 1)
        for text in re.findall(r"  # ((?:reveals|error): .*)", line)
    }
    seen = {int(number): text.replace('note: Revealed type is "', "reveals: ").rstrip('"') for number, text in said}
    assert seen.keys() == wanted.keys(), ended.stdout + ended.stderr
    for number, text in wanted.items():
        assert seen[number].startswith(text), (number, seen[number])
