"""`make setup` on a bare machine: what is installed is the lock, whatever else lies where pip looks."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from importlib.metadata import distribution
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow

PROJECT = ("Makefile", "pyproject.toml", "README.md", "LICENSE", "graflow", "graflow_celery")
LOCKED = dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "requirements.lock").read_text(encoding="utf-8"), re.MULTILINE))
BUILDS_THE_PROJECT = "setuptools"
NEWER = "9999"


def write_wheel(folder: Path, name: str, version: str, requires: Sequence[str] = (), *, real: bool = False) -> str:
    """Write a wheel that holds metadata only, or the files that are installed here; returns its SHA-256."""
    stem = f"{name.replace('-', '_')}-{version}"
    files = {
        f"{stem}.dist-info/METADATA": "\n".join(
            [
                "Metadata-Version: 2.1",
                f"Name: {name}",
                f"Version: {version}",
                *(f"Requires-Dist: {requirement}" for requirement in requires),
                "",
            ]
        ).encode(),
        f"{stem}.dist-info/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    for path in distribution(name).files or () if real else ():
        if not path.parts[0].endswith(".dist-info") and ".." not in path.parts and path.suffix != ".pyc":
            files[path.as_posix()] = path.read_binary()
        elif path.name == "entry_points.txt":
            files[f"{stem}.dist-info/{path.name}"] = path.read_binary()
    rows = [f"{path},sha256={urlsafe_digest(content)},{len(content)}" for path, content in files.items()]
    files[f"{stem}.dist-info/RECORD"] = "\n".join([*rows, f"{stem}.dist-info/RECORD,,", ""]).encode()
    wheel = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, content in files.items():
            archive.writestr(path, content)
    return hashlib.sha256(wheel.read_bytes()).hexdigest()


def urlsafe_digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


def clone_beside_newer_wheels(folder: Path, **also_required: str) -> Path:
    """The project, and beside it a wheel of each locked name with the requirements of the real one, and a newer one."""
    wheels, clone = folder / "wheels", folder / "clone"
    wheels.mkdir()
    clone.mkdir()
    for name in PROJECT:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, clone / name)
    lock = []
    for name, version in LOCKED.items():
        requires = [*(distribution(name).requires or ()), *filter(None, [also_required.get(name)])]
        digest = write_wheel(wheels, name, version, requires, real=name == BUILDS_THE_PROJECT)
        lock.append(f"{name}=={version} --hash=sha256:{digest}\n")
        write_wheel(wheels, name, NEWER)
    (clone / "requirements.lock").write_text("".join(lock), encoding="utf-8")
    return clone


def set_up(clone: Path) -> subprocess.CompletedProcess[str]:
    """Type `make setup` where pip finds the folder of wheels and nothing else."""
    return subprocess.run(
        ["make", "setup", f"PYTHON={sys.executable}"],
        cwd=clone,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(clone.parent),
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(clone.parent / "wheels"),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
        check=False,
    )


def test_set_up_installs_the_lock_and_looks_for_nothing_else(tmp_path: Path) -> None:
    clone = clone_beside_newer_wheels(tmp_path)

    done = set_up(clone)

    assert done.returncode == 0, done.stdout
    looked_for = re.findall(
        r"^(?:Collecting|Processing|Requirement already satisfied:) (\S+)", done.stdout, re.MULTILINE
    )
    assert sorted(map(of_wheel_or_requirement, looked_for)) == sorted(LOCKED.items())
    installed = dict(map(name_and_version, (clone / ".venv/lib").glob("*/site-packages/*.dist-info")))
    del installed["pip"], installed["graflow-celery"]
    assert installed == LOCKED


def of_wheel_or_requirement(text: str) -> tuple[str, str]:
    """What pip looks for, as old and new ones tell it: the path of a wheel, or `name==version`."""
    name, version = re.split(r"==|-(?=\d)", Path(text).name.removesuffix("-py3-none-any.whl"), maxsplit=1)
    return name.replace("_", "-"), version


def name_and_version(folder: Path) -> tuple[str, str]:
    name, _, version = folder.name.removesuffix(".dist-info").rpartition("-")
    return name.replace("_", "-"), version


def test_set_up_says_what_the_lock_lacks(tmp_path: Path) -> None:
    clone = clone_beside_newer_wheels(tmp_path, celery="not-in-the-lock>=1")
    write_wheel(tmp_path / "wheels", "not-in-the-lock", "1.0")

    done = set_up(clone)

    assert done.returncode != 0
    assert "celery" in done.stdout
    assert "requires not-in-the-lock, which is not installed" in done.stdout
    assert not (clone / ".venv/.ready").exists()
