"""Messages are doubled, replaced, broken; payloads are too big or cannot be kept."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import graflow_celery
from graflow.exceptions import PayloadError, TaskResolutionError
from tests.faults.harness import Cluster, cluster, observed
from tests.faults.members import big, unkeepable, work
from tests.support import wait_until

QUEUE = "graflow:broker:graflow"


def test_a_doubled_message_runs_no_member_twice(tmp_path: Path) -> None:
    with cluster(tmp_path, workers=0) as running:
        group = running.submit(80)
        client = running.server.client()
        for frame in client.lrange(QUEUE, 0, -1):
            client.lpush(QUEUE, frame)
            client.rpush(QUEUE, frame)
        begun = time.time()
        running.start(2)

        row = running.finish("13", "every message three times", group, begun)
        wait_until(lambda: client.llen(QUEUE) == 0, 60)
        assert row.executions == 80
        assert group.count("started") == 80


def replace_messages(running: Cluster, change: Callable[[dict], dict | bytes]) -> None:
    """Change every message that waits."""
    client = running.server.client()
    frames = client.lrange(QUEUE, 0, -1)
    client.delete(QUEUE)
    for frame in frames:
        changed = change(json.loads(frame))
        client.rpush(QUEUE, changed if isinstance(changed, bytes) else json.dumps(changed))


def of_another_version(frame: dict) -> dict:
    args, kwargs, embed = json.loads(base64.b64decode(frame["body"]))
    kwargs["version"] = 99
    return {**frame, "body": base64.b64encode(json.dumps([args, kwargs, embed]).encode()).decode()}


def truncated(frame: dict) -> dict:
    body = base64.b64decode(frame["body"])
    return {**frame, "body": base64.b64encode(body[: len(body) // 2]).decode()}


def flipped(frame: dict) -> dict:
    body = bytearray(base64.b64decode(frame["body"]))
    body[len(body) // 3] ^= 0x80
    return {**frame, "body": base64.b64encode(bytes(body)).decode()}


def without_run(frame: dict) -> dict:
    return {**frame, "body": base64.b64encode(b"[[], {}, {}]").decode()}


def of_unknown_task(frame: dict) -> dict:
    return {**frame, "headers": {**frame["headers"], "task": "os.system"}}


@pytest.mark.parametrize("change", [of_another_version, truncated, flipped, without_run, of_unknown_task])
def test_members_whose_messages_cannot_be_read_are_published_again(
    tmp_path: Path, change: Callable[[dict], dict | bytes]
) -> None:
    with cluster(tmp_path, workers=0, queue_wait=3.0) as running:
        group = running.submit(20, 0.01)
        replace_messages(running, change)
        begun = time.time()
        running.start(1)
        name = change.__name__.replace("_", " ")
        row = running.finish("29", f"messages {name}", group, begun, note="queue wait 3 s")
        assert row.executions == 20


def test_a_message_that_comes_again_after_the_end_runs_nothing(tmp_path: Path) -> None:
    with cluster(tmp_path, workers=0) as running:
        group = running.submit(20, 0.01)
        client = running.server.client()
        frames = client.lrange(QUEUE, 0, -1)
        running.start(1)
        running.finish("29", "replayed after DONE and after expiry", group, time.time())

        for gone in (False, True):
            if gone:
                running.record.delete(group.run_id)
            client.rpush(QUEUE, *frames)
            again = running.submit(1, 0.0)
            again.handle.results(timeout=20)
            wait_until(lambda: client.llen(QUEUE) == 0, 60)
        assert group.count("started") == 20


def peak_mebibytes(pid: int) -> int:
    """The most memory that a process has ever held."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) >> 10
    return 0


def test_two_hundred_megabytes_are_refused_with_a_hint_or_travel_as_they_are(tmp_path: Path) -> None:
    with cluster(tmp_path, workers=1, concurrency=1) as running:
        client = running.server.client()
        huge = "x" * (200 << 20)  # text inside other data travels as JSON
        with pytest.raises(PayloadError, match="send a path or a key"):
            graflow_celery.submit(work.map([(0, "", huge)], name="load"), running.config, run_id="huge")
        assert not list(client.scan_iter("graflow:huge:*"))

        handle = graflow_celery.submit(big.map([200 << 20, 1024], name="results"), running.config)
        assert [len(value) for value in handle.results(timeout=60)] == [200 << 20, 1024]
        assert peak_mebibytes(running.workers[0].pid) < 150, "the main process holds none of it"
        peak = max(peak_mebibytes(child) for child in running.workers[0].children())
        observed(
            "19",
            "200 MB as argument and as result",
            f"text refused, bytes recorded; child {peak} MiB at most, of which 200 are the value",
        )
        assert peak < 600


def test_what_cannot_be_kept_is_a_members_failure_or_refused_before_anything_is_sent(tmp_path: Path) -> None:
    with cluster(tmp_path, workers=1) as running:
        client = running.server.client()
        with pytest.raises((PayloadError, TaskResolutionError), match="lock"):
            graflow_celery.submit(work.map([(0, "", threading.Lock())], name="load"), running.config, run_id="lock")
        assert client.llen(QUEUE) == 0
        assert not list(client.scan_iter("graflow:lock:*"))

        outcomes = graflow_celery.submit(unkeepable.map(range(4), name="odd"), running.config).outcomes(timeout=20)
        assert [outcome.state for outcome in outcomes] == ["SUCCEEDED", "FAILED", "SUCCEEDED", "SUCCEEDED"]
        assert outcomes[1].error is not None
        assert outcomes[1].error.type.endswith("UnkeepableError")
        assert type(outcomes[2].value) is object  # both sides have a key: it came as a signed pickle
        observed(
            "20",
            "lock as argument; odd error; odd result",
            "refused before sending; a failure; a signed pickle",
        )


def test_a_worker_without_the_module_records_a_failure_that_names_both(tmp_path: Path) -> None:
    with cluster(tmp_path, workers=0) as running:
        worker = running.start(1, imports=())[0]
        group = running.submit(4, then=False)
        outcomes = group.handle.outcomes(timeout=20)
        for outcome in outcomes:
            assert outcome.state == "FAILED"
            assert outcome.error is not None
            assert "tests.faults.members" in outcome.error.message
            assert worker.name in outcome.error.message
        running.count("22", "worker lacks the module: failures", group, time.time()).check()
