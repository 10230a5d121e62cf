"""Every code block of the README and of the docs does what its page says."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from graflow.configuration.project import project_settings
from graflow.signing import generate_key
from graflow_celery import LocalCluster
from graflow_celery.settings import OWN_KEYS, Settings
from tests.scenario.markdown import PAGES, ROOT, Block, anchors_of, blocks_of, links_of, promised_output, script_of
from tests.support import free_port, wait_until

LANGUAGES = {"python", "bash", "yaml", "text"}
SERVICES = {"worker": "ready.", "flower": "Visit me at"}  # what each prints once it serves
DRY = {"make"}  # commands that take minutes: only that they would run is looked at; other tests run their parts
PAGES_WITH_CODE = [page for page in PAGES if any(block.language in {"python", "bash"} for block in blocks_of(page))]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def environment(folder: Path) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("GRAFLOW_")}
    return kept | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', '')}",
        "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}",
        "PYTHONUNBUFFERED": "1",
        "XDG_STATE_HOME": str(folder / "state-home"),
    }


def service_of(command: str) -> str | None:
    words = shlex.split(command, comments=True)
    return words[3] if words[:3] == ["celery", "-A", "graflow_celery"] and words[3] in SERVICES else None


@contextmanager
def running(command: str, folder: Path, env: dict[str, str]) -> Iterator[None]:
    """The service that the command starts, from the moment that it serves."""
    log = folder / f"{service_of(command)}.log"
    words = shlex.split(command.replace("5555", str(free_port())), comments=True)
    words += ["--loglevel=INFO"] if service_of(command) == "worker" else []  # where it says that it is ready
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(words, cwd=folder, env=env, stdout=output, stderr=output, start_new_session=True)
    try:
        sign = SERVICES[service_of(command) or ""]
        wait_until(lambda: sign in log.read_text(encoding="utf-8") or process.poll() is not None, timeout=60)
        assert process.poll() is None, log.read_text(encoding="utf-8")
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout=60)


def run_commands(block: Block, folder: Path, env: dict[str, str], services: ExitStack) -> None:
    rest = []
    for line in block.text.splitlines():
        if service_of(line):
            services.enter_context(running(line, folder, env))
        elif line.split(" ")[0] in DRY:
            subprocess.run(
                ["make", "--dry-run", *shlex.split(line, comments=True)[1:]], cwd=ROOT, check=True, timeout=60
            )
        else:
            rest.append(line)
    subprocess.run(["bash", "-euc", "\n".join(rest)], cwd=folder, env=env, check=True, timeout=150)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_is_in_a_language_that_is_run_or_is_plain_text(page: Path) -> None:
    assert {block.language for block in blocks_of(page)} <= LANGUAGES


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_of_yaml_is_a_config_that_can_be_read(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("GRAFLOW_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GRAFLOW_CONFIG", str(tmp_path / "config.yaml"))
    for block in blocks_of(page):
        if block.language == "yaml":
            (tmp_path / "config.yaml").write_text(block.text, encoding="utf-8")
            project_settings()
            Settings.load()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in links_of(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors_of(target), link


def test_the_table_of_settings_has_every_setting_with_its_default() -> None:
    page = (ROOT / "docs/distributed.md").read_text(encoding="utf-8")
    table = next(part for part in page.split("\n\n") if part.startswith("| key |"))
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \|", table, re.MULTILINE)
    documented = {key: default.strip().strip('`"') for key, default in rows}
    assert set(documented) >= OWN_KEYS
    for key in OWN_KEYS:
        default = Settings.model_fields[key].default
        assert default is None or documented[key] in {
            str(default),
            f"{default:g}" if isinstance(default, float) else "",
        }, key


def test_the_readme_shows_a_complete_example_before_its_twentieth_line() -> None:
    first = next(block for block in blocks_of(ROOT / "README.md") if block.language == "python")
    assert first.line + first.text.count("\n") <= 20


def has_services(page: Path) -> bool:
    lines = (line for block in blocks_of(page) if block.language == "bash" for line in block.text.splitlines())
    return any(map(service_of, lines))


def worth_a_minute(page: Path) -> list[pytest.MarkDecorator]:
    """Of the pages that start workers and a Flower, each run of `make test` tries the first that a user reads.

    `tests/integration/test_pytest_plugin.py` has what the page with workers of its own tests says.
    """
    has_workers = has_services(page) or any("graflow_cluster_options" in block.text for block in blocks_of(page))
    return [pytest.mark.slow] if has_workers and page != ROOT / "README.md" else []


@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=worth_a_minute(page), id=name_of(page)) for page in PAGES_WITH_CODE]
)
def test_the_blocks_of_a_page_run_in_order_and_print_what_the_page_says(page: Path, tmp_path: Path) -> None:
    blocks = blocks_of(page)
    env = environment(tmp_path)
    for block in blocks:
        if block.title:
            (tmp_path / block.title).write_text(block.text, encoding="utf-8")
    with ExitStack() as services:
        if has_services(page):
            cluster = services.enter_context(LocalCluster(workers=0))
            env |= {"GRAFLOW_REDIS_URL": cluster.redis_url.reveal(), "GRAFLOW_SIGNING_KEY": generate_key()}
        for block in blocks:
            if block.language == "bash":
                run_commands(block, tmp_path, env, services)
        script = script_of([block for block in blocks if block.language == "python" and not block.title])
        program = tmp_path / f"{page.stem.lower()}_page.py"
        program.write_text(script, encoding="utf-8")
        done = subprocess.run(
            [sys.executable, program.name],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
    assert done.returncode == 0, f"{name_of(page)}:\n{done.stderr}"
    shown = iter(done.stdout.splitlines())
    for promise in promised_output(script):
        assert promise in shown, f"{name_of(page)} promises {promise!r}; it printed:\n{done.stdout}"
