"""What a run raises when a task failed: an error that names the task, and is also of the type that the task raised."""

from __future__ import annotations

import copy
import traceback
from types import BuiltinFunctionType, TracebackType
from typing import Any, TypeVar

from graflow.exceptions import (
    CycleLimitExceededError,
    GraflowError,
    GraflowRuntimeError,
    GraflowWorkflowCanceledError,
    MaxStepsExceededError,
    RunOwnedError,
    TaskFailedError,
)
from graflow.foreign import attempt

CONTROL_ERRORS = (GraflowWorkflowCanceledError, CycleLimitExceededError, MaxStepsExceededError, RunOwnedError)
"""How a run ends, rather than what went wrong in a task: never a reason to try the task again."""

_F = TypeVar("_F", bound=GraflowRuntimeError)

_FLOW_OF_PYTHON = (StopIteration, StopAsyncIteration)  # raised by name they mean something else to whoever catches them
_HARMLESS = (object, GraflowError)
_OF_THE_SYSTEM = ("errno", "strerror", "filename", "filename2")


def failure_of(error: BaseException, task_id: str, run_id: str) -> GraflowRuntimeError:
    """What to raise for an error of a task: itself when it is ours already, else one that names the task.

    The end that another run came to, such as a workflow that the task executed, is the failure of the task that ran it.

    Either knows `task_id` and `run_id`, and shows the traceback of the task without the frames around it.
    """
    without_engine_frames(error)
    if isinstance(error, CONTROL_ERRORS) and not error.is_of(run_id):
        return TaskFailedError(task_id, error, run_id)
    if isinstance(error, GraflowRuntimeError):
        for name, value in (("task_id", task_id), ("run_id", run_id)):
            if getattr(error, name, None) is None:
                setattr(error, name, value)
        return error
    return of_both_types(TaskFailedError(task_id, error, run_id), error)


def of_both_types(failure: _F, cause: BaseException) -> _F:
    """The failure as an error that is of its cause's type too, and has the cause's attributes beside its own.

    Where that type cannot be a base of another one, or does something when it becomes one, the failure itself.
    """
    while isinstance(cause, _OfBothTypes) and cause.plain.cause is not None:
        cause = cause.plain.cause  # what a workflow that the task executed failed of
    kind = type(cause)
    if isinstance(failure, kind) or not isinstance(cause, Exception) or issubclass(kind, _FLOW_OF_PYTHON):
        return failure
    if any("__init_subclass__" in vars(base) for base in kind.__mro__ if base not in _HARMLESS):
        return failure
    made = attempt(lambda: _made_of(failure, cause), lambda _: None)
    if made is None:
        return failure
    made.__dict__.update(failure.__dict__, plain=failure)
    made.__cause__ = failure.__cause__
    if isinstance(cause, OSError):
        for name in _OF_THE_SYSTEM:
            setattr(made, name, getattr(cause, name))
    return made  # type: ignore[no-any-return]  # made of both classes


def _made_of(failure: BaseException, cause: BaseException) -> Any:
    kind = type(failure)
    # A property of the cause's type, such as `message` of exception groups, would hide the failure's own attribute.
    own = dict.fromkeys((*vars(failure), "context"))
    both = type(kind.__name__, (_OfBothTypes, kind, type(cause)), {**own, "__module__": kind.__module__})
    # Not by a `__new__` written in Python, which may want other arguments than the error has as `args`; Python takes
    # only that of the base whose layout it is.
    found = (vars(base).get("__new__") for base in (both.__base__ or both).__mro__)
    made: Any = next(new for new in found if isinstance(new, BuiltinFunctionType))(both, *cause.args)
    BaseException.__init__(made, *failure.args)
    return made


class _OfBothTypes:
    """The part of such an error that is neither class's own; it is kept and sent as the failure alone."""

    plain: GraflowRuntimeError

    def __getattr__(self, name: str) -> Any:
        cause = self.__dict__.get("cause")
        if cause is None or name.startswith("__"):
            raise AttributeError(name)
        return getattr(cause, name)

    def __setattr__(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)  # whatever the cause's type says, as a frozen dataclass does

    def as_sent(self) -> GraflowRuntimeError:
        return self.plain

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (self.plain,)

    def __copy__(self) -> Any:
        return _again(copy.copy(self.plain))

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return _again(copy.deepcopy(self.plain, memo))


def _again(plain: Any) -> Any:
    return plain if plain.cause is None else of_both_types(plain, plain.cause)


def without_engine_frames(error: BaseException) -> None:
    """Begin the traceback of an error at the first frame that is not of this package, where there is one."""
    trace: TracebackType | None = error.__traceback__
    while trace is not None:
        if not str(trace.tb_frame.f_globals.get("__name__", "")).startswith("graflow."):
            error.with_traceback(trace)  # an error may refuse that its attributes are set
            return
        trace = trace.tb_next


def forget_locals(error: BaseException) -> None:
    """Let go of the variables in the frames of an error that is kept but not raised; it still names its lines."""
    seen: set[int] = set()
    chain: list[BaseException | None] = [error]
    while chain:
        link = chain.pop()
        if link is None or id(link) in seen:
            continue
        seen.add(id(link))
        traceback.clear_frames(link.__traceback__)
        chain += [link.__cause__, link.__context__]
        if isinstance(link, BaseExceptionGroup):
            chain += link.exceptions
