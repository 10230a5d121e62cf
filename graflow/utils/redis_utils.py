"""Redis settings in and out, under the path that programs import them from."""

from __future__ import annotations

from graflow.redis.config import create_redis_client, extract_redis_config, normalize_redis_config

__all__ = ["create_redis_client", "extract_redis_config", "normalize_redis_config"]
