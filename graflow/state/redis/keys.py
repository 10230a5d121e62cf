"""Every key of a store of flows, in one place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Keys:
    """Names of the keys under one prefix, which is a hash tag, so that one server of a cluster has all of them.

    | key | type | holds |
    |---|---|---|
    | `flow:<id>` | hash | name, status, version, epoch, …; `fields`, `counts`: a line for each small field, state |
    | `flow:<id>:values` | hash | large fields, as JSON, its compressed form, or the name of a blob |
    | `flow:<id>:steps` | hash | `@<step>⏎<visit>` -> row; `<row>` -> state⏎fields; size, counts, strip, blocks of it |
    | `flow:<id>:members` | hash | `<row>:<index>` -> state⏎fields; `<row>:b<first index>` -> content of a block |
    | `flow:<id>:journal` | stream | its lines; their ids are their places |
    | `flows`, `status:<state>`, `name:<name>` | sorted sets | ids of flows by the time when they were created |
    | `names` | set | all names of flows |
    | `ended` | sorted set | ids of those that have ended by that time |
    | `changed` | sorted set | ids of flows by the number of their last change |
    | `changes` | string | the number of the last change |
    | `blob:<digest>` | string | large content, compressed |
    | `blobs` | hash | digest -> how many flows name it |
    | `uses` | sorted set | `<id>⏎<digest>`: which flow names which |
    | `q:<id>` | hash | one row of a question |
    | `q:<id>:lines` | list | its log, as JSON |
    | `questions`, `questions:open`, `flow:<id>:questions` | sorted sets | ids of questions by when they were asked |
    | `questions:due` | sorted set | ids of questions by the time when somebody has to look at them |
    | `cache:<digest>` | hash | a kept value: name, parts, source, made, expires, value; owner, token, beats |
    | `cached` | set | all names of which something is kept |
    | `cached:<name>` | sorted set | digests of what is kept for a name, by the time when it was made |
    | `cached_ends` | sorted set | digests of what is kept for a time, by its end |
    | `format` | string | version of all this |

    Keys of a flow have no expiry until it has ended, then the retention; a kept value that ends has one a day behind
    its end, a computation without a value one of a day; the others never have one. Questions go with their flow when
    that is deleted or cleaned up.
    """

    prefix: str

    @property
    def hints(self) -> str:
        """The channel of hints, which is no key."""
        return f"{self.prefix}:hints"

    @property
    def news(self) -> str:
        """The channel that tells of each change."""
        return f"{self.prefix}:news"

    def of_flow(self, flow_id: str) -> tuple[str, str, str, str, str]:
        """Its row, large fields, steps, members and journal."""
        row = f"{self.prefix}:flow:{flow_id}"
        return row, f"{row}:values", f"{row}:steps", f"{row}:members", f"{row}:journal"

    def for_script(self, flow_id: str) -> list[str]:
        """What `lib.lua` takes."""
        prefix = self.prefix
        common = (f"{prefix}:flows", f"{prefix}:ended", f"{prefix}:blobs", f"{prefix}:uses", f"{prefix}:names")
        return [*self.of_flow(flow_id), *common]

    def blob(self, digest: str) -> str:
        return f"{self.prefix}:blob:{digest}"

    def cache(self, digest: str) -> str:
        """A kept value, or who computes it."""
        return f"{self.prefix}:cache:{digest}"

    def cached(self, name: str) -> str:
        """What is kept for a name."""
        return f"{self.prefix}:cached:{name}"

    @property
    def cached_names(self) -> str:
        return f"{self.prefix}:cached"

    @property
    def cached_ends(self) -> str:
        return f"{self.prefix}:cached_ends"

    def index(self, flow_name: str | None, statuses: Sequence[str]) -> str:
        """The smallest index in which flows of this name, in one of these states, are."""
        if len(statuses) == 1:
            return f"{self.prefix}:status:{statuses[0]}"
        return f"{self.prefix}:name:{flow_name}" if flow_name is not None else f"{self.prefix}:flows"

    def question(self, question_id: str) -> str:
        return f"{self.prefix}:q:{question_id}"

    def flow_questions(self, flow_id: str) -> str:
        return f"{self.prefix}:flow:{flow_id}:questions"

    @property
    def questions(self) -> tuple[str, str]:
        """The indices of all questions, and of those that are open."""
        return f"{self.prefix}:questions", f"{self.prefix}:questions:open"

    @property
    def changes(self) -> tuple[str, str]:
        """Flows by their last changes, and the number of the last one."""
        return f"{self.prefix}:changed", f"{self.prefix}:changes"

    @property
    def questions_due(self) -> str:
        return f"{self.prefix}:questions:due"

    @property
    def format(self) -> str:
        return f"{self.prefix}:format"
