"""Whatever goes wrong, no member is lost or counted twice: many seeds, and product code with one mistake each."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import redis

from tests.simulation.code_mutants import CODE_MUTANTS, CodeMutant
from tests.simulation.mutants import MUTANTS, Mutant
from tests.simulation.simulate import InvariantError, Simulation, virtual
from tests.support import private_redis

pytestmark = pytest.mark.redis

SEEDS_PER_TEST = 100
SEEDS_PER_MUTANT = 3000


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "first_seed" in metafunc.fixturenames:
        start, count = metafunc.config.getoption("--first-seed"), metafunc.config.getoption("--seeds")
        seeds = range(start, start + count, SEEDS_PER_TEST)
        metafunc.parametrize(
            "first_seed", [seeds[0], *(pytest.param(seed, marks=pytest.mark.slow) for seed in seeds[1:])]
        )


@pytest.fixture(scope="module")
def simulated_server() -> Iterator[redis.Redis]:
    with private_redis(unix_socket=True) as server, server.client() as client:
        yield client


@pytest.fixture
def store(simulated_server: redis.Redis) -> redis.Redis:
    simulated_server.flushall()
    return simulated_server


def run(store: redis.Redis, seed: int) -> None:
    try:
        Simulation(seed, store).run()
    except Exception as error:
        pytest.fail(
            f"seed {seed}: {error!r}\nAgain: pytest tests/simulation -k many_seeds --first-seed {seed} --seeds 1"
        )


@pytest.mark.timeout(600)  # a busy machine takes minutes for a hundred of them
def test_many_seeds_lose_nothing_and_count_nothing_twice(
    store: redis.Redis, first_seed: int, pytestconfig: pytest.Config
) -> None:
    end = pytestconfig.getoption("--first-seed") + pytestconfig.getoption("--seeds")
    for seed in range(first_seed, min(first_seed + SEEDS_PER_TEST, end)):
        run(store, seed)


def run_until_found(store: redis.Redis, load: Callable[[str], str] = virtual) -> None:
    for seed in range(SEEDS_PER_MUTANT):
        store.flushall()
        Simulation(seed, store, load).run()


@pytest.mark.exhaustive
@pytest.mark.timeout(600)  # some mistakes take thousands of simulations to show
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mistake_in_a_script_is_found(store: redis.Redis, mutant: Mutant) -> None:
    load = mutant.load()

    with pytest.raises(InvariantError):
        run_until_found(store, load)


@pytest.mark.exhaustive
@pytest.mark.timeout(600)  # some mistakes take thousands of simulations to show
@pytest.mark.parametrize("mutant", CODE_MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mistake_in_the_code_is_found(store: redis.Redis, mutant: CodeMutant) -> None:
    with mutant.installed(), pytest.raises(InvariantError):
        run_until_found(store)


def test_the_simulations_are_rough(store: redis.Redis) -> None:
    reports = [Simulation(seed, store).run() for seed in range(50)]

    assert all(sum(getattr(report, name) for report in reports) > 10 for name in ("crashes", "freezes", "losses"))
    assert all(sum(getattr(report, name) for report in reports) > 5 for name in ("messages_lost", "messages_doubled"))
    assert sum(report.late for report in reports) > 0
    assert sum(report.rounds for report in reports) > 2
    assert sum(report.steps for report in reports) > 2


def test_a_seed_repeats_itself(store: redis.Redis) -> None:
    assert Simulation(7, store).run() == Simulation(7, store).run()
