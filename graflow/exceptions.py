"""The error tree of `graflow`; the branches that `graflow_celery` adds are drawn in `graflow_celery.errors`.

::

    GraflowError
    ├── ConfigError                  (also a ValueError)
    │   ├── SettingError             (also a GraflowRuntimeError)
    │   └── StoreConfigError
    ├── FlowConflictError            (also a ValueError)
    │   └── MoveRefusedError
    ├── FlowInputError               (also a ValueError)
    ├── FlowNotFoundError            (also a ValueError)
    ├── GraphCompilationError
    │   └── DuplicateTaskError
    ├── InvalidCursorError           (also a ValueError)
    ├── PayloadError                 (also a ValueError)
    ├── SignatureError
    ├── TaskResolutionError
    │   └── UnknownTaskError
    ├── UnknownHandlerError          (also a ValueError)
    └── GraflowRuntimeError
        ├── ChildFlowError
        ├── CycleLimitExceededError
        ├── FlowChangedError
        ├── FlowTimeoutError         (also a TimeoutError)
        ├── GraflowWorkflowCanceledError
        ├── GroupConflictError
        ├── GroupLostError
        ├── GroupNotFoundError       (also a LookupError)
        ├── GroupTimeoutError        (also a TimeoutError)
        ├── MaxStepsExceededError
        ├── NoWorkerError
        ├── ParallelGroupError
        ├── RemoteTaskError
        ├── RetryLimitExceededError
        ├── RunOwnedError
        ├── StaleEpochError
        ├── StoreError
        │   └── StoreUnavailableError
        ├── TakeOverError
        ├── TaskFailedError          (also of the type that the task raised)
        ├── TaskError
        │   ├── MemberCancelledError
        │   │   └── MemberLeftOutError
        │   ├── MemberLostError
        │   └── TaskTimeoutError     (also a TimeoutError)
        ├── UnknownNodeError         (also a ValueError)
        └── VersionConflictError

Each error keeps what its message is built from as attributes, and survives `pickle` and `copy` with type, text and
attributes; an attribute that cannot be pickled arrives as a description of itself. One that a member of a group raises
on a worker comes back as itself: `travelling_errors` holds every class of the two trees, by its qualified name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Protocol, Self, TypeVar

from graflow.packing import deep_copied, packed, unpacked

__all__ = [
    "ChildFlowError",
    "ConfigError",
    "CycleLimitExceededError",
    "DuplicateTaskError",
    "FlowChangedError",
    "FlowConflictError",
    "FlowInputError",
    "FlowNotFoundError",
    "FlowTimeoutError",
    "GraflowError",
    "GraflowRuntimeError",
    "GraflowWorkflowCanceledError",
    "GraphCompilationError",
    "GroupConflictError",
    "GroupLostError",
    "GroupNotFoundError",
    "GroupTimeoutError",
    "InvalidCursorError",
    "MaxStepsExceededError",
    "MemberCancelledError",
    "MemberLeftOutError",
    "MemberLostError",
    "MoveRefusedError",
    "NoWorkerError",
    "ParallelGroupError",
    "PayloadError",
    "RemoteTaskError",
    "RetryLimitExceededError",
    "RunOwnedError",
    "SettingError",
    "SignatureError",
    "StaleEpochError",
    "StoreConfigError",
    "StoreError",
    "StoreUnavailableError",
    "TakeOverError",
    "TaskError",
    "TaskFailedError",
    "TaskResolutionError",
    "TaskTimeoutError",
    "UnknownHandlerError",
    "UnknownNodeError",
    "UnknownTaskError",
    "VersionConflictError",
    "as_runtime_error",
    "named",
]

_HOMES: Final = frozenset({"graflow.exceptions", "graflow_celery.errors"})

travelling_errors: Final[dict[str, type[GraflowError]]] = {}
"""The classes of both trees by qualified name, as they define themselves; classes of other modules never enter."""


class ErrorDescription(Protocol):
    """An error as plain data, as it comes back from another process; it may also have a `traceback` text."""

    @property
    def type(self) -> str: ...

    @property
    def message(self) -> str: ...


class GraflowError(Exception):
    """Everything that graflow itself raises: the root of the tree above.

    What goes wrong while a workflow runs is a `GraflowRuntimeError` below it; the other branches are mistakes in a
    set-up, a graph or what is sent. A subclass of your own does not come back from workers as itself unless you give it
    to `graflow.codec.register_error`.

    Attributes:
        message: What happened.
        cause: The error behind it, also the `__cause__`.
        context: The execution context of the run that `WorkflowContext.execute` raised it for, else None; stays in this
            process.
    """

    context: Any = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _let_travel(cls)

    def __init__(self, message: str, cause: BaseException | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.cause = cause
        if isinstance(cause, BaseException):
            self.__cause__ = cause

    def _text(self) -> str:
        return self.message

    def __str__(self) -> str:
        text, why = self._text(), "" if self.cause is None else str(self.cause)
        return text if why in text else f"{text} (caused by {why})"

    def as_sent(self) -> GraflowError:
        """The error as it is kept and sent: itself, or the part of it whose class has a name."""
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        # A value in two fields, such as cause and last_error, is one value on the other side.
        state = {name: value for name, value in self.__dict__.items() if name != "context"}
        different = {id(value): value for value in state.values()}
        once = {key: packed(value) for key, value in different.items()}
        fields = {name: once[id(value)] for name, value in state.items()}
        return _unpickled_error, (type(self), packed(self.args), fields)

    def __copy__(self) -> Self:
        return _restored(type(self), self.args, dict(self.__dict__))

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        fields = {name: deep_copied(value, memo) for name, value in self.__dict__.items() if name != "context"}
        return _restored(type(self), self.args, fields)


def _let_travel(kind: type[GraflowError]) -> None:
    if kind.__module__ in _HOMES:
        # The first of a name stays: nothing that a program defines later can take the place of one of ours.
        travelling_errors.setdefault(f"{kind.__module__}.{kind.__qualname__}", kind)


_let_travel(GraflowError)


class GraflowRuntimeError(GraflowError):
    """Something went wrong while a workflow ran.

    Attributes:
        run_id: The run that the error belongs to, where known: its session id, or that of the branch of a member.
    """

    run_id: str | None = None

    def is_of(self, run_id: str) -> bool:
        """Whether the error belongs to that run, as one does that no run has claimed yet."""
        return self.run_id in {None, run_id}


class CycleLimitExceededError(GraflowRuntimeError):
    """A task was iterated more often than its limit allows."""

    def __init__(self, task_id: str, cycle_count: int, max_cycles: int, run_id: str | None = None) -> None:
        super().__init__(
            f"Cycle limit exceeded for task '{task_id}': {cycle_count} of {max_cycles} cycles; raise its max_cycles"
        )
        self.run_id = run_id
        self.task_id = task_id
        self.cycle_count = cycle_count
        self.max_cycles = max_cycles


class RetryLimitExceededError(GraflowRuntimeError):
    """A task still failed after its last retry."""

    def __init__(
        self, task_id: str, retry_count: int, max_retries: int, last_error: BaseException | None = None
    ) -> None:
        super().__init__(
            f"Retry limit exceeded for task '{task_id}': {retry_count} failed attempts, max_retries {max_retries}",
            last_error,
        )
        self.task_id = task_id
        self.retry_count = retry_count
        self.max_retries = max_retries
        self.last_error = last_error

    def __str__(self) -> str:
        return self.message if self.cause is None else f"{self.message}: {named(self.cause)}"


class TaskFailedError(GraflowRuntimeError):
    """A task raised an error, which is the `cause`.

    What a run raises is of the cause's type as well, so that `except KeyError` catches a task's `KeyError`, and has the
    cause's attributes; see `graflow.core.run.failures`.

    Attributes:
        task_id: The task.
        run_id: The run, where known.
    """

    def __init__(self, task_id: str, cause: BaseException, run_id: str | None = None) -> None:
        super().__init__(f"Task '{task_id}' failed", cause)
        self.task_id = task_id
        self.run_id = run_id

    def __str__(self) -> str:
        return self.message if self.cause is None else f"{self.message}: {named(self.cause)}"


class MaxStepsExceededError(GraflowRuntimeError):
    """A run reached its limit of steps with work still pending.

    Attributes:
        max_steps: The limit.
        pending: Ids of the tasks that were to run next, or how many there are.
        loop: Ids of the loop that ran most often, in order; empty when nothing ran twice.
    """

    def __init__(
        self, max_steps: int, pending: Sequence[str] | int, loop: Sequence[str] = (), run_id: str | None = None
    ) -> None:
        around = f"; it goes round the cycle {' >> '.join([*loop, loop[0]])}" if loop else ""
        super().__init__(
            f"Stopped after max_steps={max_steps} with work pending: {_listed(pending)}{around}; "
            "raise max_steps to go on"
        )
        self.max_steps = max_steps
        self.pending = pending
        self.loop = list(loop)
        self.run_id = run_id


class TaskError(GraflowRuntimeError):
    """A task failed."""

    def __init__(self, task_id: str, message: str, cause: BaseException | None = None) -> None:
        super().__init__(message, cause)
        self.task_id = task_id

    def _text(self) -> str:
        return f"Error in task '{self.task_id}': {self.message}"


class TaskTimeoutError(TaskError, TimeoutError):
    """A task ran longer than its `timeout`, in seconds."""

    def __init__(self, task_id: str, timeout: float) -> None:
        super().__init__(task_id, f"not finished within its timeout of {timeout:g} s")
        self.timeout = timeout


class MemberLostError(TaskError):
    """The worker of a group's member was lost as often as `max_attempts` allows."""

    def __init__(self, task_id: str, attempts: int, losses: int = 0, how: str = "") -> None:
        count = losses or attempts
        lost = "an attempt that lost its worker" if count == 1 else f"{count} attempts that each lost their worker"
        last = f"{', the last one ' if count > 1 else ', '}{how}" if how else ""
        super().__init__(task_id, f"given up after {lost}{last}; see max_attempts")
        self.attempts = attempts
        self.losses = losses
        self.how = how


