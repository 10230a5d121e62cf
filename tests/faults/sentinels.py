"""A master, a replica and three Sentinels, all processes of our own."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import redis

from tests.faults.proxy import Proxy, proxy_to
from tests.support import PrivateRedis, free_port, private_redis, wait_until

PROGRAM = shutil.which("redis-server") or shutil.which("valkey-server")
NAME = "mine"
SILENCE = 1.0
"""Seconds without an answer after which the Sentinels call the master down."""


@dataclass
class Watched:
    """Two servers that Sentinels watch, the second one a replica of the first.

    Attributes:
        link: What the replica hears its master through.
        ports: Of the Sentinels.
    """

    master: PrivateRedis
    replica: PrivateRedis
    link: Proxy
    ports: list[int] = field(default_factory=list)

    @property
    def url(self) -> str:
        """The login in front of the first Sentinel, as people write it."""
        first, *others = [f"127.0.0.1:{port}/0" for port in self.ports]
        named = ";".join([f"sentinel://:{self.master.password}@{first}", *(f"sentinel://{other}" for other in others)])
        return f"{named}?master_name={NAME}"

    def is_settled(self) -> bool:
        """Whether every Sentinel knows the replica and both others."""
        for port in self.ports:
            found = _ask(port)
            if int(found.get("num-slaves", 0)) != 1 or int(found.get("num-other-sentinels", 0)) != len(self.ports) - 1:
                return False
        return True

    def wait_for_promotion(self) -> float:
        """Return when the Sentinels name the replica, which takes writes then; on the wall clock."""
        with self.replica.client() as client:
            wait_until(lambda: client.info("replication")["role"] == "master", 60, "a promotion", interval=0.02)
            promoted = time.time()
            wait_until(lambda: all(int(_ask(port).get("port", 0)) == self.replica.port for port in self.ports), 60)
        return promoted


def _ask(port: int) -> dict[str, str]:
    with contextlib.suppress(redis.exceptions.RedisError), redis.Redis(port=port, decode_responses=True) as client:
        return dict(client.execute_command("SENTINEL", "MASTER", NAME))
    return {}


@contextlib.contextmanager
def watched(folder: Path, password: str = "between-us-0815") -> Iterator[Watched]:
    """All of them for the length of a `with` block; what the Sentinels found out is settled at its beginning."""
    assert PROGRAM is not None
    login = ("--masterauth", password)
    with contextlib.ExitStack() as stack:
        master = stack.enter_context(private_redis(binary=PROGRAM, password=password, options=login))
        assert master.host is not None
        link = stack.enter_context(proxy_to(master.host, master.port))
        follows = ("--replicaof", f"127.0.0.1 {link.port}")
        replica = stack.enter_context(private_redis(binary=PROGRAM, password=password, options=(*login, *follows)))
        made = Watched(master, replica, link)
        wait_until(lambda: replica.client().info("replication")["master_link_status"] == "up", 60)
        for number in range(3):
            made.ports.append(free_port())
            file = folder / f"sentinel{number}.conf"
            file.write_text(_configuration(made.ports[-1], master, password, folder), encoding="utf-8")
            process = subprocess.Popen([PROGRAM, str(file), "--sentinel"], stdout=subprocess.DEVNULL)
            stack.callback(process.wait, 10)
            stack.callback(process.kill)
        wait_until(made.is_settled, 30, "the Sentinels know each other", interval=0.1)
        yield made


def _configuration(port: int, master: PrivateRedis, password: str, folder: Path) -> str:
    return "\n".join(
        [
            *(f"port {port}", "bind 127.0.0.1", f"dir {folder}"),
            f"sentinel monitor {NAME} 127.0.0.1 {master.port} 2",
            f"sentinel auth-pass {NAME} {password}",
            f"sentinel down-after-milliseconds {NAME} {round(SILENCE * 1000)}",
            # Shorter, and they would lead the replica past the link.
            f"sentinel failover-timeout {NAME} 60000",
            "",
        ]
    )
