"""Somebody can write to broker and record: nothing is imported, nothing unpickled, nothing run."""

from __future__ import annotations

import base64
import json
import pickle
import time
import uuid
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

import graflow_celery
from graflow import parallel, workflow
from graflow.core.checkpoint import CheckpointManager
from graflow.core.context import ExecutionContext
from graflow.exceptions import SignatureError
from graflow.signing import SigningKeys, generate_key
from tests.faults.harness import Cluster, Group, cluster
from tests.faults.members import work
from tests.faults.test_messages import QUEUE
from tests.faults.trap import Mine
from tests.support import wait_until

Forge = Callable[["Forger"], bytes]


class Forger:
    """What an attacker has in hand: one member's envelope, all others, and, for the worst case, the key."""

    head = b""
    purpose = "member"

    def __init__(self, index: int, envelopes: list[bytes], group: Group, key: str, mark: Path) -> None:
        self.index = index
        self.envelopes = envelopes
        self.signature, _, self.content = envelopes[index].partition(b"\n")
        self.binding: tuple[str, ...] = (group.run_id, "load", str(index))
        self.keys = SigningKeys.parse(key)
        self.key_id = key.partition(":")[0]
        self.mark = mark

    def signed(
        self,
        content: bytes,
        *,
        keys: SigningKeys | None = None,
        purpose: str | None = None,
        bound_to: tuple[str, ...] | None = None,
    ) -> bytes:
        made = (keys or self.keys).sign(content, purpose=purpose or self.purpose, bound_to=bound_to or self.binding)
        return self.with_signature(made.encode(), content)

    def with_signature(self, signature: bytes, content: bytes) -> bytes:
        return self.head + signature + b"\n" + content

    def changed(self, **parts: Any) -> bytes:
        """The body with other parts, as somebody who has the key would sign it."""
        return self.signed(b"J" + json.dumps({**json.loads(self.content[1:]), **parts}).encode())

    def with_task(self, strategy: str, payload: Mapping[str, Any]) -> bytes:
        task = {"version": 1, "strategy": strategy, "resolver_id": "default", "payload": dict(payload)}
        return self.changed(**self.parts_of(task))

    def parts_of(self, task: dict[str, Any]) -> dict[str, Any]:
        return {"tasks": [task]}

    def referring(self, module: str, qualname: str) -> bytes:
        name = qualname.rpartition(".")[2]
        payload = {"module": module, "name": name, "qualname": qualname, "task_id": f"load[{self.index}]"}
        return self.with_task("reference", {**payload, "bound": {"item": "true", "command": "true"}})

    def pickled(self, signature: str) -> bytes:
        content = pickle.dumps(Mine(str(self.mark)))
        return self.with_task("pickle", {"data": base64.b64encode(content).decode(), "signature": signature})


class ChunkForger(Forger):
    """The same of a chunk, whose index is that of its block."""

    purpose = "chunk"

    def __init__(self, index: int, envelopes: list[bytes], group: Group, key: str, mark: Path) -> None:
        super().__init__(index, envelopes, group, key, mark)
        place, _, self.signature = self.signature.partition(b" ")
        self.head = place + b" "
        self.binding = (*self.binding[:2], *place.decode().removeprefix("#").split(","))

    def parts_of(self, task: dict[str, Any]) -> dict[str, Any]:
        return {"task": task}


ATTACKS: dict[str, Forge] = {
    "unsigned": lambda f: f.with_signature(b"-", f.content),
    "signed with an unknown key": lambda f: f.signed(f.content, keys=SigningKeys.parse(generate_key("stranger"))),
    "signed with another key of the same id": lambda f: f.signed(
        f.content, keys=SigningKeys.parse(generate_key(f.key_id))
    ),
    "signed for another purpose": lambda f: f.signed(f.content, purpose="outcome"),
    "signed for another run": lambda f: f.signed(f.content, bound_to=("other", *f.binding[1:])),
    "signed for another group": lambda f: f.signed(f.content, bound_to=(f.binding[0], "other", *f.binding[2:])),
    "signed for another member": lambda f: f.signed(f.content, bound_to=(*f.binding[:2], "0", *f.binding[3:])),
    "the envelope of another member": lambda f: f.envelopes[0],
    "another algorithm": lambda f: f.with_signature(b"none:" + f.signature, f.content),
    "no signature at all": lambda f: f.with_signature(b"", f.content),
    "truncated": lambda f: f.envelopes[f.index][:-40],
    "one bit flipped": lambda f: f.envelopes[f.index][:-9] + bytes([f.envelopes[f.index][-9] ^ 1]) + b"12345678",
    "empty": lambda _: b"",
    "another version": lambda f: f.changed(version=99),
    "a compressed bomb": lambda f: f.signed(b"Z" + zlib.compress(bytes(1 << 29), 9)),
    "JSON a million deep": lambda f: f.signed(b"J" + b"[" * 1_000_000),
    "a reference to os:system": lambda f: f.referring("os", "system"),
    "a reference through attributes": lambda f: f.referring("tests.faults.members", "work.func.__globals__"),
    "a reference to a module that was not named": lambda f: f.referring("tests.faults.trap", "spring"),
    "a pickle without signature": lambda f: f.pickled(""),
    "a pickle with the signature of its envelope": lambda f: f.pickled(f.signature.decode()),
    "an unknown strategy": lambda f: f.with_task("exec", {"code": "import tests.faults.trap"}),
}


