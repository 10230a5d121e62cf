"""Questions and answers in Redis."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from graflow.exceptions import ConfigError
from graflow.foreign import attempt
from graflow.hitl.backend.base import Decide, IndexedFeedbackBackend, newest_first
from graflow.hitl.types import ANSWERABLE, FeedbackRequest, FeedbackResponse
from graflow.redis.config import (
    CONNECTION_KEYS,
    concerns_server,
    connection_of,
    extract_redis_config,
    normalize_redis_config,
    shared_client,
)
from graflow.redis.scripts import Script

_revise = Script.of(__package__, "revise")

DEFAULT_PREFIX: Final = "graflow"
_BATCH: Final = 500
_DAY: Final = 86400


class RedisFeedbackBackend(IndexedFeedbackBackend):
    """Keeps questions and answers in Redis, for all processes that reach the server.

    Open questions stay; settled ones are forgotten after `expiration_days`. A client may decode replies or not.
    Pickling keeps connection parameters, never a client or a password.

    Args:
        redis_client: A live client to use in this process.
        host: Of the server, unless a client, `url` or `unix_socket_path` names it.
        port: Of the server, likewise.
        db: Number of the database, unless a client or `url` names it.
        expiration_days: Days that a settled question is kept.
        connection: Further connection settings, and `key_prefix`, the deployment that the questions belong to.

    Raises:
        ConfigError: The settings name no server, or `expiration_days` is not above 0.
    """

    def __init__(
        self,
        redis_client: Any = None,
        host: str = "localhost",
        port: int = 6379,
        db: int = 0,
        expiration_days: float = 7,
        **connection: Any,
    ) -> None:
        if isinstance(expiration_days, bool) or not isinstance(expiration_days, int | float) or expiration_days <= 0:
            raise ConfigError(f"expiration_days is a number above 0, not {expiration_days!r}")
        self.expiration_days = expiration_days
        self.key_prefix = str(connection.get("key_prefix") or os.environ.get("GRAFLOW_KEY_PREFIX") or DEFAULT_PREFIX)
        given = {"host": host, "port": port, "db": db, **connection}
        self._config = _parameters_of(redis_client) if redis_client is not None else _connection_of(given)
        self._given = redis_client

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> RedisFeedbackBackend:
        """With these settings; where they name no server, that of the environment is meant."""
        client = config.get("redis_client")
        given = config if client is not None or concerns_server(config) else {**config, **connection_of(config)}
        known = {*CONNECTION_KEYS, "redis_client", "expiration_days", "key_prefix"}
        return cls(**{name: value for name, value in given.items() if name in known})

    @property
    def redis_client(self) -> Any:
        """The client of this process, opened when it is first needed."""
        if self._given is not None:
            return self._given
        if self._config is None:
            raise ConfigError(
                "The client that questions are kept by cannot be turned into parameters, so only the process that "
                "it was given to has it; give the parameters of the server instead"
            )
        return shared_client(self._config, decode_responses=False)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_given": None}

    def place(self) -> dict[str, Any] | None:
        if self._config is None:
            return None
        own = {"backend": "redis", "key_prefix": self.key_prefix, "expiration_days": self.expiration_days}
        return {**self._config, **own}

    # -- questions and answers -------------------------------------------------------------------------------------

    def store_request(self, request: FeedbackRequest) -> None:
        while not self._write(self._read_raw("request", request.feedback_id), request, None):
            pass

    def get_request(self, feedback_id: str) -> FeedbackRequest | None:
        return _request_of(self._read_raw("request", feedback_id))

    def store_response(self, response: FeedbackResponse) -> None:
        self.redis_client.set(self._key("response", response.feedback_id), json.dumps(response.to_dict()))

    def get_response(self, feedback_id: str) -> FeedbackResponse | None:
        return _response_of(self._read_raw("response", feedback_id))

    def list_answerable_requests(self, session_id: str | None = None) -> list[FeedbackRequest]:
        ids = self.redis_client.zrevrange(self._index("open"), 0, -1)
        found = self._read_all([_text(each) for each in ids], session_id)
        return newest_first([request for request in found if request.status in ANSWERABLE])

    def list_requests(self, session_id: str | None = None, n_recent: int = 100) -> list[FeedbackRequest]:
        found = self.list_answerable_requests(session_id)
        settled = 0
        for ids in self._settled_ids():
            more = self._read_all(ids, session_id)
            found += more
            settled += len(more)
            if settled >= n_recent:
                break
        return newest_first(found)[: max(n_recent, 0)]

    def revise(self, feedback_id: str, decide: Decide) -> FeedbackRequest | None:
        while True:
            held, answer = self.redis_client.mget(self._key("request", feedback_id), self._key("response", feedback_id))
            held, request = _text(held or ""), _request_of(_text(held or ""))
            revision = decide(request, _response_of(_text(answer or "")))
            if revision is None:
                return request
            if self._write(held, revision.request, revision.response):
                return revision.request

    # -- keys ------------------------------------------------------------------------------------------------------

    def _key(self, kind: str, feedback_id: str) -> str:
        return f"{self._index(kind)}:{feedback_id}"

    def _index(self, name: str) -> str:
        return f"{{{self.key_prefix}:feedback}}:{name}"

    def _read_raw(self, kind: str, feedback_id: str) -> str:
        return _text(self.redis_client.get(self._key(kind, feedback_id)) or "")

    def _write(self, held: str, request: FeedbackRequest, response: FeedbackResponse | None) -> bool:
        feedback_id = request.feedback_id
        life = 0 if request.status in ANSWERABLE else max(int(self.expiration_days * _DAY), 1)
        keys = self._key("request", feedback_id), self._key("response", feedback_id)
        return bool(
            _revise.run(
                self.redis_client.execute_command,
                (*keys, self._index("open"), self._index("settled")),
                held,
                json.dumps(request.to_dict()),
                "" if response is None else json.dumps(response.to_dict()),
                feedback_id,
                _epoch(request.created_at),
                life,
                time.time(),
            )
        )

    def _read_all(self, ids: Sequence[str], session_id: str | None) -> list[FeedbackRequest]:
        found: list[FeedbackRequest] = []
        for begin in range(0, len(ids), _BATCH):
            keys = [self._key("request", each) for each in ids[begin : begin + _BATCH]]
            requests = (_request_of(_text(content or "")) for content in self.redis_client.mget(keys))
            found += [each for each in requests if each is not None and session_id in {None, each.session_id}]
        return found

    def _settled_ids(self) -> Iterator[list[str]]:
        """Ids of settled questions, those that were settled last first."""
        begin = 0
        while ids := self.redis_client.zrevrange(self._index("settled"), begin, begin + _BATCH - 1):
            yield [_text(each) for each in ids]
            begin += _BATCH


def _connection_of(given: Mapping[str, Any]) -> dict[str, Any]:
    normal = normalize_redis_config(given)
    found = connection_of({name: value for name, value in normal.items() if name in CONNECTION_KEYS})
    found.pop("decode_responses", None)
    return found


def _parameters_of(client: object) -> dict[str, Any] | None:
    """What other processes need to reach the same server; None for a client that parameters cannot stand for."""
    return attempt(lambda: _connection_of(extract_redis_config(client)), lambda _: None)


def _text(reply: str | bytes) -> str:
    return reply.decode() if isinstance(reply, bytes) else reply


def _request_of(content: str) -> FeedbackRequest | None:
    return FeedbackRequest.from_dict(json.loads(content)) if content else None


def _response_of(content: str) -> FeedbackResponse | None:
    return FeedbackResponse.from_dict(json.loads(content)) if content else None


def _epoch(moment: str) -> float:
    try:
        return datetime.fromisoformat(moment).timestamp()
    except ValueError:
        return time.time()
