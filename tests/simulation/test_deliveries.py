"""Whatever is called in whatever order, no member of a block is lost or counted twice; mistakes are found."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import redis

from graflow.exceptions import GroupNotFoundError
from tests.simulation.block_mutants import BLOCK_MUTANTS
from tests.simulation.deliveries import Deliveries
from tests.simulation.model import InvariantError
from tests.simulation.mutants import Mutant
from tests.support import private_redis

pytestmark = pytest.mark.redis

SEEDS = 120
SEEDS_PER_MUTANT = 6000


@pytest.fixture(scope="module")
def simulated_server() -> Iterator[redis.Redis]:
    with private_redis(unix_socket=True) as server, server.client() as client:
        yield client


def test_any_deliveries_of_blocks_lose_nothing_and_count_nothing_twice(simulated_server: redis.Redis) -> None:
    runs = []
    for seed in range(SEEDS):
        try:
            runs.append(Deliveries(seed, simulated_server).run())
        except Exception as error:
            pytest.fail(f"seed {seed}: {error!r}")
    totals = [run.totals for run in runs]
    assert sum(total.losses for total in totals) > 10
    assert sum(total.late for total in totals) > 10
    assert sum(run.rounds for run in runs) > 10
    assert sum(run.pages for run in runs) > 100
    assert sum(run.splits for run in runs) > 10


@pytest.mark.mutation
@pytest.mark.timeout(600)
@pytest.mark.parametrize("mutant", BLOCK_MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mistake_with_blocks_is_found(simulated_server: redis.Redis, mutant: Mutant) -> None:
    load = mutant.load()

    # What is missing in a record is told by its readers.
    with pytest.raises((InvariantError, GroupNotFoundError)):
        run_until_found(simulated_server, load)


def run_until_found(server: redis.Redis, load: Callable[[str], str]) -> None:
    for seed in range(SEEDS_PER_MUTANT):
        server.flushall()
        Deliveries(seed, server, load).run()
