"""What is let in: hosts, origins, sizes, tokens and sessions; and the headers of every answer."""

from __future__ import annotations

import base64
import hashlib

import pytest
from fastapi.testclient import TestClient

from graflow.api.http.auth import Auth, Role, Token
from graflow.api.http.gate import SESSION_COOKIE
from graflow.exceptions import ConfigError
from graflow.signing import SigningKeys
from tests.api.conftest import Clients
from tests.api.flows import problem

OPERATE, VIEW = "operate-0123456789abcdef", "view-0123456789abcdef"
SERVER = "/api/v1/server"


def tokens() -> Auth:
    return Auth([(Role.OPERATE, OPERATE), (Role.VIEW, VIEW)])


def test_a_server_tells_what_it_is(client: TestClient) -> None:
    told = client.get(SERVER).json()
    assert (told["auth"], told["role"]) == ("none", "operate")
    assert told["store"] == {"kind": "memory", "is_available": True, "is_persistent": False}
    assert client.get("/healthz").json() == {"status": "ok"} == client.get("/readyz").json()


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "", "127.0.0.1.evil.example", "localhost@evil"])
def test_other_hosts_are_not_served(client: TestClient, host: str) -> None:
    problem(client.get(SERVER, headers={"Host": host}), 421, "host-not-allowed")


