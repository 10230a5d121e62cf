from __future__ import annotations

import json
import pickle
import subprocess
import sys
import threading

import pytest

from graflow.exceptions import ConfigError
from graflow.hitl import FeedbackManager, FeedbackRequest, FeedbackResponse
from graflow.hitl.backend.filesystem import FilesystemFeedbackBackend
from graflow.hitl.backend.redis import RedisFeedbackBackend
from graflow.redis.config import create_redis_client
from tests.hitl.backends import approval


def _request(feedback_id="q", **changes):
    fields = {"task_id": "t", "session_id": "s", "feedback_type": "approval", "prompt": "?", **changes}
    return FeedbackRequest(feedback_id=feedback_id, **fields)


# -- files -------------------------------------------------------------------------------------------------------------


def test_files_are_plain_json(tmp_path):
    backend = FilesystemFeedbackBackend(tmp_path / "d")
    backend.store_request(_request(prompt="Weiter? ja/nein ä"))
    backend.store_response(FeedbackResponse(feedback_id="q", response_type="approval", approved=True))
    assert json.loads((tmp_path / "d/requests/q.json").read_text(encoding="utf-8"))["prompt"] == "Weiter? ja/nein ä"
    assert json.loads((tmp_path / "d/responses/q.json").read_text(encoding="utf-8"))["approved"] is True
    assert sorted(path.name for path in (tmp_path / "d").iterdir()) == [".lock", "open", "requests", "responses"]


def test_no_reader_sees_half_of_a_file(tmp_path):
    backend = FilesystemFeedbackBackend(tmp_path)
    backend.store_request(_request())
    is_over = threading.Event()

    def write():
        for number in range(100):
            backend.store_request(_request(prompt="x" * number * 10))
        is_over.set()

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    while not is_over.is_set():
        assert backend.get_request("q") is not None
    writer.join(60)


def test_ids_do_not_lead_out_of_the_folder(tmp_path):
    backend = FilesystemFeedbackBackend(tmp_path / "d")
    (tmp_path / "secret.json").write_text("{}")
    assert backend.get_request("../../secret") is None
    with pytest.raises(ConfigError):
        backend.store_request(_request("../../secret"))
    assert (tmp_path / "secret.json").read_text() == "{}"


def test_open_questions_are_listed_without_reading_the_others(tmp_path):
    backend = FilesystemFeedbackBackend(tmp_path)
    for number in range(20):
        backend.store_request(_request(f"done{number}", status="completed"))
    backend.store_request(_request("open"))
    read = []

    class Counting(FilesystemFeedbackBackend):
        def get_request(self, feedback_id):
            read.append(feedback_id)
            return super().get_request(feedback_id)

    assert [r.feedback_id for r in Counting(tmp_path).list_pending_requests()] == ["open"]
    assert read == ["open"]


def test_a_folder_of_the_first_layout_and_foreign_files_are_read(tmp_path):
    (tmp_path / "requests").mkdir()
    for name, status in (("a", "pending"), ("b", "completed"), ("c", "timeout")):
        (tmp_path / f"requests/{name}.json").write_text(json.dumps(_request(name, status=status).to_dict()))
    (tmp_path / "requests/broken.json").write_text("no json")
    backend = FilesystemFeedbackBackend(tmp_path)
    assert [r.feedback_id for r in backend.list_pending_requests()] == ["a"]
    manager = FeedbackManager(backend)
    assert manager.provide_feedback("c", approval())
    assert [r.feedback_id for r in backend.list_answerable_requests()] == ["a"]
    assert len(backend.list_requests()) == 3