class MemberCancelledError(TaskError):
    """A member of a group was cancelled before it finished."""

    def __init__(self, task_id: str, message: str = "cancelled") -> None:
        super().__init__(task_id, message)


class MemberLeftOutError(MemberCancelledError):
    """A member did not run, or not to its end, because its group's policy had seen enough: no failure of its own.

    Attributes:
        why: What the policy had seen.
    """

    def __init__(self, task_id: str, why: str) -> None:
        super().__init__(task_id, f"left out: {why}")
        self.why = why


class ParallelGroupError(GraflowRuntimeError):
    """A group's results were not accepted by its policy.

    Attributes:
        failed_tasks: `(task id, message)` of each failed member, in member order.
        successful_tasks: Ids of the members that succeeded, in member order.
        errors: The exceptions of the failed members by task id.
    """

    def __init__(
        self,
        message: str,
        group_id: str,
        failed_tasks: Sequence[tuple[str, str]],
        successful_tasks: Sequence[str],
        errors: Mapping[str, BaseException] | None = None,
    ) -> None:
        super().__init__(message)
        self.group_id = group_id
        self.failed_tasks = [(task_id, text) for task_id, text in failed_tasks]
        self.successful_tasks = list(successful_tasks)
        self.errors = dict(errors or {})


class GraflowWorkflowCanceledError(GraflowRuntimeError):
    """A task cancelled the workflow."""

    def __init__(self, message: str, task_id: str | None = None, run_id: str | None = None) -> None:
        super().__init__(message)
        self.task_id = task_id
        self.run_id = run_id

    def _text(self) -> str:
        by = "" if self.task_id is None else f" by task '{self.task_id}'"
        return f"Workflow canceled{by}: {self.message}"


