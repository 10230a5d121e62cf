"""Who continues a run of a workflow: the script on the clock of Redis, and the claim of a process."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from graflow import task, workflow
from graflow.channels.redis_channel import RedisChannel
from graflow.coordination.coordinator import CoordinationBackend
from graflow.core.checkpoint import CheckpointManager
from graflow.core.context import ExecutionContext
from graflow.core.engine import WorkflowEngine
from graflow.core.graph import TaskGraph
from graflow.core.task import ParallelGroup
from graflow.exceptions import GraflowRuntimeError, RunOwnedError
from graflow_celery import GroupHandle, RecordUnreachableError, attach
from graflow_celery.client.run_owner import RunClaim, claim_run
from graflow_celery.deployment import Deployment, Patience, deployment_of
from graflow_celery.record import GroupRecord, Owner
from graflow_celery.settings import GroupOptions, Settings
from tests.checkpoint_support import RUNS, noting
from tests.integration import members
from tests.record_support import Clock
from tests.support import PrivateRedis, private_redis, wait_until

pytestmark = pytest.mark.redis

LEASE, KEPT = 6.0, 60.0
SHORT = GroupOptions(run_lease=0.6)


def claim(record: GroupRecord, token: str, seen: Owner | None = None) -> Owner:
    return record.owners.claim("session", token, f"host:{token}", lease=LEASE, kept=KEPT, seen=seen)


def beat(record: GroupRecord, token: str) -> Owner:
    return record.owners.beat("session", token, f"host:{token}", lease=LEASE, kept=KEPT)


# the script: claiming


def test_a_free_run_is_claimed_and_others_learn_who_has_it(record: GroupRecord, clock: Clock) -> None:
    mine = claim(record, "a")
    clock.advance(2)
    other = claim(record, "b")

    assert (mine.mine, mine.epoch, mine.name, mine.since, mine.left) == (True, 1, "host:a", clock.now - 2, LEASE)
    assert other == replace(mine, mine=False, left=4.0)


def test_a_repeated_claim_answers_the_same(record: GroupRecord) -> None:
    assert claim(record, "a") == claim(record, "a")


def test_a_run_that_was_left_behind_is_taken_over_with_a_higher_epoch(record: GroupRecord, clock: Clock) -> None:
    claim(record, "a")
    seen = claim(record, "b")
    clock.advance(LEASE)

    assert claim(record, "b", seen) == Owner(True, 2, "host:b", clock.now, round((clock.now + LEASE) * 1000), LEASE)
    assert not claim(record, "c", seen).mine, "of two that waited one gets it"


def test_a_run_whose_owner_beat_since_it_was_seen_is_not_taken(record: GroupRecord, clock: Clock) -> None:
    claim(record, "a")
    seen = claim(record, "b")
    clock.advance(2)
    beat(record, "a")
    clock.advance(LEASE)

    assert claim(record, "b", seen).ends != seen.ends
    assert claim(record, "c").mine, "by now it is silent, for somebody who comes fresh"


def test_a_run_that_ended_since_it_was_seen_is_not_begun_again(record: GroupRecord) -> None:
    claim(record, "a")
    seen = claim(record, "b")
    record.owners.release("session", "a")

    told = claim(record, "b", seen)
    assert (told.mine, told.name) == (False, "host:a")


def test_runs_do_not_meet(record: GroupRecord) -> None:
    assert claim(record, "a").mine
    assert record.owners.claim("another", "b", "host:b", lease=LEASE, kept=KEPT).mine


# the script: beats and release


def test_beats_keep_a_run(record: GroupRecord, clock: Clock) -> None:
    claim(record, "a")
    for _ in range(5):
        clock.advance(LEASE - 1)
        assert beat(record, "a").mine
    assert not claim(record, "b").mine


def test_a_run_that_nobody_else_claimed_is_still_mine_after_the_lease(record: GroupRecord, clock: Clock) -> None:
    first = claim(record, "a")
    clock.advance(10 * LEASE)
    assert beat(record, "a") == replace(first, ends=round((clock.now + LEASE) * 1000))


def test_a_beat_loses_to_whoever_claimed_meanwhile_even_when_that_one_has_ended(
    record: GroupRecord, clock: Clock
) -> None:
    claim(record, "a")
    clock.advance(LEASE)
    claim(record, "b")

    assert (beat(record, "a").mine, beat(record, "a").name) == (False, "host:b")
    record.owners.release("session", "b")
    assert (beat(record, "a").mine, beat(record, "a").name) == (False, "host:b")


def test_a_beat_after_the_release_does_not_bring_the_claim_back(record: GroupRecord) -> None:
    claim(record, "a")
    assert record.owners.release("session", "a")
    assert not beat(record, "a").mine
    assert claim(record, "b").mine


def test_a_beat_writes_again_what_the_server_has_forgotten(record: GroupRecord) -> None:
    claim(record, "a")
    record.client.delete(record.keys.owner("session"))

    assert beat(record, "a").mine
    assert not claim(record, "b").mine


def test_only_the_owner_releases_and_may_repeat_it(record: GroupRecord) -> None:
    claim(record, "a")
    assert not record.owners.release("session", "b")
    assert beat(record, "a").mine
    assert [record.owners.release("session", "a"), record.owners.release("session", "a")] == [True, False]
    assert not record.owners.release("nowhere", "a")


def test_the_key_expires_by_itself_whatever_was_called_last(record: GroupRecord, clock: Clock) -> None:
    key = record.keys.owner("session")

    def left() -> float:
        remaining: Any = record.client.pttl(key)
        return float(remaining) / 1000

    for call in (lambda: claim(record, "a"), lambda: beat(record, "a"), lambda: claim(record, "b")):
        call()
        assert 0 < left() <= KEPT
    record.owners.release("session", "a")
    assert 0 < left() <= KEPT


# the claim of a process


@pytest.fixture
def server() -> Iterator[PrivateRedis]:
    with private_redis() as running:
        yield running


@pytest.fixture
def deployment(server: PrivateRedis) -> Deployment:
    return deployment_of(server.connection)


def running_context(session: str = "session") -> ExecutionContext:
    context = ExecutionContext(TaskGraph(), session_id=session)
    context.engine = WorkflowEngine()
    return context


def rival(deployment: Deployment, token: str = "rival") -> Owner:
    return deployment.record.owners.claim("session", token, "elsewhere:1", lease=LEASE, kept=KEPT)


def forget_owner(deployment: Deployment) -> None:
    deployment.client.delete(deployment.record.keys.owner("session"))


def test_an_execution_claims_once_however_many_groups_it_has(deployment: Deployment, server: PrivateRedis) -> None:
    context = running_context()
    other_name = deployment_of({**server.connection, "host": "localhost"})

    first = claim_run(deployment, context, GroupOptions())
    assert claim_run(deployment, context, GroupOptions()) is first
    assert claim_run(other_name, context, GroupOptions()) is not None, "two names of one server are no two executions"
    assert deployment.client.hget(deployment.record.keys.owner("session"), "epoch") == b"1"

    context.holdings.release_all(None)
    assert rival(deployment).mine


def test_a_group_outside_of_any_run_claims_nothing(deployment: Deployment) -> None:
    assert claim_run(deployment, ExecutionContext(TaskGraph(), session_id="session"), GroupOptions()) is None
    assert rival(deployment).mine


def test_a_claim_is_kept_by_beats_alone(deployment: Deployment) -> None:
    context = running_context()
    claim_run(deployment, context, SHORT)
    first = rival(deployment)

    wait_until(lambda: rival(deployment).ends != first.ends)
    assert not rival(deployment).mine
    context.holdings.release_all(None)


def test_beats_tell_that_the_claim_is_lost(deployment: Deployment, caplog: pytest.LogCaptureFixture) -> None:
    context = running_context()
    made = claim_run(deployment, context, SHORT)
    assert made is not None
    forget_owner(deployment)
    rival(deployment)

    wait_until(lambda: made.error is not None)
    with pytest.raises(RunOwnedError) as caught:
        context.holdings.check()
    assert (caught.value.session_id, caught.value.owner) == ("session", "elsewhere:1")
    wait_until(lambda: "belongs to elsewhere:1" in caplog.text)
    with pytest.raises(RunOwnedError):
        context.holdings.release_all(None)
    assert not rival(deployment, "third").mine, "what is lost is not released"


def test_a_run_that_could_not_beat_waits_for_the_server_and_goes_on(
    deployment: Deployment, server: PrivateRedis, caplog: pytest.LogCaptureFixture
) -> None:
    context = running_context()
    claim_run(deployment, context, SHORT)
    server.kill()
    wait_until(lambda: made_of(context)._silent() > SHORT.run_lease)

    restart = threading.Thread(target=lambda: (wait_until(lambda: "waits for" in caplog.text), server.start()))
    restart.start()
    context.holdings.check()
    restart.join()

    assert "to know that no other process has taken it over" in caplog.text
    assert not rival(deployment).mine
    context.holdings.release_all(None)


def made_of(context: ExecutionContext) -> RunClaim:
    (made,) = context.holdings.held.values()
    assert isinstance(made, RunClaim)
    return made


@pytest.mark.slow
def test_a_server_that_stays_away_ends_the_run(server: PrivateRedis) -> None:
    deployment = Deployment(Settings.load(server.connection), patience=Patience(waiter=1.0))
    context = running_context()
    claim_run(deployment, context, SHORT)
    server.kill()
    wait_until(lambda: made_of(context)._silent() > SHORT.run_lease)

    with pytest.raises(RecordUnreachableError, match="resume the run when the server is back"):
        context.holdings.check()
    context.holdings.release_all(None)


def test_a_forked_child_does_not_release_the_claim_of_its_parent(deployment: Deployment) -> None:
    context = running_context()
    claim_run(deployment, context, GroupOptions())

    child = os.fork()
    if child == 0:
        context.holdings.release_all(None)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)

    assert not rival(deployment).mine
    context.holdings.release_all(None)


def test_a_server_that_is_away_is_an_error_before_anything_runs(server: PrivateRedis) -> None:
    server.kill()
    with pytest.raises(RecordUnreachableError, match="does not answer"):
        claim_run(deployment_of(server.connection), running_context(), GroupOptions())


def test_a_full_server_is_an_error_before_anything_runs(deployment: Deployment, server: PrivateRedis) -> None:
    server.client().config_set("maxmemory", 1)
    with pytest.raises(GraflowRuntimeError, match="out of memory"):
        claim_run(deployment, running_context(), GroupOptions())


# runs


def flow_of(config: dict[str, Any], steps: list[str], after: Any = None) -> ExecutionContext:
    """`first >> group on workers >> after >> last`, each local step noted."""
    with workflow("owned") as flow:

        @task(inject_context=True)
        def first(context: Any) -> None:
            steps.append("first")

        @task(inject_context=True)
        def between(context: Any) -> None:
            steps.append("between")
            if after is not None:
                after(context)

        @task
        def last() -> str:
            steps.append("last")
            return "end"

        pair = ParallelGroup([members.noop(task_id="a", x=1), members.noop(task_id="b", x=2)], name="pair")
        _ = first >> pair.with_execution("redis", backend_config=config) >> between >> last
    return ExecutionContext.create(flow.graph, "first")


def owner_fields(config: dict[str, Any], session: str) -> dict[bytes, bytes]:
    deployment = deployment_of(config)
    found: Any = deployment.client.hgetall(deployment.record.keys.owner(session))
    return found


def test_a_run_is_owned_to_its_end_and_free_after_it(config: dict[str, Any]) -> None:
    seen: list[dict[bytes, bytes]] = []
    context = flow_of(config, [], lambda inner: seen.append(owner_fields(config, inner.session_id)))

    assert context.execute() == "end"

    assert seen[0][b"token"]
    assert seen[0][b"name"].endswith(f":{os.getpid()}".encode())
    assert owner_fields(config, context.session_id)[b"token"] == b""
    assert deployment_of(config).client.pttl(deployment_of(config).record.keys.owner(context.session_id)) > 0
    assert not context.holdings.held


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()], ids=["failure", "Ctrl-C"])
def test_a_run_that_fails_is_free_at_once_and_goes_on_in_the_same_process(
    config: dict[str, Any], error: BaseException
) -> None:
    errors, steps = [error], list[str]()

    def fail_once(_: Any) -> None:
        if errors:
            raise errors.pop()

    context = flow_of(config, steps, fail_once)
    with pytest.raises((GraflowRuntimeError, KeyboardInterrupt)):
        context.execute()
    assert owner_fields(config, context.session_id)[b"token"] == b""

    assert context.execute() == "end"
    assert steps == ["first", "between", "between", "last"]
    assert owner_fields(config, context.session_id)[b"epoch"] == b"2"


def lose(config: dict[str, Any], run: ExecutionContext) -> None:
    """Have another process take the run over, and return when this one has heard of it."""
    record = deployment_of(config).record
    record.client.delete(record.keys.owner(run.session_id))
    assert record.owners.claim(run.session_id, "rival", "elsewhere:1", lease=LEASE, kept=KEPT).mine
    wait_until(lambda: run.holdings.error is not None)


@pytest.mark.slow
def test_a_run_that_is_lost_between_two_steps_stops_there(config: dict[str, Any]) -> None:
    steps: list[str] = []
    config = {**config, "run_lease": SHORT.run_lease}
    context = flow_of(config, steps, lambda inner: lose(config, inner.execution_context))
    with pytest.raises(RunOwnedError, match="belongs to elsewhere:1"):
        context.execute()
    assert steps == ["first", "between"]
    assert context.queue.to_list() == ["last"]
    assert owner_fields(config, context.session_id)[b"token"] == b"rival"


@pytest.mark.slow
def test_a_run_that_is_lost_while_it_waits_leaves_the_group_to_the_other(
    config: dict[str, Any], tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    with workflow("owned") as flow:
        waits = members.reports_and_waits(task_id="waits", mark=str(mark))
        group = ParallelGroup([waits, members.noop(task_id="b", x=2)], name="pair")
        backend = {**config, "run_lease": SHORT.run_lease}
        _ = group.with_execution("redis", backend_config=backend) >> members.noop(task_id="last", x=3)
    context = ExecutionContext.create(flow.graph, "pair")
    context.channel.set("given", 7)
    run_id = f"{context.session_id}:pair:0"

    with ThreadPoolExecutor(1) as pool:
        execution = pool.submit(context.execute)
        wait_until(lambda: context.holdings.held and deployment_of(config).record.open_groups() == [run_id])
        lose(config, context)
        with pytest.raises(RunOwnedError, match="belongs to elsewhere:1"):
            execution.result(30)
        mark.touch()

    assert not context.has_completed("last")
    assert attach(run_id, config).results(timeout=120) == ["ended", 2]
    shared = RedisChannel(run_id, **deployment_of(config).connection)
    assert shared.get("given") == 7, "what the members share is still needed"
    shared.clear()


@pytest.fixture
def secrets_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, Any]], None]:
    """Lets checkpoints find their secrets, and the key that signs them."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))

    def provide(config: dict[str, Any]) -> None:
        monkeypatch.setenv("GRAFLOW_REDIS_URL", config["url"].reveal())
        monkeypatch.setenv("GRAFLOW_SIGNING_KEY", config["signing_key"].reveal())

    return provide


