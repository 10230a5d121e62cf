"""Somebody sets the server's clock: recovery goes on, and deadlines stay what they were."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from graflow_celery.broker.publisher import MemberPublisher
from graflow_celery.deployment import Deployment, deployment_of
from graflow_celery.record.data.members import Lease
from graflow_celery.record.data.sweeps import Look, Since
from graflow_celery.sweeper import sweep
from tests.record_support import Clock, clocked_record, make_spec, open_group
from tests.support import private_redis


class World:
    """A deployment in a time of its own: that of the server, whose clock can be set, and that which passes."""

    def __init__(self, deployment: Deployment, clock: Clock) -> None:
        self.deployment = deployment
        self.record = deployment.record
        self.clock = clock
        self.steady = 1000.0

    def monotonic(self) -> float:
        return self.steady

    def wait(self, seconds: float) -> None:
        """Time passes, while a sweeper looks at every second."""
        for _ in range(round(seconds)):
            self.steady += 1.0
            self.clock.advance(1.0)
            sweep(self.deployment, 1.0)

    @property
    def state(self) -> str:
        return str(self.record.status("run").state)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(MemberPublisher, "publish", lambda *_, **__: None)
    with private_redis() as server, server.client() as client:
        deployment = deployment_of({"url": server.url})
        record, clock = clocked_record(client, "graflow")
        monkeypatch.setattr(deployment, "record", record)
        made = World(deployment, clock)
        monkeypatch.setattr(deployment.runtime, "monotonic", made.monotonic)
        yield made
        client.flushall()


STEPS = pytest.mark.parametrize("step", [-3600.0, -60.0, 60.0, 3600.0])


@STEPS
@pytest.mark.redis
def test_a_lost_member_is_found_within_its_lease_though_the_clock_was_set(world: World, step: float) -> None:
    # Given a member whose worker has died, and a clock that is set then
    open_group(world.record, n=1, lease=5.0)
    world.wait(2)
    world.record.claim("run", [0], "dead")
    world.clock.advance(step)

    # When its lease is over, and half of it that everybody has whose beats were in between
    world.wait(4)
    assert world.record.status("run").losses == 0
    world.wait(6)
    assert world.record.status("run").losses == 1


@STEPS
@pytest.mark.redis
def test_a_group_has_the_time_that_it_was_given_though_the_clock_is_set(world: World, step: float) -> None:
    open_group(world.record, n=1, timeout=30.0)
    world.wait(5)
    world.clock.advance(step)
    world.wait(20)
    assert world.state == "RUNNING"
    world.wait(7)
    assert world.state == "FAILED"


@STEPS
@pytest.mark.redis
def test_a_member_that_nobody_claims_is_published_in_its_time(world: World, step: float) -> None:
    open_group(world.record, n=1, queue_wait=20.0)
    world.wait(5)
    world.clock.advance(step)
    world.wait(2)
    assert world.record.look().due == []
    before = world.record.now()
    world.wait(10)
    assert 9 < world.record.now() - before < 11


@pytest.mark.redis
def test_the_time_is_the_server_s_own_again_when_nothing_is_open(world: World) -> None:
    open_group(world.record, n=1)
    world.wait(2)
    world.clock.advance(-3600)
    world.wait(2)
    assert abs(world.record.now() - world.clock.now) > 3000
    world.record.cancel("run")

    open_group(world.record, "next", n=1)
    assert world.record.now() == world.clock.now


@pytest.mark.redis
def test_a_run_whose_owner_is_silent_is_taken_over_though_the_clock_was_set_back(world: World) -> None:
    # Given a run whose owner has died, and a clock that was set back
    owners = world.record.owners
    owners.claim("session", "a", "dead", lease=10.0, kept=1e6)
    world.clock.advance(-3600)

    # When another one has watched it for a lease
    seen = owners.claim("session", "b", "here", lease=10.0, kept=1e6)
    assert (seen.mine, seen.lease) == (False, 10.0)
    assert not owners.claim("session", "b", "here", lease=10.0, kept=1e6, seen=seen).mine
    assert owners.claim("session", "b", "here", lease=10.0, kept=1e6, seen=seen, is_over=True).mine

    # Then a third that saw the same before does not get it
    assert not owners.claim("session", "c", "there", lease=10.0, kept=1e6, seen=seen, is_over=True).mine


@pytest.mark.redis
def test_steps_are_told_from_time_that_has_passed(world: World) -> None:
    record, clock = world.record, world.clock
    first = record.look()

    # Time that passes, with a little drift, or while the answer takes long
    clock.advance(5.4)
    second = record.look(since=Since(first.time, 5.0, 5.1))
    clock.advance(15)
    third = record.look(since=Since(second.time, 1.0, 15.1))
    assert (second.step, third.step) == (0.0, 0.0)

    # Set ahead, then back
    clock.advance(3601)
    ahead = record.look(since=Since(third.time, 1.0, 1.0))
    clock.advance(-59)
    back = record.look(since=Since(ahead.time, 1.0, 1.0))
    assert (ahead.step, back.step) == (3600.0, -60.0)
    assert back.time - third.time == pytest.approx(2.0)


@pytest.mark.redis
def test_a_sweeper_that_stood_still_alone_takes_nobody_s_clock_for_set(world: World) -> None:
    mine = world.record.look()
    for _ in range(600):
        world.clock.advance(1)
        world.record.look()
    assert world.record.look(since=Since(mine.time, 1.0, 1.0)).step == 0.0


@pytest.mark.redis
def test_a_new_sweeper_sees_that_the_clock_was_set_back_and_leaves_a_long_pause_to_others(world: World) -> None:
    open_group(world.record, n=1)
    world.record.look()
    world.clock.advance(-60)
    now = world.record.now()
    assert world.record.look().step == -60.0
    assert world.record.now() == now

    world.clock.advance(3600)
    assert world.record.look().due == []
    assert world.record.now() > now + 3000, "nobody can tell yet"


@STEPS
@pytest.mark.parametrize("stride", [0, 2])
@pytest.mark.redis
def test_what_dies_or_fails_in_the_wrong_time_is_found_in_its_time(world: World, step: float, stride: int) -> None:
    # Given members that are claimed, or to be tried again, while the clock is wrong, by workers that die then
    spec = make_spec(n=6, lease=5.0, stride=stride)
    assert world.record.open(spec, [b"members"] * (spec.blocks if stride else spec.n)).created
    world.wait(2)
    world.clock.advance(step)
    if stride:
        assert world.record.claim_blocks("run", [(0, 1)], "dead").granted
    else:
        assert len(world.record.claim("run", [0, 1], "dead").granted) == 2
    [failing] = world.record.claim("run", [2], "alive").granted
    world.record.retry("run", "alive", 2, failing.attempt, 4.0)
    assert world.record.claim("run", [3], "killed").granted
    world.record.abandon("run", "killed", [3])

    # When somebody sees that it was set; and a beat still comes for one whose worker is dead
    world.wait(1)
    world.record.beat([Lease("run", 3, 1, "killed")])

    # Then each is found when it would have been
    world.wait(14)
    assert world.record.status("run").losses == 3
    assert world.record.claim("run", [2], "alive").granted


@STEPS
@pytest.mark.redis
def test_a_step_while_nothing_was_open_is_not_made_up_for_against_the_next_run(world: World, step: float) -> None:
    # Given one that looked, then a clock that was set while no run was open, and a run that began in the new time
    mine = world.record.look()
    world.clock.advance(step)
    open_group(world.record, n=1)
    began = world.record.now()

    # When it looks again after ten seconds in which nobody did
    world.clock.advance(10)
    looked = world.record.look(since=Since(mine.time, 11.0, 11.0))

    # Then the run's time has gone on
    assert looked.step == 0.0
    assert world.record.now() == began + 10


@pytest.mark.redis
def test_one_that_first_looked_in_the_wrong_time_does_not_bring_it_back(world: World) -> None:
    # Given a clock that is set ahead, one that looks for the first time before that is seen, and one that sees it
    open_group(world.record, n=1)
    old = world.record.look()
    world.clock.advance(3600)
    new = world.record.look()
    world.clock.advance(1)
    assert world.record.look(since=Since(old.time, 1.0, 1.0)).step == pytest.approx(3600.0, abs=2)
    world.record.settle_step()
    mended = world.record.now()

    # When the first looks again
    world.clock.advance(1)
    again = world.record.look(since=Since(new.time, 2.0, 2.0))

    # Then the time stays mended
    assert again.step == 0.0
    assert world.record.now() == pytest.approx(mended + 1)


@pytest.mark.parametrize(("step", "frozen_at"), [(0.0, 1), (60.0, 1), (3600.0, 1), (3600.0, 2)])
@pytest.mark.redis
def test_a_sweeper_that_stands_still_before_it_asks_takes_that_for_no_step(
    world: World, monkeypatch: pytest.MonkeyPatch, step: float, frozen_at: int
) -> None:
    # Given the only sweeper, and a clock that is set, or not
    open_group(world.record, n=1)
    world.wait(2)
    before = world.record.now()
    world.clock.advance(step)

    # When it stands still for a minute after it has looked at its own clock, before it asks the server
    look, asked = world.record.look, []

    def frozen(**since: Any) -> Look:
        asked.append(since)
        if len(asked) == frozen_at:
            world.steady += 60.0
            world.clock.advance(60.0)
        return look(**since)

    monkeypatch.setattr(world.record, "look", frozen)
    world.wait(5)

    # Then time has gone on by what has passed
    assert world.record.now() - before == pytest.approx(65.0, abs=2.0)


@pytest.mark.redis
def test_a_step_is_dealt_with_though_whoever_found_it_cannot_tell(world: World) -> None:
    # Given a member that dies while the clock is ahead, and a look that finds this, of which nothing is heard any more
    open_group(world.record, n=1, lease=5.0)
    world.wait(2)
    world.clock.advance(3600)
    assert world.record.claim("run", [0], "dead").granted
    world.record.abandon("run", "dead", [0])
    before = world.record.look(interval=1e6)
    world.clock.advance(-3600)
    assert world.record.look(since=Since(before.time, 0.0, 0.1)).step == -3600.0

    # When others look
    assert world.record.look().step == -3600.0
    world.wait(10)

    # Then one of them finds what died in the wrong time, and no further look is told of the step
    assert world.record.status("run").losses == 1
    assert world.record.look().step == 0.0