@pytest.mark.parametrize("host", ["localhost:8000", "LOCALHOST", "127.0.0.1:1", "[::1]:8000", "[::1]", "flows.example"])
def test_loopback_and_named_hosts_are(clients: Clients, host: str) -> None:
    assert clients(allowed_hosts=["Flows.Example"]).get(SERVER, headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("path", [SERVER, "/healthz", "/nowhere", "/api/v1/nowhere", "/openapi.json"])
def test_every_answer_has_the_headers_that_bind_browsers(client: TestClient, path: str) -> None:
    for headers in ({}, {"Host": "evil.example"}):
        answer = client.get(path, headers=headers)
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cross-origin-opener-policy"] == "same-origin"
        assert ("no-store" in answer.headers.get("cache-control", "")) == path.startswith(("/api", "/openapi"))


def test_there_are_no_headers_for_pages_of_other_origins(client: TestClient) -> None:
    answer = client.options(SERVER, headers={"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"})
    assert not [name for name in answer.headers if name.startswith("access-control")]


# -- tokens ------------------------------------------------------------------------------------------------------------


def test_a_token_is_wanted_where_there_are_some(clients: Clients) -> None:
    client = clients(auth=tokens())
    for headers in (
        {},
        {"Authorization": "Bearer nobodys"},
        {"Authorization": f"Basic {OPERATE}"},
        {"Cookie": "a=b;;"},
    ):
        answer = client.get(SERVER, headers=headers)
        problem(answer, 401, "not-authenticated")
        assert answer.headers["www-authenticate"] == "Bearer"
    assert client.get("/healthz").status_code == 200
    for path in ("/openapi.json", "/metrics", "/api/v1/nowhere"):
        problem(client.get(path), 401, "not-authenticated")


@pytest.mark.parametrize(("token", "role"), [(OPERATE, "operate"), (VIEW, "view")])
def test_a_token_has_its_role(clients: Clients, token: str, role: str) -> None:
    told = clients(auth=tokens()).get(SERVER, headers={"Authorization": f"Bearer {token}"}).json()
    assert (told["auth"], told["role"]) == ("token", role)


def test_a_token_that_may_view_changes_nothing(clients: Clients) -> None:
    client = clients(auth=tokens(), headers={"Authorization": f"Bearer {VIEW}"})
    problem(client.post("/api/v1/any/execute-async", json={}), 403, "forbidden")
    problem(client.delete("/api/v1/any/flows/1"), 403, "forbidden")


def test_a_session_holds_until_its_time_is_over() -> None:
    auth = tokens()
    session = auth.begin_session(VIEW, 1000.5)
    assert session is not None
    found = auth.of_session(session, 1001)
    assert found is not None
    assert (found.role, found.is_session) == (Role.VIEW, True)
    assert tokens().of_session(session, 1000 + 12 * 3600 - 1) == found, "another process with the same tokens"
    assert auth.of_session(session, 1000 + 12 * 3600) is None
    assert Auth([(Role.VIEW, OPERATE)]).of_session(session, 1001) is None, "the token is gone"
    assert VIEW not in session


def test_no_session_can_be_made_longer_or_greater() -> None:
    auth = tokens()
    session, other = auth.begin_session(VIEW, 1000), auth.begin_session(OPERATE, 1000)
    holder, until, nonce, seal = session.split(".")
    forged = [
        f"{holder}.{int(until) + 1}.{nonce}.{seal}",
        f"{other.split('.')[0]}.{until}.{nonce}.{seal}",
        f"{holder}.{until}.{nonce}.{seal[:-1]}",
        f"{holder}.{until}.{nonce}",
        f"{holder}.²³.{nonce}.{seal}",
        f"{holder}.{until}.{nonce}.é",
        "",
        "...",
    ]
    assert [auth.of_session(each, 1001) for each in forged] == [None] * len(forged)


def test_with_a_signing_key_the_digest_of_a_token_makes_no_session() -> None:
    digest = f"sha256:{hashlib.sha256(OPERATE.encode()).hexdigest()}"
    old, new = ("k1", b"1" * 32), ("k2", b"2" * 32)
    given = [(Role.OPERATE, digest)]
    read = Auth(given).begin_session(OPERATE, 1000)  # as whoever has read the file of tokens could
    auth = Auth(given, SigningKeys(dict([old])))
    session = auth.begin_session(OPERATE, 1000)
    assert read is not None
    assert session is not None
    assert auth.of_session(read, 1001) is None
    assert auth.of_session(session, 1001) is not None
    assert Auth(given, SigningKeys(dict([new, old]))).of_session(session, 1001) is not None, "keys are changed in turn"
    assert Auth(given, SigningKeys(dict([new]))).of_session(session, 1001) is None


def test_the_keys_of_sessions_come_from_the_environment() -> None:
    key = {"GRAFLOW_SIGNING_KEY": "k1:" + base64.b64encode(b"1" * 32).decode()}
    session = Auth.configured(None, {"GRAFLOW_API_TOKEN": OPERATE, **key}).begin_session(OPERATE, 1000)
    assert session is not None
    assert Auth.configured(None, {"GRAFLOW_API_TOKEN": OPERATE}).of_session(session, 1001) is None
    assert Auth([(Role.OPERATE, OPERATE)], SigningKeys({"k1": b"1" * 32})).of_session(session, 1001) is not None
    with pytest.raises(ConfigError, match="malformed"):
        Auth.configured(None, {"GRAFLOW_API_TOKEN": OPERATE, "GRAFLOW_SIGNING_KEY": "k1"})


def test_a_session_that_was_ended_holds_no_longer() -> None:
    auth = tokens()
    session = auth.begin_session(VIEW, 1000)
    auth.end_session(session, 1001)
    auth.end_session("somebody.else", 1001)
    assert auth.of_session(session, 1002) is None


@pytest.mark.parametrize("token", ["short", "", "sha256:00", "sha256:zz"])
def test_what_can_be_no_token_is_refused(token: str) -> None:
    with pytest.raises(ConfigError):
        Auth([(Role.VIEW, token)])


def test_tokens_come_from_a_file_and_from_the_environment(tmp_path) -> None:
    file = tmp_path / "tokens"
    file.write_text(
        f"# of the team\n\nview {VIEW}\n"
        "operate sha256:5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8\n"
    )
    auth = Auth.configured(file, {"GRAFLOW_API_TOKEN": OPERATE})
    assert [auth.of_token(each).role for each in (VIEW, "password", OPERATE)] == ["view", "operate", "operate"]
    assert Auth.configured(None, {}).is_open
    file.write_text(f"operate {OPERATE} ann release,finance\n")
    ann = Auth.configured(file, {}).of_token(OPERATE)
    assert ann is not None
    assert (ann.name, ann.roles) == ("ann", {"release", "finance"})
    with pytest.raises(ConfigError, match="role:ann"):
        Auth([Token(Role.VIEW, VIEW, "role:ann")])
    for text in ("", "view", f"admin {VIEW}", f"view {VIEW} ann a,b more"):
        file.write_text(text)
        with pytest.raises(ConfigError, match=str(file)):
            Auth.configured(file, {})
    with pytest.raises(ConfigError, match="cannot be read"):
        Auth.configured(tmp_path / "none", {})


# -- changes that browsers are made to ask for -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example", "X-Graflow": "1"},
        {"Origin": "null", "X-Graflow": "1"},
        {"Sec-Fetch-Site": "cross-site", "X-Graflow": "1"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1", "X-Graflow": "1"},
        {"Sec-Fetch-Site": "same-origin"},
        {"Origin": "http://127.0.0.1"},
        {"Cookie": f"{SESSION_COOKIE}=x"},
    ],
)
def test_pages_of_others_change_nothing(client: TestClient, headers: dict[str, str]) -> None:
    problem(client.post("/api/v1/any/execute-async", json={}, headers=headers), 403, "foreign-origin")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_forms_change_nothing(client: TestClient, kind: str) -> None:
    answer = client.post("/api/v1/any/execute-async", content=b"{}", headers={"Content-Type": kind})
    problem(answer, 415, "media-type-unsupported")


@pytest.mark.parametrize(
    "headers", [{"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}, {"Origin": "http://127.0.0.1"}]
)
def test_our_own_page_does(client: TestClient, headers: dict[str, str]) -> None:
    answer = client.post("/api/v1/nowhere", json={}, headers={**headers, "X-Graflow": "1"})
    problem(answer, 404, "not-found")


# -- sizes -------------------------------------------------------------------------------------------------------------


def test_bodies_have_a_limit(clients: Clients) -> None:
    client = clients(body_limit=100)
    problem(client.post("/api/v1/nowhere", json={"a": "b" * 100}), 413, "content-too-large")


def test_what_goes_wrong_in_the_server_is_no_riddle_and_no_traceback(clients: Clients) -> None:
    client = clients()

    @client.app.get("/api/v1/broken")
    def broken() -> None:
        raise ZeroDivisionError("secret detail")

    told = problem(client.get("/api/v1/broken"), 500, "internal")
    assert "ZeroDivisionError" in told["detail"]
    assert "secret" not in told["detail"]
