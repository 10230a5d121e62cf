from __future__ import annotations

import pytest

from graflow.hitl.backend.filesystem import FilesystemFeedbackBackend
from graflow.hitl.backend.redis import RedisFeedbackBackend
from tests.hitl.backends import InMemoryBackend


@pytest.fixture
def redis_url(redis_client, redis_server):
    """The common server, which is empty."""
    return redis_server.url


@pytest.fixture(params=["own", "files", pytest.param("redis", marks=pytest.mark.redis)])
def backend(request, tmp_path):
    if request.param == "own":
        return InMemoryBackend()
    if request.param == "files":
        return FilesystemFeedbackBackend(tmp_path / "feedback")
    return RedisFeedbackBackend(url=request.getfixturevalue("redis_url"))
