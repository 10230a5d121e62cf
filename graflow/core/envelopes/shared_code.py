"""Code that travels by value: pickled once for all members of a group, under the hash of its bytes.

An envelope names the hash, signed for its group, so whoever has verified it may load what has that hash.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from graflow.core.envelopes.by_value import pickled_task, unpickled_task
from graflow.core.envelopes.fingerprint import fingerprint
from graflow.core.envelopes.references import classes_of
from graflow.exceptions import SignatureError, TaskResolutionError
from graflow.protocols import Node
from graflow.signing import SigningKeys
from graflow.values.blobs import GivenBlobs, TakenBlobs

_PURPOSE: Final = "code"
_KEPT: Final = 64  # tasks that were loaded
_loaded: OrderedDict[str, Any] = OrderedDict()
_lock = threading.Lock()


class GroupCode:
    """The code of the tasks of one group on its way out.

    Args:
        keys: Sign it; without them no code is taken.
        bound_to: The group, for example run id and group id.

    Attributes:
        contents: The pickles by hash.
        blobs: Takes long arguments, which members share in the same way.
    """

    def __init__(self, keys: SigningKeys | None, bound_to: Sequence[str]) -> None:
        self.contents: dict[str, bytes] = {}
        self.blobs = TakenBlobs()
        self._keys = keys
        self._bound_to = bound_to
        self._taken: dict[tuple[Any, ...], tuple[Any, dict[str, str]]] = {}

    def takes(self, task: Node) -> bool:
        """Whether a task is an instance of a function, of which others may differ in their arguments alone."""
        return self._keys is not None and hasattr(type(task), "instance")

    def knows(self, task: Node) -> bool:
        """Whether another instance of the same function with the same options was taken before."""
        return bool(self._taken) and self.takes(task) and _shape_of(task) in self._taken

    def take(self, task: Any) -> tuple[Node, dict[str, str]]:
        """The task without arguments, and what an envelope says of its code.

        Raises:
            PayloadError: When it cannot be pickled.
        """
        shape = _shape_of(task)
        found = self._taken.get(shape)
        if found is None:
            base = task.instance(str(getattr(task, "__name__", task.task_id)), {})
            found = self._taken[shape] = base, self._written(base)
        return found

    def _written(self, base: Any) -> dict[str, str]:
        if self._keys is None:
            raise TaskResolutionError("Code cannot be sent without a signing key")
        classes_of(base)
        content = pickled_task(base)
        name = hashlib.sha256(content).hexdigest()
        self.contents[name] = content
        signature = self._keys.sign(name.encode(), purpose=_PURPOSE, bound_to=self._bound_to)
        return {"code": name, "signature": signature, "fingerprint": fingerprint(base)}


def _shape_of(task: Any) -> tuple[Any, ...]:
    return type(task), *((name, id(value)) for name, value in task.template.facts().items())


class ReceivedCode:
    """The code of the tasks of one group, loaded once per process.

    Args:
        keys: Verify it.
        bound_to: The group, as it was signed for.
        fetch: Gives the bytes of a hash.
        blobs: Has the long arguments that envelopes name.
    """

    def __init__(
        self,
        keys: SigningKeys | None,
        bound_to: Sequence[str],
        fetch: Callable[[str], bytes],
        blobs: GivenBlobs | None = None,
    ) -> None:
        self.blobs = blobs
        self._keys = keys
        self._bound_to = bound_to
        self._fetch = fetch

    def task(self, payload: Mapping[str, Any]) -> Any:
        """The task without arguments that an envelope names.

        Raises:
            TaskResolutionError: When this process has no key, the signature does not hold, the bytes do not have that
                hash, or the code cannot be loaded here.
        """
        name, signature = payload.get("code"), payload.get("signature")
        if self._keys is None:
            raise TaskResolutionError(
                "An envelope with strategy 'code' is refused because this process has no signing key: set "
                "GRAFLOW_SIGNING_KEY here to the sender's key"
            )
        if not isinstance(name, str) or not isinstance(signature, str):
            raise TaskResolutionError("An envelope with strategy 'code' must hold 'code' and 'signature' as text")
        try:
            self._keys.verify(name.encode(), signature, purpose=_PURPOSE, bound_to=self._bound_to)
        except SignatureError as error:
            raise TaskResolutionError(f"An envelope with strategy 'code' is refused: {error}", error) from error
        with _lock:
            if name in _loaded:
                _loaded.move_to_end(name)
                return _loaded[name]
        return self._load(name)

    def _load(self, name: str) -> Any:
        content = self._fetch(name)
        if hashlib.sha256(content).hexdigest() != name:
            raise TaskResolutionError("The code of a group does not have the hash that an envelope names")
        task = unpickled_task(content)
        if not hasattr(type(task), "instance"):
            raise TaskResolutionError(f"Signed code held a {type(task).__name__}, not a task")
        classes_of(task)
        with _lock:
            task = _loaded.setdefault(name, task)
            while len(_loaded) > _KEPT:
                _loaded.popitem(last=False)
        return task