class GroupTimeoutError(GraflowRuntimeError, TimeoutError):
    """A group was not finished within the time that was given to it or to the wait for it.

    Attributes:
        group_id: The group.
        done: How many of its members had ended.
        total: How many members it has.
        timeout: The seconds that the group itself had; None when only a wait for it is over, and it goes on.
        run_id: Its run on workers; None for a group of this process.
        task_id: The continuation that was waited for, where it is not the group itself.
    """

    def __init__(
        self,
        group_id: str,
        done: int,
        total: int,
        *,
        timeout: float | None = None,
        run_id: str | None = None,
        task_id: str | None = None,
    ) -> None:
        group, ended = f"Group '{group_id}'", f"{done} of {total} members"
        if timeout is not None:
            others = "" if run_id is None else f", the others are cancelled (group run '{run_id}')"
            text = f"{group} was not finished within its timeout of {timeout:g} s: {ended} had ended{others}"
        else:
            awaited = group if task_id is None else f"The continuation '{task_id}' of group '{group_id}'"
            again = f"graflow_celery.attach('{run_id}'){'' if task_id is None else '.continuation()'}"
            text = f"{awaited} has not ended yet: {ended} have. It goes on; {again} continues waiting for it"
        super().__init__(text)
        self.group_id = group_id
        self.done = done
        self.total = total
        self.timeout = timeout
        self.run_id = run_id
        self.task_id = task_id


