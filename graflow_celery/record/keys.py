"""Every Redis key of the group record, in one place."""

from __future__ import annotations

from dataclasses import dataclass

RUN_KEYS = (
    *("header", "manifest", "shared", "outcomes", "order", "claims"),
    *("deadlines", "blocked", "events", "children", "floors", "blocks", "pages", "stale", "blobs"),
)
"""Keys of one run: no expiry while it is open, `result_ttl` from the moment it is closed."""

GLOBAL_KEYS = ("runs", "workers", "workers:info", "epoch", "clock")
"""Keys of a whole deployment, which never expire."""


@dataclass(frozen=True, slots=True)
class Keys:
    """Names of the keys under one prefix.

    | key | type | holds |
    |---|---|---|
    | `<run>:header` | hash | specification, state, counts, limits, deadline, epoch |
    | `<run>:manifest` | hash | index -> envelope, or `b<block>` -> chunk of its members; index n is the continuation |
    | `<run>:shared` | hash | content hash -> payload that several envelopes name |
    | `<run>:outcomes` | hash | index -> outcome; the first write wins |
    | `<run>:order` | list | indices, or `b<block>`, in the order in which they were recorded |
    | `<run>:claims` | hash | index -> attempt, losses, retries, waits, since when it is queued and claimed, owner |
    | `<run>:deadlines` | sorted set | index or `b<block>` -> queue wait before the claim, lease after it |
    | `<run>:blocked` | sorted set | indices that met `max_in_flight` and wait for a slot |
    | `<run>:events` | stream, capped | transitions: a hint that wakes readers |
    | `<run>:children` | set | run ids of groups that its members opened |
    | `<run>:floors` | hash | index -> attempt: what this one and those before it report is refused |
    | `<run>:blocks` | hash | block -> what happened to all of its members, or that they have entries of their own |
    | `<run>:pages` | hash | block -> outcomes of all of its members |
    | `<run>:blobs` | set | names of the long values that the run has taken over |
    | `<run>:blob:<name>` | string | a long argument or a part of an outcome; it expires while no run has it |
    | `entry:<run>:<index>` | string | who has taken a signed task of a queue; it expires by itself |
    | `<session>:owner` | hash | which execution continues a run: token, epoch, name, since, end of its lease |
    | `runs` | sorted set | run id -> when a sweeper has to look at it |
    | `workers`, `workers:info` | sorted set, hash | until when each worker counts as one that beats; what it is |
    | `epoch` | string | identity of this data set: another one means that the server was wiped |
    | `clock` | hash | last look of any sweeper: a hole means a standstill; what corrects the time; a step to settle |
    """

    prefix: str

    def run(self, run_id: str, name: str) -> str:
        return f"{self.prefix}:{run_id}:{name}"

    def stem(self, run_id: str) -> str:
        """What every key of one run begins with; scripts add the names."""
        return f"{self.prefix}:{run_id}:"

    def of_run(self, run_id: str) -> list[str]:
        """Every key of one run, in the order of `RUN_KEYS`."""
        return [self.run(run_id, name) for name in RUN_KEYS]

    def owner(self, session_id: str) -> str:
        """Who continues a run of a workflow; it expires by itself."""
        return f"{self.prefix}:{session_id}:owner"

    def entry(self, run_id: str, index: int) -> str:
        """Who has taken a task that was queued on its own; it expires by itself."""
        return f"{self.prefix}:entry:{run_id}:{index}"

    def deployment(self, name: str) -> str:
        """A key of the whole deployment, one of `GLOBAL_KEYS`."""
        return f"{self.prefix}:{name}"