_ANSWER = """
import sys
from graflow.hitl import FeedbackManager, FeedbackResponse
kind, where, who = sys.argv[1:]
config = {"data_dir": where} if kind == "filesystem" else {"url": where, "key_prefix": "race"}
manager = FeedbackManager(kind, config)
sys.stdin.readline()
for n in range(50):
    answer = FeedbackResponse(feedback_id="", response_type="approval", approved=who == "0", responded_by=who)
    if manager.provide_feedback(f"q{n}", answer):
        print(n, flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["filesystem", pytest.param("redis", marks=pytest.mark.redis)])
def test_of_four_processes_that_answer_one_is_first(kind, tmp_path, request):
    if kind == "filesystem":
        where, manager = str(tmp_path), FeedbackManager(kind, {"data_dir": tmp_path})
    else:
        where = request.getfixturevalue("redis_url")
        manager = FeedbackManager(kind, {"url": where, "key_prefix": "race"})
    for number in range(50):
        manager.store_request(_request(f"q{number}"))
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    people = [subprocess.Popen([sys.executable, "-c", _ANSWER, kind, where, str(who)], **pipes) for who in range(4)]
    for person in people:
        person.stdin.write("\n")
        person.stdin.flush()
    won = {}
    for who, person in enumerate(people):
        told, _ = person.communicate(timeout=100)
        for number in told.split():
            assert number not in won
            won[number] = str(who)
    assert {str(n): manager.get_response(f"q{n}").responded_by for n in range(50)} == won


# -- Redis -------------------------------------------------------------------------------------------------------------


@pytest.mark.redis
@pytest.mark.parametrize("decodes", [True, False])
def test_either_kind_of_client_will_do(redis_url, decodes):
    client = create_redis_client({"url": redis_url, "decode_responses": decodes})
    manager = FeedbackManager(RedisFeedbackBackend(client))
    manager.store_request(_request())
    assert [r.feedback_id for r in manager.list_pending_requests()] == ["q"]
    assert manager.provide_feedback("q", approval())
    assert manager.get_response("q").approved is True
    assert [r.status for r in manager.list_requests()] == ["completed"]
    client.close()


@pytest.mark.redis
def test_open_questions_stay_and_settled_ones_expire(redis_url):
    backend = RedisFeedbackBackend(url=redis_url, key_prefix="mine", expiration_days=2)
    manager, client = FeedbackManager(backend), backend.redis_client
    manager.store_request(_request())
    keys = {key.decode() for key in client.scan_iter("*mine*")}
    assert keys == {"{mine:feedback}:request:q", "{mine:feedback}:open"}
    assert client.ttl("{mine:feedback}:request:q") == -1
    manager.provide_feedback("q", approval())
    for kind in ("request", "response"):
        assert 0 < client.ttl(f"{{mine:feedback}}:{kind}:q") <= 2 * 86400
    assert 0 < client.ttl("{mine:feedback}:settled") <= 2 * 86400
    assert client.zcard("{mine:feedback}:open") == 0


@pytest.mark.redis
def test_lists_cost_by_what_is_open(redis_url):
    backend = RedisFeedbackBackend(url=redis_url)
    for number in range(30):
        backend.store_request(_request(f"q{number}", status="completed"))
    backend.store_request(_request("open"))
    before = backend.redis_client.info("commandstats")
    assert [r.feedback_id for r in backend.list_pending_requests()] == ["open"]
    after = backend.redis_client.info("commandstats")
    calls = {name: stats["calls"] - before.get(name, {"calls": 0})["calls"] for name, stats in after.items()}
    assert calls.get("cmdstat_keys", 0) == 0
    assert calls.get("cmdstat_get", 0) == 0
    assert calls["cmdstat_mget"] == 1
    assert len(backend.list_requests(n_recent=10)) == 10


def test_settings_survive_pickling_whole_and_without_their_password():
    backend = RedisFeedbackBackend(
        host="nowhere", username="u", password="geheim", ssl=True, key_prefix="p", expiration_days=3
    )
    packed = pickle.dumps(backend)
    assert b"geheim" not in packed
    again = pickle.loads(packed)
    assert (again.place()["username"], again.place()["ssl"], again.key_prefix) == ("u", True, "p")
    assert again.place()["password"].name == "GRAFLOW_REDIS_PASSWORD"
    assert "geheim" not in repr(backend.place())


@pytest.mark.redis
def test_a_client_that_parameters_cannot_stand_for_serves_its_own_process(redis_client):
    class Wrapped:
        """As clients of other packages are."""

        def __getattr__(self, name):
            if name == "connection_pool":
                raise AttributeError(name)
            return getattr(redis_client, name)

    backend = RedisFeedbackBackend(Wrapped())
    backend.store_request(_request())
    assert FeedbackManager(backend).provide_feedback("q", approval())
    assert backend.place() is None
    with pytest.raises(ConfigError, match="parameters of the server"):
        pickle.loads(pickle.dumps(backend)).get_request("q")


def test_bad_settings_are_refused_before_a_server_is_asked():
    with pytest.raises(ConfigError, match="expiration_days"):
        RedisFeedbackBackend(host="nowhere", expiration_days=0)
    with pytest.raises(ValueError, match="server"):
        RedisFeedbackBackend(host="")
