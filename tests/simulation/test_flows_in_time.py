"""Whatever goes wrong, a durable flow ends as if nothing had; and product code with one mistake each is found."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from graflow.core.durable import taking_over
from graflow.flows.recording import identity, owner, writing
from graflow.flows.running import execution
from graflow.state import memory, transitions
from tests.simulation.code_mutants import CodeMutant
from tests.simulation.flow_world import FlowWorld, Report
from tests.simulation.simulate import InvariantError

SEEDS_AT_FIRST = 30
SEEDS_PER_TEST = 100
SEEDS_PER_MUTANT = 400

MUTANTS = [
    CodeMutant(
        "a write whose answer got lost is written again",
        writing,
        "                return self._written_once(change)\n",
        "                return self._written(change)\n",
    ),
    CodeMutant(
        "who frees a flow and finds it taken takes it all the same",
        execution,
        "return freed if freed is not None and freed.status is FlowStatus.QUEUED else None",
        "return freed",
    ),
    CodeMutant("every owner is silent", identity, "return now - seen[1] >= self._lease", "return True"),
    CodeMutant("an epoch is not looked at", transitions, "if change.guard != epoch:", "if False:"),
    CodeMutant(
        "a claim is no compare-and-set",
        memory,
        "if (present.status, present.epoch, present.beats) != (seen.status, seen.epoch, seen.beats):",
        "if False:",
    ),
    CodeMutant(
        "the channel is not taken over",
        taking_over,
        'self._channel.replay(operations_from_data(outcome.get("channel", ()), node))\n        if is_group(task):\n'
        "            frame",
        "pass\n        if is_group(task):\n            frame",
    ),
    CodeMutant(
        "members are not taken over",
        taking_over,
        "for group_id, outcomes in self._members.items():",
        "for group_id, outcomes in ():",
    ),
    CodeMutant("nobody beats", owner, "self.hear(self._store.beat(self.flow_id, epoch))", "return"),
    CodeMutant("a jump is forgotten", taking_over, 'for task_id in outcome.get("queued", ()):', "for task_id in ():"),
]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seeds" in metafunc.fixturenames:
        start, count = metafunc.config.getoption("--first-seed"), metafunc.config.getoption("--seeds")
        first = range(start, start + min(count, SEEDS_AT_FIRST))
        rest = [
            range(seed, min(seed + SEEDS_PER_TEST, start + count))
            for seed in range(first.stop, start + count, SEEDS_PER_TEST)
        ]
        metafunc.parametrize(
            "seeds", [first, *(pytest.param(seeds, marks=pytest.mark.slow) for seeds in rest)], ids=str
        )


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def run(seed: int) -> Report:
    return FlowWorld(seed, is_fair=seed % 10 == 0).run()


@pytest.mark.timeout(600)  # a busy machine takes minutes for a hundred of them
def test_many_flows_end_as_if_nothing_had_happened(seeds: range) -> None:
    for seed in seeds:
        try:
            run(seed)
        except Exception as error:
            pytest.fail(
                f"seed {seed}: {error!r}\nAgain: pytest tests/simulation -k many_flows --first-seed {seed} --seeds 1"
            )


def run_until_found() -> None:
    for seed in range(SEEDS_PER_MUTANT):
        run(seed)


@pytest.mark.mutation
@pytest.mark.timeout(600)
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mistake_in_the_code_of_flows_is_found(mutant: CodeMutant) -> None:
    with mutant.installed(), pytest.raises(InvariantError):
        run_until_found()


def test_the_simulations_of_flows_are_rough() -> None:
    reports = [run(seed) for seed in range(1, 26)]

    assert all(sum(getattr(report, name) for report in reports) > 5 for name in ("crashes", "freezes", "takeovers"))
    assert all(sum(getattr(report, name) for report in reports) > 3 for name in ("lost_answers", "refused", "outages"))


def test_a_seed_of_flows_repeats_itself() -> None:
    assert run(7) == run(7)
