"""The files in `deploy/`: what they start exists, what they set is read, and what they build on is pinned."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import yaml

from graflow.configuration.variables import known_variables
from graflow.observing import Happening, Level

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
COMPOSE = (ROOT / "deploy" / "docker-compose.yml").read_text(encoding="utf-8")
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE)["services"]
IMAGE = re.compile(r"([a-z0-9-]+/)?[a-z0-9-]+:\d+\.\d+\.\d+[a-z0-9-]*")


def test_every_image_is_pinned_to_a_version_and_comes_from_no_named_host() -> None:
    images = [service["image"] for service in SERVICES.values() if "build" not in service]
    images += re.findall(r"^FROM (\S+)", DOCKERFILE, flags=re.MULTILINE)
    assert len(images) == 4
    for image in images:
        assert IMAGE.fullmatch(image), image


def test_the_services_are_those_of_the_page_and_each_has_a_health_check() -> None:
    assert set(SERVICES) == {"redis", "worker", "api", "flower", "redis-commander"}
    for name, service in SERVICES.items():
        if name != "api":  # whose check is that of the image
            assert service["healthcheck"]["test"][0] == "CMD", name
        assert service["restart"] == "unless-stopped"
    assert "HEALTHCHECK" in DOCKERFILE
    for name in ("worker", "api", "flower", "redis-commander"):
        assert SERVICES[name]["depends_on"]["redis"] == {"condition": "service_healthy"}


def test_redis_keeps_what_it_is_told_and_nobody_else_reaches_the_ports() -> None:
    command = " ".join(SERVICES["redis"]["command"])
    for setting in ("--appendonly yes", "--maxmemory-policy noeviction", "--requirepass ${REDIS_PASSWORD:?"):
        assert setting in command
    volume, folder = SERVICES["redis"]["volumes"][0].split(":")
    assert (volume in yaml.safe_load(COMPOSE)["volumes"], folder) == (True, "/data")
    for service in SERVICES.values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


def test_every_variable_of_ours_is_one_that_is_read_and_secrets_come_from_outside() -> None:
    named = set(re.findall(r"\bGRAFLOW_[A-Z_]+", COMPOSE + DOCKERFILE))
    assert named <= known_variables()
    assert {"GRAFLOW_REDIS_URL", "GRAFLOW_SIGNING_KEY", "GRAFLOW_API_TOKEN"} <= named
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            if re.search("PASSWORD|KEY|TOKEN|AUTH|REDIS_URL", name):
                assert re.search(r"\$\{\w+:\?", value), name


def test_the_command_of_the_server_exists_with_its_options() -> None:
    program, name, *rest = SERVICES["api"]["command"]
    command = next(point for point in entry_points(group="graflow.commands") if point.name == name).load()
    known = {option for parameter in command.params for option in parameter.opts}
    assert program == "graflow"
    assert {each for each in rest if each.startswith("--")} <= known


def test_commands_of_celerys_name_our_application_and_import_the_flows() -> None:
    for name in ("worker", "flower"):
        assert SERVICES[name]["command"][:4] == ["celery", "-A", "graflow_celery", name]
    assert SERVICES["worker"]["command"][-2] == "--graflow-import"


def test_the_image_runs_as_somebody_who_is_not_root_and_holds_the_program_alone() -> None:
    last = DOCKERFILE.rpartition("\nFROM ")[2]
    assert re.search(r"^USER graflow$", last, flags=re.MULTILINE)
    assert "useradd --uid 10001" in last
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert ignored[0] == "**"
    for line in ignored:
        if line.startswith("!"):
            assert (ROOT / line.removeprefix("!").removesuffix("/**")).exists(), line


def test_the_page_names_every_metric() -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    source = (ROOT / "graflow" / "metrics" / "prometheus.py").read_text(encoding="utf-8")
    names = re.findall(r"(Counter|Histogram)\(\s*\"(graflow_\w+)\"", source)
    assert len(names) == len(Happening)
    levels = re.findall(r"Level\.\w+: \(\"(graflow_\w+)\"", source)
    assert len(levels) == len(Level)
    for name in levels:
        assert f"`{name}`" in page, name
    for kind, name in names:
        assert f"`{name}_total`" in page or (kind == "Histogram" and f"`{name}`" in page), name


def test_what_is_mounted_has_a_flow_that_the_server_and_workers_find(tmp_path: Path) -> None:
    source, folder, _ = SERVICES["api"]["volumes"][0].split(":")
    assert f"WORKDIR {folder}" in DOCKERFILE
    mounted = ROOT / "deploy" / source
    module = re.search(r"\$\{GRAFLOW_FLOWS:-(\w+)\}", SERVICES["worker"]["command"][-1])
    assert module is not None
    assert (mounted / f"{module[1]}.py").is_file()
    command = ["-m", "graflow", "flow", "run", "word_count", "texts=@texts.json"]
    (tmp_path / "texts.json").write_text('["one two", "three"]', encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{mounted}", "GRAFLOW_FLOWS": module[1]}
    environment["GRAFLOW_FLOW_STORE"] = f"sqlite:///{tmp_path}/flows.db"
    done = subprocess.run([sys.executable, *command], cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert b"3" in done.stdout