def trapped(running: Cluster, mark: Path) -> dict[str, str]:
    """The environment of a worker that leaves a mark when it imports the trap."""
    assert running.folder
    return {"FAULT_TRAP": str(mark)}


def submit_singly(running: Cluster, n: int) -> Group:
    """The load as members that were made one by one: each has an envelope of its own, but they share messages."""
    folder = running.folder / "singly"
    folder.mkdir()
    members = [work(task_id=f"load[{index}]", item=(index, str(folder), 0.01)) for index in range(n)]
    load = parallel(*members).set_group_name("load")
    handle = graflow_celery.submit(load, running.config, policy="best_effort")
    return Group(handle, folder, n, handle.run_id)


def check_refused(running: Cluster, group: Group, attacks: Mapping[str, Forge], mark: Path, stride: int = 1) -> None:
    """Forge all entries of the manifest but the first two and the last two; only the members of these run."""
    record = running.record
    numbers = range(len(attacks) + 4)
    is_chunk = stride > 1
    read = record.manifests.chunks if is_chunk else record.manifests.envelopes
    entries = [entry or b"" for entry in read(group.run_id, numbers)]
    assert all(entries), "each has an entry of its own"
    for number, forge in enumerate(attacks.values(), start=2):
        forged = forge((ChunkForger if is_chunk else Forger)(number, entries, group, running.key, mark))
        assert forged != entries[number]
        name = f"b{number}" if is_chunk else str(number)
        record.client.hset(record.keys.run(group.run_id, "manifest"), name, forged)

    begun = time.time()
    running.start(2, environment=trapped(running, mark))
    outcomes = group.handle.outcomes(timeout=60)
    what = "chunks" if is_chunk else "envelopes"
    running.count("29", f"{len(attacks)} forged {what}", group, begun).check()

    refused = outcomes[2 * stride : -2 * stride]
    by_attack = [(name, refused[at * stride + i]) for at, name in enumerate(attacks) for i in range(stride)]
    assert len(by_attack) == len(refused)
    assert not [name for name, outcome in by_attack if outcome.state != "FAILED"], "let in"
    untouched = {*range(2 * stride), *range(group.n - 2 * stride, group.n)}
    assert set(group.starts()) == untouched, "only what nobody touched was run"
    assert {outcomes[index].state for index in untouched} == {"SUCCEEDED"}
    assert not mark.exists()
    for _, outcome in by_attack:
        assert outcome.error is not None
        assert running.key.partition(":")[2] not in str(outcome.error)


def test_every_forged_envelope_is_refused_alone_and_before_anything_is_imported(tmp_path: Path) -> None:
    with cluster(tmp_path, workers=0) as running:
        group = submit_singly(running, len(ATTACKS) + 4)
        check_refused(running, group, ATTACKS, tmp_path / "sprung")


def test_every_forged_chunk_is_refused_with_its_members_alone(tmp_path: Path) -> None:
    stride = 2
    with cluster(tmp_path, workers=0) as running:
        n = stride * (len(ATTACKS) + 4)
        group = running.submit(n, 0.01, policy="best_effort", then=False, batch_size=stride)
        check_refused(running, group, ATTACKS, tmp_path / "sprung", stride)


def test_a_shared_payload_that_was_changed_is_refused(tmp_path: Path) -> None:
    with cluster(tmp_path, workers=0) as running:
        # Each on its own: blocks bring along, signed, what is as short as this.
        given = [work(task_id=f"w{index}", item=(index, str(tmp_path), 0.01)) for index in range(4)]
        handle = graflow_celery.submit(given, running.config, policy="best_effort")
        key = running.record.keys.run(handle.run_id, "shared")
        client = running.server.client()
        for name, content in client.hgetall(key).items():
            client.hset(key, name, content.replace(handle.group_id.encode(), b"evil"))
        running.start(1)
        outcomes = handle.outcomes(timeout=20)
        assert {outcome.state for outcome in outcomes} == {"FAILED"}
        assert all("does not have the hash" in str(outcome.error) for outcome in outcomes)
        assert not (tmp_path / "started").exists()


def push_raw(running: Cluster, body: bytes, content_type: str, task: str = "graflow.run", **headers: Any) -> None:
    frame = {
        "body": base64.b64encode(body).decode(),
        "content-encoding": "binary",
        "content-type": content_type,
        "headers": {"lang": "py", "task": task, "id": str(uuid.uuid4()), **headers},
        "properties": {
            "delivery_mode": 2,
            "delivery_tag": str(uuid.uuid4()),
            "delivery_info": {"exchange": "", "routing_key": "graflow"},
            "body_encoding": "base64",
        },
    }
    running.server.client().rpush(QUEUE, json.dumps(frame))


