"""Sessions of browsers."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from graflow.api.http.auth import SESSION_COOKIE, Auth, Role
from graflow.api.http.limits import RateLimit
from graflow.api.http.problems import ProblemError
from tests.api.conftest import Clients
from tests.api.flows import problem

TOKEN = "view-0123456789abcdef"
PAGE = {"X-Graflow": "1", "Sec-Fetch-Site": "same-origin"}


@pytest.fixture
def guarded(clients: Clients) -> TestClient:
    return clients(auth=Auth([(Role.VIEW, TOKEN)]), headers=PAGE)


def test_a_browser_logs_in_and_out(guarded: TestClient) -> None:
    assert guarded.get("/api/v1/server").status_code == 401
    answer = guarded.post("/api/v1/session", json={"token": TOKEN})
    assert (answer.status_code, answer.json()["role"]) == (200, "view")
    cookie = answer.headers["set-cookie"]
    assert all(part in cookie for part in ("HttpOnly", "SameSite=strict", "Max-Age=43200", "Path=/"))
    assert "Secure" not in cookie
    assert TOKEN not in cookie + answer.text
    assert guarded.get("/api/v1/server").json()["role"] == "view"
    kept = guarded.cookies[SESSION_COOKIE]
    assert guarded.delete("/api/v1/session").status_code == 204
    assert guarded.get("/api/v1/server").status_code == 401
    guarded.cookies.set(SESSION_COOKIE, kept)
    assert guarded.get("/api/v1/server").status_code == 401, "a copy of the cookie holds no longer"


def test_a_session_may_view_and_no_more(guarded: TestClient) -> None:
    guarded.post("/api/v1/session", json={"token": TOKEN})
    problem(guarded.post("/api/v1/any/execute-async", json={}), 403, "forbidden")


def test_the_cookie_is_for_https_alone_where_there_is_https(clients: Clients) -> None:
    client = clients(auth=Auth([(Role.VIEW, TOKEN)]), root_path="/x/y")
    answer = client.post("https://127.0.0.1/api/v1/session", json={"token": TOKEN}, headers=PAGE)
    assert "Secure" in answer.headers["set-cookie"]
    assert "Path=/x/y" in answer.headers["set-cookie"]


def test_a_page_of_others_logs_nobody_in(guarded: TestClient) -> None:
    answer = guarded.post("/api/v1/session", json={"token": TOKEN}, headers={"Sec-Fetch-Site": "cross-site"})
    problem(answer, 403, "foreign-origin")


def test_guesses_are_few(guarded: TestClient) -> None:
    for _ in range(5):
        problem(guarded.post("/api/v1/session", json={"token": "guess"}), 401, "not-authenticated")
    answer = guarded.post("/api/v1/session", json={"token": TOKEN})
    problem(answer, 429, "too-many-requests")
    assert 0 < int(answer.headers["retry-after"]) <= 61


def test_tries_are_counted_by_address_and_forgotten_after_a_minute() -> None:
    tries = RateLimit(5, "logins failed")
    for second in range(5):
        tries.check("a", 100 + second)
        tries.note("a", 100 + second)
    with pytest.raises(ProblemError):
        tries.check("a", 159.9)
    tries.check("b", 159.9)
    tries.check("a", 160)


def test_without_tokens_there_is_nothing_to_log_in_to(client: TestClient) -> None:
    answer = client.post("/api/v1/session", json={"token": "any"})
    assert answer.json() == {"role": "operate", "expires_at": None}
    assert "set-cookie" not in answer.headers
