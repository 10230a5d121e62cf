"""From tasks to envelopes and back: resolvers, their strategies, and the registry that names them.

A reference is looked up in a table that was filled beforehand: from modules that the operator of the process named, and
from tasks that this process itself has sent. Text that arrives in an envelope is never imported and never used with
`getattr`. Whatever carries code is signed, and its signature is checked before anything of it is decoded.
"""

from __future__ import annotations

import base64
import hashlib
import importlib
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any, Final, NoReturn

from graflow.codec import ENVELOPE_VERSION, SerializedTask
from graflow.core.envelopes.by_value import pickled_task, unpickled_task
from graflow.core.envelopes.fingerprint import fingerprint
from graflow.core.envelopes.references import (
    REMEDIES,
    ReferenceTable,
    classes_of,
    executables_of,
    restore_instance,
    travelling_fields,
)
from graflow.core.envelopes.shared_code import GroupCode, ReceivedCode
from graflow.core.serialization import signed_pickles
from graflow.exceptions import PayloadError, SignatureError, TaskResolutionError
from graflow.foreign import attempt_import, import_failure
from graflow.protocols import Node, upward
from graflow.signing import SigningKeys
from graflow.values.blobs import TakenBlobs
from graflow.values.pickles import Pickles

__all__ = ["SerializedTask", "TaskResolutionError", "TaskResolver", "TaskResolverRegistry", "default_registry"]

_PURPOSE: Final = "task"

Payload = Mapping[str, Any]


@dataclass(frozen=True)
class _Strategy:
    serialize: Callable[[Any], Payload]
    resolve: Callable[[Payload], Any]
    carries_code: bool


