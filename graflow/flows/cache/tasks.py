"""The cache as the tasks of one execution of a flow use it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import CoroutineType
from typing import Any, Protocol

from graflow.core.nodes.aio import run_coroutine
from graflow.core.nodes.keeping import Facts, Recalled, tell_not_kept
from graflow.core.nodes.templates import DIRECT, TaskTemplate
from graflow.flows.cache.keys import NotKeptError, inputs_digest, task_key
from graflow.flows.cache.reasons import Reason
from graflow.flows.cache.sharing import Cache
from graflow.state.cache import CacheKey
from graflow.state.statuses import StepStatus


class Position(Protocol):
    """Knows which step of the flow runs, and ends waits of a flow that goes no further."""

    flow_id: str

    @property
    def is_retried(self) -> bool:
        """Whether somebody asked that the step that runs is run again."""

    def position(self) -> tuple[str, int, int]:
        """The step, its visit and its attempt."""

    def check(self) -> None:
        """Return while the run may go on with what it waits for."""


class TasksOfFlow:
    """Keeps what tasks with a cache give, and gives it again.

    What came of it is put into the facts of the run, for the row of the step or member.

    Args:
        cache: The store's.
        position: The flow.
    """

    def __init__(self, cache: Cache, position: Position) -> None:
        self._cache = cache
        self._position = position

    def function_of(self, task: Any, context: Any, frame: Any) -> Callable[..., Any]:
        """What is called instead of the function of a task: it gives the kept value, or calls that."""

        def call(*args: Any, **kwargs: Any) -> Any:
            def compute() -> Any:
                value = task.template.func(*args, **kwargs)
                return run_coroutine(value, context) if type(value) is CoroutineType else value

            try:
                key = _key_of(task, args, kwargs)
            except NotKeptError as error:
                value = compute()
                tell_not_kept(task, str(error))
                _note(context, frame, {"cache": Reason(False, str(error)).data()})
                return value
            return self._value(task, context, frame, key, compute)

        return call

    def _value(self, task: Any, context: Any, frame: Any, key: CacheKey, compute: Callable[[], Any]) -> Any:
        facts: dict[str, Any] = {"input_digest": inputs_digest(key)}
        _note(context, frame, facts)

        def refusal() -> str | None:
            why = _use_of_run(frame)
            if why is not None:
                tell_not_kept(task, why)
            return why

        value, reason = self._cache.value(
            key,
            compute,
            ttl=task.template.ttl,
            is_asked=not self._position.is_retried,
            source=self._place(context),
            wait=self._position.check,
            refusal=refusal,
            is_wanted=lambda: not frame.is_abandoned,
        )
        facts |= _facts_of(reason)
        return value

    def recalled(self, task: Any, context: Any, index: int, kwargs: Mapping[str, Any]) -> Recalled:
        """What is kept of a member that is to run elsewhere; nobody waits for others that compute the same."""
        try:
            if task.template.handler_type != DIRECT:
                raise NotKeptError("on workers, it is its handler that gives the value")  # noqa: TRY301 - as below
            key = _key_of(task, *_placed(task.template, kwargs))
        except NotKeptError as error:
            tell_not_kept(task, str(error))
            return Recalled({"cache": Reason(False, str(error)).data()})
        ttl, inputs = task.template.ttl, {"input_digest": inputs_digest(key)}
        value, reason = self._cache.kept(key, ttl=ttl, is_asked=not self._position.is_retried)
        facts, source = inputs | _facts_of(reason), self._place(context, index)

        def keep(value: object, why_not: str | None) -> Facts:
            if why_not is not None:
                tell_not_kept(task, why_not)
                return inputs | _facts_of(Reason(False, why_not, key.digest))
            self._cache.keep(key, value, ttl=ttl, source=source)
            return facts

        return Recalled(facts, reason.is_hit, value, keep)

    def _place(self, context: Any, index: int | None = None) -> dict[str, Any]:
        """Where a value is computed: the step, and the member of it."""
        step, visit, _ = self._position.position()
        place = {"flow_id": self._position.flow_id, "step": step, "visit": visit}
        run = context
        while run is not None:
            if run.member is not None:
                index = run.member.index
            run = run.parent_context
        return place if index is None else {**place, "index": index}


def _key_of(task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> CacheKey:
    if task.template.inject_context:
        raise NotKeptError("it takes the context of its run")
    return task_key(task, args, kwargs)


def _placed(template: TaskTemplate, kwargs: Mapping[str, Any]) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    """Arguments that were found by name as the function takes them."""
    plan = template.plan(0)
    if not plan.moves:
        return (), kwargs
    try:
        return plan.placed((), kwargs)
    except TypeError as error:  # the call itself will say so
        raise NotKeptError(str(error)) from error


def _facts_of(reason: Reason) -> dict[str, Any]:
    """What is recorded of a step or member besides what it did."""
    if not reason.is_hit:
        return {"cache": reason.data()}
    source = {**(reason.source or {}), "why": reason.text}
    return {"cache": reason.data(), "status": StepStatus.CACHED.value, "source": source}


def _note(context: Any, frame: Any, facts: dict[str, Any]) -> None:
    if context.facts is None:
        context.facts = {}
    context.facts[frame.task_id] = facts


def _use_of_run(frame: Any) -> str | None:
    """Why the value of an execution does not follow from its arguments alone."""
    if frame.layer is not None:
        return "it uses the channel of its run"
    if frame.control or frame.is_iterating or frame.queued or frame.born:
        return "it asks something of its run"
    return None