def saved_after_first_step(graph: TaskGraph, folder: Path) -> str:
    context = ExecutionContext.create(graph, "first", max_steps=1, on_max_steps="warn")
    with pytest.warns(UserWarning, match="max_steps"):
        context.execute()
    return CheckpointManager.create_checkpoint(context, path=folder / "saved")[0]


def resumed(path: str) -> ExecutionContext:
    context, _ = CheckpointManager.resume_from_checkpoint(path)
    context.max_steps = 100
    return context


@pytest.mark.slow
def test_a_resumed_run_is_refused_before_any_step_while_its_owner_lives(
    config: dict[str, Any],
    tmp_path: Path,
    secrets_known: Callable[[dict[str, Any]], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    secrets_known(config)
    RUNS.clear()
    with workflow("owned") as flow:
        pair = ParallelGroup([members.noop(task_id="a", x=1), members.noop(task_id="b", x=2)], name="pair")
        pair.with_execution("redis", backend_config=config)
        _ = noting("first") >> noting("second") >> pair >> noting("last")
    path = saved_after_first_step(flow.graph, tmp_path)
    owner = running_context(resumed(path).session_id)
    claim_run(deployment_of(config), owner, GroupOptions())

    with pytest.raises(RunOwnedError) as caught:
        resumed(path).execute()
    assert caught.value.owner.endswith(f":{os.getpid()}")
    assert "to see whether that process is alive" in caplog.text
    assert RUNS == ["first"]

    owner.holdings.release_all(None)
    assert resumed(path).execute() == "last"
    assert RUNS == ["first", "second", "last"]


def test_whoever_follows_a_group_by_its_handle_owns_nothing(config: dict[str, Any]) -> None:
    handles: list[GroupHandle] = []
    context = flow_of(config, [], lambda inner: handles.append(attach(f"{inner.session_id}:pair:0", config)))
    assert context.execute() == "end"
    assert handles[0].results(timeout=120) == [1, 2]
    assert attach(handles[0].run_id, config).results(timeout=120) == [1, 2]


def test_two_threads_that_execute_one_run_are_told_apart(config: dict[str, Any]) -> None:
    steps: list[str] = []
    meeting = threading.Barrier(2)
    contexts = [flow_of(config, steps) for _ in range(2)]
    contexts[1].session_id = contexts[0].session_id

    def run(context: ExecutionContext) -> Any:
        meeting.wait(60)
        try:
            return context.execute()
        except RunOwnedError as error:
            return error.session_id

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(run, contexts))
    assert set(results) == {"end", contexts[0].session_id}
    assert steps.count("between") == steps.count("last") == 1


@pytest.mark.slow
def test_a_group_inside_a_member_on_a_worker_is_no_business_of_a_resumed_run(
    config: dict[str, Any], tmp_path: Path, secrets_known: Callable[[dict[str, Any]], None]
) -> None:
    """The server of the inner group is one that only workers may reach."""
    secrets_known(config)
    RUNS.clear()
    with workflow("nested") as flow:
        inner = ParallelGroup([members.noop(task_id="a", x=1), members.noop(task_id="b", x=2)], name="inner")
        inner.with_execution(CoordinationBackend.REDIS, backend_config={"url": "redis://127.0.0.1:1/0"})
        outer = ParallelGroup([inner, members.noop(task_id="c", x=3)], name="outer")
        _ = noting("first") >> noting("second") >> outer.with_execution("redis", config, policy="best_effort")
    path = saved_after_first_step(flow.graph, tmp_path)

    resumed(path).execute()

    assert RUNS == ["first", "second"]
    assert owner_fields(config, resumed(path).session_id)[b"epoch"] == b"1"


def test_waiting_is_told_in_the_log_and_a_silent_owner_is_taken_over(
    deployment: Deployment, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    deployment.record.owners.claim("session", "dead", "elsewhere:1", lease=0.5, kept=KEPT)

    context = running_context()
    claim_run(deployment, context, GroupOptions())

    assert "belongs to elsewhere:1; waiting for up to 0.5 s" in caplog.text
    assert "is taken over from elsewhere:1, which is silent; epoch 2" in caplog.text
    context.holdings.release_all(None)
