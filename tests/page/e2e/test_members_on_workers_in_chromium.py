"""Members of a flow that real workers run, as the page follows them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from graflow_celery import LocalCluster
from tests.flows import on_workers
from tests.page.e2e.conftest import Server, found_by_axe, pictured
from tests.support import wait_until


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with LocalCluster(workers=1, imports=[on_workers.__name__]) as cluster:
        config = cluster.backend_config
        variables = {
            "GRAFLOW_REDIS_URL": config["url"].reveal(),
            "GRAFLOW_KEY_PREFIX": config["key_prefix"],
            "GRAFLOW_SIGNING_KEY": config["signing_key"].reveal(),
        }
        made = Server(tmp_path_factory.mktemp("page"), flows=on_workers.__name__, variables=variables)
        made.start()
        yield made
        made.kill()


def test_a_member_that_a_worker_runs_is_running_in_the_strip_the_table_and_its_drawer(
    server: Server, page: Any, tmp_path: Path
) -> None:
    page.goto(f"{server.run('telling_on_workers', 'told', folder=str(tmp_path))}?step=telling")
    row = page.locator("member-table [data-row]", has_text="running")
    row.wait_for()
    assert row.count() == 1, "there is one slot"
    assert "@" in row.inner_text()
    page.locator(".members-head .chip", has_text="running").get_by_text("1").wait_for()
    page.locator(".members-head .chip", has_text="pending").get_by_text("3").wait_for()
    assert page.locator(".members-head svg.strip rect.s-running").count() == 1
    pictured(page, "members-on-workers")

    row.get_by_role("button").click()
    drawer = page.locator("aside.drawer")
    drawer.get_by_text("1 of 2 half").wait_for()
    assert "@" in drawer.locator("dt:text-is('Worker') + dd").inner_text()
    assert found_by_axe(page) == []

    (tmp_path / "go").touch()
    drawer.locator("header", has_text="completed").wait_for()
    page.get_by_label("Back to all members").click()
    page.locator(".members-head .chip", has_text="completed").get_by_text("4").wait_for()
    wait_until(lambda: page.locator("member-table [data-row]", has_text="completed").count() == 4)