class GroupNotFoundError(GraflowRuntimeError, LookupError):
    """There is no record of a group run with that id, or only a part of it.

    Attributes:
        run_id: The run.
        why: What became of its record; empty when nothing is known of it here.
    """

    def __init__(self, run_id: str, why: str = "") -> None:
        super().__init__(
            f"No group run '{run_id}' on this Redis: {why or 'wrong key_prefix, or its record has expired'}"
        )
        self.run_id = run_id
        self.why = why


class GroupConflictError(GraflowRuntimeError):
    """The same run id was submitted with other content."""

    def __init__(self, run_id: str, message: str) -> None:
        super().__init__(message)
        self.run_id = run_id


class GroupLostError(GraflowRuntimeError):
    """The record of a running group is gone."""

    def __init__(self, run_id: str, message: str) -> None:
        super().__init__(message)
        self.run_id = run_id


class NoWorkerError(GraflowRuntimeError):
    """No worker consumes the queue of a group."""

    def __init__(self, message: str, queue: str, length: int) -> None:
        super().__init__(message)
        self.queue = queue
        self.length = length


class RunOwnedError(GraflowRuntimeError):
    """Another execution continues the same run of a workflow, so this one must not.

    Attributes:
        session_id: The run.
        owner: `host:pid` of the process that continues it.
        since: When that process took it, in seconds since the epoch.
    """

    def __init__(self, session_id: str, owner: str, since: float) -> None:
        super().__init__(
            f"Run '{session_id}' belongs to {owner} since {datetime.fromtimestamp(since, UTC):%Y-%m-%d %H:%M:%S} UTC; "
            "nothing more of it runs in this process. Wait for the other one, or end it and resume the run again"
        )
        self.session_id = session_id
        self.owner = owner
        self.since = since


class UnknownNodeError(GraflowRuntimeError, ValueError):
    """A run was told to go on at a task that is nowhere in the graph."""


class RemoteTaskError(GraflowRuntimeError):
    """An error of another process, shown with the traceback that it had there.

    Attributes:
        error: Type, message, traceback and cause as plain data.
        task_id: The task that raised it, where known.
    """

    def __init__(self, error: ErrorDescription, task_id: str | None = None) -> None:
        super().__init__(f"{error.type}: {error.message}")
        self.error = error
        self.task_id = task_id

    def _text(self) -> str:
        trace = getattr(self.error, "traceback", "")
        return f"{self.message}\n\n{trace.rstrip()}" if trace else self.message


class GraphCompilationError(GraflowError):
    """A graph cannot be run as it is."""


class DuplicateTaskError(GraphCompilationError):
    """A second task under the id of another one in the same graph.

    Attributes:
        task_id: The id.
        places: Where the functions of the two begin, as `file:line`; fewer for tasks that are no functions.
    """

    def __init__(self, task_id: str, places: Sequence[str] = ()) -> None:
        text = f"Duplicate task ID: {task_id}"
        if places:
            text += f", for two tasks ({' and '.join(places)}); give one of them another id, as in @task(id=...)"
        super().__init__(text)
        self.task_id = task_id
        self.places = list(places)


class ConfigError(GraflowError, ValueError):
    """A setting is missing, unknown or malformed."""


class SettingError(ConfigError, GraflowRuntimeError):
    """A setting that is unknown or does not fit; a runtime error too, so that a run passes it on as it is."""


class UnknownHandlerError(GraflowError, ValueError):
    """A task asks for a handler that the engine does not have: a mistake in the set-up, not a failure of the task."""


class PayloadError(GraflowError, ValueError):
    """Something that cannot be sent or kept, or that arrived in a form that cannot be read.

    Attributes:
        is_final: Whether it would be refused again, so that a retry is no use.
    """

    is_final: bool = False


class SignatureError(GraflowError):
    """A signature is missing, malformed, made with an unknown key, or does not hold."""


class TaskResolutionError(GraflowError):
    """A task cannot be put into an envelope, or an envelope stands for no task known here."""