class TaskResolver:
    """Puts tasks into envelopes and makes tasks from envelopes.

    Args:
        keys: Keys that sign and verify what carries code; those of `GRAFLOW_SIGNING_KEY` when not given.
    """

    def __init__(self, *, keys: SigningKeys | None = None) -> None:
        self.resolver_id: str | None = None
        self._keys = keys
        self._table = ReferenceTable()
        self._strategies: dict[str, _Strategy] = {}
        self._known_there: AbstractSet[str] | None = None

    # -- what the operator says ------------------------------------------------------------------------------------

    @property
    def keys(self) -> SigningKeys | None:
        return SigningKeys.from_environment() if self._keys is None else self._keys

    def with_keys(self, keys: SigningKeys | None) -> TaskResolver:
        """A resolver over the same table and strategies that signs and verifies with other keys."""
        twin = TaskResolver(keys=keys)
        twin.resolver_id, twin._table, twin._strategies = self.resolver_id, self._table, self._strategies
        return twin

    def sending_to(self, modules: AbstractSet[str]) -> TaskResolver:
        """A resolver over the same table for processes that know these modules; tasks of others go by value."""
        twin = self.with_keys(self._keys)
        twin._known_there = modules
        return twin

    def register_module(self, module: str | ModuleType) -> list[str]:
        """Import a module and table every executable that is an attribute of it; returns their references.

        Raises:
            TaskResolutionError: When the module cannot be imported.
        """
        if isinstance(module, str):
            module = _imported(module)
        found = dict(executables_of(module))
        self._table.add_module(module.__name__, found)
        return [f"{module.__name__}:{path}" for path in found]

    def register_task(self, task: Node) -> None:
        """Table one task under its own module and qualified name, importable or not."""
        self._table.add(task)

    @property
    def modules(self) -> list[str]:
        """Names of the registered modules, sorted."""
        return self._table.modules()

    def references(self) -> list[str]:
        """All references that this resolver can look up, as `module:qualname`, sorted."""
        return self._table.references()

    def digest(self) -> str:
        """A short fingerprint of the references, by which workers with different code can be told apart."""
        return hashlib.sha256("\n".join(self.references()).encode()).hexdigest()[:16]

    def register_strategy(
        self,
        name: str,
        serialize: Callable[[Any], Payload],
        resolve: Callable[[Payload], Any],
        *,
        carries_code: bool,
    ) -> None:
        """Add a strategy; both sides need it.

        Args:
            name: How envelopes name it; the built-in names cannot be replaced.
            serialize: Makes the payload, plain JSON data, from a task.
            resolve: Makes the task from that payload.
            carries_code: Whether the payload is signed, and refused unless its signature holds.

        Raises:
            ValueError: When the name is built in.
        """
        if name in ("reference", "pickle", "code") or name in upward.data_nodes:
            raise ValueError(f"The strategy '{name}' is built in and cannot be replaced")
        self._strategies[name] = _Strategy(serialize, resolve, carries_code)

    # -- out -------------------------------------------------------------------------------------------------------

    def serialize(self, task: Node, strategy: str = "reference", *, bound_to: Sequence[str] = ()) -> SerializedTask:
        """The envelope of a task.

        Args:
            task: What to send.
            strategy: "reference", "pickle", "noop", "group" or a registered one.
            bound_to: What a signature is bound to besides the content, for example run, group and index.

        Raises:
            TaskResolutionError: When the strategy cannot carry this task; the text says what to do.
            PayloadError: When a bound argument cannot be kept, naming task and parameter.
        """
        return self._enveloped(task, strategy, bound_to, None)

    def _enveloped(self, task: Node, strategy: str, bound_to: Sequence[str], code: GroupCode | None) -> SerializedTask:
        return SerializedTask(
            strategy=strategy,
            payload=dict(self._payload(task, strategy, bound_to, code)),
            resolver_id=self.resolver_id or "default",
        )

    def serialize_best(
        self, task: Node, *, bound_to: Sequence[str] = (), code: GroupCode | None = None
    ) -> SerializedTask:
        """The envelope of a task: as data or by reference where that works, else by value when there is a key.

        Args:
            task: What to send.
            bound_to: What a signature is bound to besides the content.
            code: Takes what the members of a group share: their code, and long arguments.

        Raises:
            TaskResolutionError: When neither works; the text names both remedies.
            PayloadError: When a bound argument can be kept neither as data nor, for want of a key, by value.
        """
        kinds = upward.data_nodes.items()
        strategy = next((name for name, kind in kinds if type(task) in kind.types), "reference")
        if code is not None and code.knows(task):
            return self._enveloped(task, "code", bound_to, code)
        try:
            return self._enveloped(task, strategy, bound_to, code)
        except (TaskResolutionError, PayloadError):
            if self.keys is None:
                raise
        by_value = "code" if code is not None and code.takes(task) else "pickle"
        return self._enveloped(task, by_value, bound_to, code)

    def _payload(self, task: Node, strategy: str, bound_to: Sequence[str], code: GroupCode | None) -> Payload:
        blobs = None if code is None else code.blobs
        if strategy == "reference":
            return self._refer(task, bound_to, blobs)
        if strategy == "code":
            if code is None:
                raise TaskResolutionError(f"Task '{task.task_id}': code is shared by the members of a group only")
            base, named = code.take(task)
            return {**named, **travelling_fields(task, base, lambda: self._argument_pickles(bound_to), blobs)}
        if strategy == "pickle":
            classes_of(task)
            return _signed(self._signing_keys(task), strategy, pickled_task(task), bound_to)
        kind = upward.data_nodes.get(strategy)
        if kind is not None:
            if type(task) not in kind.types:
                raise TaskResolutionError(f"Task '{task.task_id}' is no node of the kind that '{strategy}' carries")
            return kind.take(task, lambda inner: self.serialize_best(inner, bound_to=bound_to, code=code).to_dict())
        known = self._strategy(strategy)
        if not known.carries_code:
            return known.serialize(task)
        keys = self._signing_keys(task)
        text = json.dumps(dict(known.serialize(task)), separators=(",", ":"), sort_keys=True)
        return _signed(keys, strategy, text.encode(), bound_to)

    def _refer(self, task: Node, bound_to: Sequence[str], blobs: TakenBlobs | None) -> dict[str, Any]:
        module, path, base = self._table.find_or_add(task)
        if self._known_there is not None and module not in self._known_there:
            raise TaskResolutionError(f"Task '{task.task_id}' cannot be sent by reference: no worker knows {module}")
        payload = {"module": module, "name": path.rpartition(".")[2], "qualname": path}
        self._table.learn(base)
        return {**payload, **travelling_fields(task, base, lambda: self._argument_pickles(bound_to), blobs)}

    def _argument_pickles(self, bound_to: Sequence[str]) -> Pickles:
        return signed_pickles(self.keys, "argument", *bound_to, fingerprint=fingerprint)

    def _signing_keys(self, task: Node) -> SigningKeys:
        keys = self.keys
        if keys is None:
            raise TaskResolutionError(
                f"Task '{task.task_id}' cannot be sent by value without a signing key. {REMEDIES}"
            )
        return keys

    # -- in --------------------------------------------------------------------------------------------------------

    def resolve(
        self,
        envelope: SerializedTask | Mapping[str, Any],
        *,
        bound_to: Sequence[str] = (),
        code: ReceivedCode | None = None,
    ) -> Any:
        """The task that an envelope stands for.

        Args:
            envelope: The envelope, or its dictionary form.
            bound_to: What the sender bound signatures to.
            code: Has what the members of a group share: their code, and long arguments.

        Raises:
            TaskResolutionError: Unknown version, strategy or reference, a signature that does not hold, or content
                that cannot be used.
        """
        if not isinstance(envelope, SerializedTask):
            envelope = SerializedTask.from_dict(envelope)
        if envelope.version != ENVELOPE_VERSION:
            raise TaskResolutionError(
                f"Envelope version {envelope.version!r} is unknown; this process reads version {ENVELOPE_VERSION}"
            )
        strategy, payload = envelope.strategy, envelope.payload
        blobs = None if code is None else code.blobs
        if strategy == "reference":
            base = self._table.look_up(payload)
            self._table.learn(base)
            return restore_instance(base, payload, lambda: self._argument_pickles(bound_to), blobs)
        if strategy == "code" and code is not None:
            return restore_instance(code.task(payload), payload, lambda: self._argument_pickles(bound_to), blobs)
        if strategy == "pickle":
            return _checked_task(unpickled_task(self._verified(strategy, payload, bound_to)))
        kind = upward.data_nodes.get(strategy)
        if kind is not None:
            return kind.make(payload, lambda inner: self.resolve(inner, bound_to=bound_to, code=code))
        known = self._strategy(strategy)
        if known.carries_code:
            payload = json.loads(self._verified(strategy, payload, bound_to))
        return known.resolve(payload)

    def _strategy(self, name: str) -> _Strategy:
        known = self._strategies.get(name) if isinstance(name, str) else None
        if known is None:
            names = ", ".join(sorted({"reference", "pickle", "code", *upward.data_nodes, *self._strategies}))
            raise TaskResolutionError(f"Unknown strategy {name!r}; known are {names}")
        return known

    def _verified(self, strategy: str, payload: Payload, bound_to: Sequence[str]) -> bytes:
        """The signed bytes of a payload, returned only when the signature holds for them."""
        keys = self.keys
        if keys is None:
            raise TaskResolutionError(
                f"An envelope with strategy '{strategy}' is refused because this process has no signing key: "
                "set GRAFLOW_SIGNING_KEY here to the sender's key"
            )
        data, signature = payload.get("data"), payload.get("signature")
        if not isinstance(data, str) or not isinstance(signature, str):
            raise TaskResolutionError(
                f"An envelope with strategy '{strategy}' must hold 'data' and 'signature' as text"
            )
        try:
            content = base64.b64decode(data, validate=True)
            keys.verify(content, signature, purpose=_PURPOSE, bound_to=(strategy, *bound_to))
        except (ValueError, SignatureError) as error:
            raise TaskResolutionError(f"An envelope with strategy '{strategy}' is refused: {error}", error) from error
        return content