def test_pickles_unknown_tasks_and_forged_entries_on_the_broker_do_nothing(tmp_path: Path) -> None:
    mark = tmp_path / "sprung"
    mine = pickle.dumps(Mine(str(mark)))
    with cluster(tmp_path, workers=0) as running:
        worker = running.start(1, environment=trapped(running, mark))[0]
        push_raw(running, mine, "application/x-python-serialize")
        push_raw(running, zlib.compress(mine), "application/x-python-serialize", compression="application/x-gzip")
        push_raw(running, b"[[], {}, {}]", "application/json", task="tests.faults.trap.spring")
        entry = {
            "version": 1, "run_id": "r", "index": 0, "task_id": "t", "resolver_id": "default", "status": "ready",
            "created_at": 0.0, "group_id": None, "trace_id": None, "strategy": "pickle",
            "serialized_task": {
                "strategy": "pickle",
                "payload": {"data": base64.b64encode(mine).decode(), "signature": "k:x"},
            },
        }  # fmt: skip
        push_raw(running, json.dumps([[], entry, {}]).encode(), "application/json", task="graflow.entry")
        reference = {"module": "os", "name": "system", "qualname": "system", "bound": {"command": f"touch {mark}"}}
        entry["serialized_task"] = {"strategy": "reference", "payload": reference}
        push_raw(running, json.dumps([[], entry, {}]).encode(), "application/json", task="graflow.entry")
        deep = b"[" * 100_000
        push_raw(running, deep, "application/json")

        group = running.submit(10, 0.01)
        running.finish("29", "pickles and forged entries on the broker", group, time.time())
        wait_until(lambda: running.server.client().llen(QUEUE) == 0, 60)
        assert not mark.exists()
        assert worker.process.poll() is None


def test_pool_restart_imports_nothing(tmp_path: Path) -> None:
    from graflow_celery.broker.app import app_for
    from graflow_celery.settings import Settings

    mark = tmp_path / "sprung"
    with cluster(tmp_path, workers=0) as running:
        running.start(1, environment=trapped(running, mark))
        app = app_for(Settings.load(running.config))
        replies: list[Any] = []

        def answered() -> bool:
            replies[:] = app.control.broadcast(
                "pool_restart", arguments={"modules": ["tests.faults.trap"], "reload": True}, reply=True, timeout=2
            )
            return bool(replies)

        wait_until(answered, 20, "the worker listens to control commands")
        assert all("error" in reply for answer in replies for reply in answer.values())
        assert not mark.exists()


def test_a_forged_outcome_makes_the_reader_import_and_call_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "sprung"
    monkeypatch.setenv("FAULT_TRAP", str(mark))
    with cluster(tmp_path, workers=0) as running:
        group = running.submit(3, then=False, policy="best_effort")
        record = running.record
        claim = record.claim(group.run_id, [0, 1, 2], "somebody")
        assert len(claim.granted) == 3
        errors = [
            {"type": "os.system", "message": f"touch {mark}", "traceback": "", "cause": None},
            {"type": "tests.faults.trap.Mine", "message": str(mark), "traceback": "", "cause": None},
            {"exc_type": "system", "exc_module": "os", "exc_message": f"touch {mark}"},
        ]
        from graflow_celery.record import MemberReport, MemberState

        bodies = [{"version": 1, "duration": 0, "timestamp": 0, "error": error} for error in errors]
        parts = {"results": [], "completed": [], "steps": 0, "cycle_counts": {}}
        results = [
            MemberReport(index, 1, MemberState.FAILED, b"J" + json.dumps({**body, **parts}).encode())
            for index, body in enumerate(bodies)
        ]
        record.complete(group.run_id, "somebody", results[:2])
        record.complete(group.run_id, "somebody", results[2:])
        try:
            outcomes = group.handle.outcomes(timeout=10)
        except Exception as error:
            assert "GraflowError" in {kind.__name__ for kind in type(error).__mro__}  # noqa: PT017
        else:
            assert {outcome.state for outcome in outcomes} == {"FAILED"}
        assert not mark.exists()


@pytest.mark.parametrize("part", [".pkl", ".state.json", ".meta.json"])
def test_an_edited_checkpoint_is_refused_before_it_is_unpickled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    mark = tmp_path / "sprung"
    with workflow("saved") as flow:
        first = work(task_id="first", item=(0, str(tmp_path), 0.0))
    path, _ = CheckpointManager.create_checkpoint(
        ExecutionContext.create(flow.graph, first.task_id), path=tmp_path / "run"
    )
    edited = Path(path.removesuffix(".pkl") + part)
    edited.write_bytes(pickle.dumps(Mine(str(mark))) if part == ".pkl" else edited.read_bytes() + b" ")
    with pytest.raises(SignatureError):
        CheckpointManager.resume_from_checkpoint(path)
    assert not mark.exists()