class UnknownTaskError(TaskResolutionError):
    """A reference stands for no task that is tabled here; it may be in other processes.

    Attributes:
        reference: As `module:qualname`.
    """

    def __init__(self, message: str, reference: str) -> None:
        super().__init__(message)
        self.reference = reference


def as_runtime_error(error: BaseException) -> GraflowRuntimeError:
    """The error itself when it is a `GraflowRuntimeError`, else one that wraps it."""
    if isinstance(error, GraflowRuntimeError):
        return error
    return GraflowRuntimeError(f"An error occurred: {named(error)}", error)


def named(error: BaseException) -> str:
    """An error in a sentence: its type and text; errors of ours say what they are in their text."""
    if isinstance(error, RemoteTaskError):
        return error.message
    text = str(error)
    if isinstance(error, GraflowError) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _listed(pending: Sequence[str] | int) -> str:
    if isinstance(pending, int):
        return f"{pending} tasks"
    shown = 10
    more = "" if len(pending) <= shown else f" and {len(pending) - shown} more"
    return ", ".join(map(str, pending[:shown])) + more


# -- pickling ----------------------------------------------------------------------------------------------------------

_E = TypeVar("_E", bound=GraflowError)


def _unpickled_error(kind: type[_E], args: Any, fields: dict[str, Any]) -> _E:
    different = {id(value): value for value in fields.values()}
    once = {key: unpacked(value, GraflowError) for key, value in different.items()}
    return _restored(
        kind, tuple(unpacked(args, GraflowError)), {name: once[id(value)] for name, value in fields.items()}
    )


def _restored(kind: type[_E], args: tuple[Any, ...], fields: dict[str, Any]) -> _E:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(fields)
    if isinstance(error.cause, BaseException):
        error.__cause__ = error.cause
    return error


# -- flows -------------------------------------------------------------------------------------------------------------


class FlowNotFoundError(GraflowError, ValueError):
    """No flow of this name is registered, or none of this id is in the store."""


class FlowConflictError(GraflowError, ValueError):
    """The flow exists with other inputs, or it is in a state in which what was asked for cannot be done."""


class FlowInputError(GraflowError, ValueError):
    """Inputs do not fit the flow's signature; each field is named."""


class FlowChangedError(GraflowRuntimeError):
    """The code or graph of a flow is not what was recorded, where that matters; the text has the difference."""


class ChildFlowError(GraflowRuntimeError):
    """A flow that a step started and waited for did not complete.

    Attributes:
        flow_id: The child's id.
        status: Its state, such as `"failed"`.
    """

    def __init__(self, flow_id: str, status: str, error: str | None) -> None:
        super().__init__(f"Flow '{flow_id}', which this step waits for, is {status}{f': {error}' if error else ''}")
        self.flow_id = flow_id
        self.status = status
        self.error = error


class FlowTimeoutError(GraflowRuntimeError, TimeoutError):
    """A flow took longer than its `timeout`."""


class StoreError(GraflowRuntimeError):
    """The store of flows cannot be reached, refuses, or holds what this version cannot read."""


class StoreUnavailableError(StoreError):
    """The store does not answer at present; the same may succeed later."""


class StoreConfigError(ConfigError):
    """A store's address or settings cannot be right."""


class InvalidCursorError(GraflowError, ValueError):
    """A cursor of a list is not one that a page of this list has given."""


class StaleEpochError(GraflowRuntimeError):
    """Another owner has the flow by now; what this one did meanwhile is refused, and noted in the journal."""

    def __init__(self, flow_id: str, epoch: int, present: int) -> None:
        super().__init__(f"Flow '{flow_id}' belongs to a later owner: epoch {present}, not {epoch}")
        self.flow_id, self.epoch, self.present = flow_id, epoch, present


class VersionConflictError(GraflowRuntimeError):
    """The flow has changed since it was read; read it again and decide anew."""

    def __init__(self, flow_id: str, version: int, present: int) -> None:
        super().__init__(f"Flow '{flow_id}' is at version {present}, not {version}: somebody changed it meanwhile")
        self.flow_id, self.version, self.present = flow_id, version, present


class MoveRefusedError(FlowConflictError):
    """The state of the flow does not allow this; the text names the state and what may be done."""


class TakeOverError(GraflowRuntimeError):
    """A recorded step has no place in the run: the graph is not what it was."""
