"""Of all processes one computes a kept value; when it is killed, another one does."""

import os
import signal

import pytest

from graflow import task
from graflow.flows import FlowRunner
from graflow.flows.cache.sharing import Cache
from graflow.runtime import Runtime
from graflow.state import FlowStatus, StepStatus
from graflow.state.cache import CacheKey, Computation
from graflow.state.memory.cache import MemoryCache
from tests.state.children import in_children, start
from tests.state.conftest import COMMON, address
from tests.support import pass_time, wait_until


@pytest.fixture(params=COMMON)
def url(request, tmp_path):
    return address(request.param, request, tmp_path)


def runner_at(url, effects, seconds):
    """A runner whose flow has one step with a cache that tells the process which ran it, and takes a while."""

    @task(cache=True)
    def slow(x):
        with effects.open("a") as file:
            file.write(f"{os.getpid()}\n")
        pass_time(seconds.get(os.getpid(), 0.2))
        return x * 2

    def build(x: int):
        slow(task_id="slow", x=x)

    runner = FlowRunner(url, recovery=False)
    runner.register(build, "made")
    return runner


def test_of_two_processes_one_computes_and_both_have_the_value(url, tmp_path):
    effects = tmp_path / "effects"

    def work(_):
        with runner_at(url, effects, {}) as runner:
            state = runner.execute("made", {"x": 4})
            return state.outputs, state.steps[0].status.value

    answers = in_children(3, work)
    assert [value for value, _ in answers] == [8, 8, 8]
    assert sorted(status for _, status in answers) == ["cached", "cached", "completed"]
    assert len(effects.read_text().split()) == 1


def test_when_the_process_that_computes_is_killed_another_one_does(url, tmp_path):
    effects = tmp_path / "effects"

    def work(_):
        with runner_at(url, effects, {os.getpid(): 600}) as runner:
            runner.execute("made", {"x": 4})

    child, pipe = start(work)
    wait_until(lambda: effects.exists() and effects.read_text())
    os.kill(child.pid, signal.SIGKILL)
    child.join(60)
    pipe.close()
    with runner_at(url, effects, {}) as runner:
        state = runner.execute("made", {"x": 4})
    assert (state.status, state.outputs) == (FlowStatus.COMPLETED, 8)
    assert state.steps[0].status is StepStatus.COMPLETED
    assert effects.read_text().split() == [str(child.pid), str(os.getpid())]


# -- leases ------------------------------------------------------------------------------------------------------------

KEY = CacheKey("d", "slow", {"code": "c"})
ELSEWHERE = Computation("another-machine:1:1.m", "theirs", 0)


def value_of(cache, wait):
    return cache.value(KEY, lambda: "mine", ttl=None, source={"flow_id": "f"}, wait=wait)


def test_one_on_another_machine_that_is_silent_for_a_lease_is_not_waited_for():
    store = MemoryCache()
    store.begin(KEY, ELSEWHERE, at=0.0, since=0.0)
    waits = []
    value, reason = value_of(Cache(store, Runtime(), lease=0.2), lambda: waits.append(1))
    assert (value, reason.is_hit) == ("mine", False)
    assert waits
    assert not store.fill(KEY, "theirs", "late", at=1.0, expires_at=None, source={})
    assert store.get("d").value == "mine"


class Told(Runtime):
    """A process whose time passes while it sleeps, and only then."""

    now = 0.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


def test_one_that_gives_signs_of_life_is_waited_for_longer_than_a_lease():
    store, runtime = MemoryCache(), Told()
    store.begin(KEY, ELSEWHERE, at=0.0, since=0.0)

    def wait():
        store.beat("d", "theirs")
        if runtime.now > 60:
            store.fill(KEY, "theirs", "theirs", at=1.0, expires_at=None, source={"flow_id": "g"})

    value, reason = value_of(Cache(store, runtime, lease=0.5), wait)
    assert (value, reason.is_hit) == ("theirs", True)
    assert "computed meanwhile" in reason.text


def test_a_computation_gives_signs_of_life_and_one_that_was_given_up_does_not():
    store, seen, wanted = MemoryCache(), [], [True]
    cache = Cache(store, Runtime(), lease=0.2)

    def compute():
        wait_until(lambda: store.begin(KEY, ELSEWHERE, at=0.0, since=0.0).beats > 1)
        wanted.clear()
        taken_over = cache.value(KEY, lambda: "second", ttl=None, source={"flow_id": "g"}, wait=lambda: None)
        seen.append(taken_over.value)
        return "first"

    answer = cache.value(
        KEY, compute, ttl=None, source={"flow_id": "f"}, wait=lambda: None, is_wanted=lambda: bool(wanted)
    )
    assert answer.value == "first"
    assert seen == ["second"]
    assert store.get("d").value == "second"