def _signed(keys: SigningKeys, strategy: str, content: bytes, bound_to: Sequence[str]) -> dict[str, str]:
    signature = keys.sign(content, purpose=_PURPOSE, bound_to=(strategy, *bound_to))
    return {"data": base64.b64encode(content).decode("ascii"), "signature": signature}


def _checked_task(task: object) -> Any:
    if not isinstance(getattr(task, "task_id", None), str):
        raise TaskResolutionError(f"A signed envelope held a {type(task).__name__}, not a task")
    classes_of(task)
    return task


class TaskResolverRegistry:
    """Resolvers by id; two registries never meet."""

    def __init__(self) -> None:
        self._resolvers: dict[str, TaskResolver] = {}
        self._lock = threading.Lock()

    def register(self, resolver_id: str, resolver: TaskResolver) -> TaskResolver:
        """Add a resolver, or replace the one under that id; its envelopes name the first id it was given."""
        with self._lock:
            self._resolvers[resolver_id] = resolver
            if resolver.resolver_id is None:
                resolver.resolver_id = resolver_id
        return resolver

    def get(self, resolver_id: str = "default") -> TaskResolver:
        """The resolver with that id.

        Raises:
            TaskResolutionError: Listing the known ids.
        """
        with self._lock:
            resolver = self._resolvers.get(resolver_id)
            known = sorted(self._resolvers)
        if resolver is None:
            listed = ", ".join(map(repr, known)) or "none"
            raise TaskResolutionError(f"Unknown resolver {resolver_id!r}; known are {listed}")
        return resolver

    def ids(self) -> list[str]:
        """The registered ids, sorted."""
        with self._lock:
            return sorted(self._resolvers)

    def serialize(self, task: Node, *, resolver_id: str = "default", bound_to: Sequence[str] = ()) -> SerializedTask:
        """`serialize_best` of the resolver with that id, whose id the envelope then names."""
        envelope = self.get(resolver_id).serialize_best(task, bound_to=bound_to)
        return envelope if envelope.resolver_id == resolver_id else replace(envelope, resolver_id=resolver_id)

    def resolve(self, envelope: SerializedTask, *, bound_to: Sequence[str] = ()) -> Any:
        """`resolve` of the resolver that the envelope names."""
        return self.get(envelope.resolver_id).resolve(envelope, bound_to=bound_to)


def _imported(name: str) -> ModuleType:
    def refuse(error: Exception | SystemExit) -> NoReturn:
        why = import_failure(name, error)
        raise TaskResolutionError(f"Cannot import the task module '{name}': {why}") from error

    return attempt_import(lambda: importlib.import_module(name), refuse)


def _made_default() -> TaskResolverRegistry:
    registry = TaskResolverRegistry()
    registry.register("default", TaskResolver())
    return registry


_default = _made_default()


def default_registry() -> TaskResolverRegistry:
    """The registry of this process; it knows "default"."""
    return _default
