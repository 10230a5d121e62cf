"""What a run knows of the questions that its tasks ask people: their ids, who keeps them, which answers it has had."""

from __future__ import annotations

import hmac
import secrets
import string
import threading
from collections.abc import Mapping
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, Protocol

from graflow.core.branches.outcome import OpenQuestion
from graflow.exceptions.feedback import FeedbackTimeoutError
from graflow.redis.config import concerns_server
from graflow.secret import Secret

if TYPE_CHECKING:
    from graflow.hitl.manager import FeedbackManager

_ALPHABET: Final = string.ascii_letters + string.digits
_making = threading.Lock()


class RunWaits(FeedbackTimeoutError):  # noqa: N818 - no error, but what a run does that waits for people
    """Members of a group, or a run inside a task, wait for answers, and so does the run around them.

    Attributes:
        questions: Those that are open.
    """

    def __init__(self, questions: list[OpenQuestion]) -> None:
        super().__init__(questions[0].feedback_id, questions[0].timeout)
        self.questions = questions

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.questions,)


class _Run(Protocol):
    questions: Questions | None
    flow: Any

    @property
    def channel_backend(self) -> str: ...

    @property
    def config(self) -> Mapping[str, Any]: ...


def questions_of(run: Any) -> Questions:
    """Those of the run that `run` is, or is a branch of."""
    root: _Run = run.root
    if root.questions is None:
        with _making:
            # A flow has the same ids in each process that runs it.
            root.questions = root.questions or Questions(secret=None if run.root.flow is None else run.root.session_id)
    return root.questions


class Questions:
    """Of one run; its branches share it.

    Args:
        home: What `told` said of the run that this one is a branch of, elsewhere.
        secret: What ids are made from where no run around this one says it; a new one when None.

    Attributes:
        taken: Ids whose answer the run has had before.
    """

    def __init__(self, home: Mapping[str, Any] | None = None, secret: str | None = None) -> None:
        self._secret = str(home["secret"]) if home else secret or secrets.token_hex(16)
        self._place = _received(home["place"]) if home else {}
        self._manager: FeedbackManager | None = None
        self.taken: set[str] = set()

    def id_of(self, *place: object) -> str:
        """The id of the question that is asked in a place of the run: 16 letters and digits that tell nothing of it."""
        digest = hmac.new(self._secret.encode(), "\0".join(map(str, place)).encode(), sha256).digest()
        number, text = int.from_bytes(digest), ""
        for _ in range(16):
            number, digit = divmod(number, len(_ALPHABET))
            text += _ALPHABET[digit]
        return text

    def number_of_next(self, frame: Any) -> int:
        """1 for the first question of an execution, 2 for the second, and so on."""
        with _making:
            frame.asked += 1
            return int(frame.asked)

    # -- who keeps them --------------------------------------------------------------------------------------------

    def manager(self, run: _Run, channel: Any = None) -> FeedbackManager:
        """The manager of the run, made when it is first needed.

        Args:
            run: Its settings say where questions are kept, unless a manager was assigned.
            channel: The channel that answers are written to.

        Raises:
            ConfigError: Questions are kept where this process cannot reach them.
        """
        with _making:
            if self._manager is None:
                self._manager = _manager_at(self._place or _default_place(run), channel)
            return self._manager

    def assign(self, manager: FeedbackManager | None) -> None:
        """Have this manager keep the questions; the default one when None."""
        self._manager, self._place = manager, {}

    def told(self, run: _Run, channel: Any) -> dict[str, Any]:
        """What branches of the run know that run elsewhere: plain JSON, passwords by the names of their variables."""
        place = _place_of(self.manager(run, channel))
        by_name = {name: {"secret": it.name} if isinstance(it, Secret) else it for name, it in place.items()}
        return {"secret": self._secret, "place": by_name}

    def __getstate__(self) -> dict[str, Any]:
        place = self._place if self._manager is None else _place_of(self._manager)
        return self.__dict__ | {"_manager": None, "_place": place, "taken": set(self.taken)}


def _default_place(run: _Run) -> dict[str, Any]:
    # Members of a flow on workers of other machines ask as well.
    if run.channel_backend == "redis" or (run.flow is not None and concerns_server(run.config)):
        return {**run.config, "backend": "redis"}
    return {"backend": "filesystem", "data_dir": run.config.get("data_dir")}


def _place_of(manager: Any) -> dict[str, Any]:
    """Where a manager keeps its questions; of a backend that tells no place, its name alone."""
    backend = getattr(manager, "_backend", manager)
    found = backend.place() if hasattr(backend, "place") else None
    return dict(found) if isinstance(found, Mapping) else {"backend": type(backend).__qualname__}


def _manager_at(place: Mapping[str, Any], channel: Any) -> FeedbackManager:
    from graflow.hitl.manager import FeedbackManager  # noqa: PLC0415 - a run that asks nobody does not pay for it

    config = {name: value for name, value in place.items() if name != "backend"}
    return FeedbackManager(place["backend"], config, channel_manager=channel)


def _received(place: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: Secret.reference(it["secret"]) if isinstance(it, Mapping) and it.keys() == {"secret"} else it
        for name, it in place.items()
    }
