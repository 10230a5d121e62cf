"""What all errors have in common: their text, their way to other processes, and the two roots of the tree."""

from __future__ import annotations

from typing import Any, Final, Protocol, Self, TypeVar

from graflow.encoding.packing import deep_copied, packed, unpacked
from graflow.foreign import text_of

_HOME: Final = "graflow.exceptions"
_HOMES: Final = frozenset({_HOME, "graflow_celery.errors"})
_E = TypeVar("_E", bound="GraflowError")

travelling_errors: Final[dict[str, type[GraflowError]]] = {}
"""The classes of both trees by qualified name, as they define themselves; classes of other modules never enter."""


class ErrorDescription(Protocol):
    """An error as plain data, as it comes back from another process; it may also have a `traceback` text."""

    @property
    def type(self) -> str: ...

    @property
    def message(self) -> str: ...


class GraflowError(Exception):
    """Everything that graflow itself raises: the root of the tree of `graflow.exceptions`.

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
        text, why = self._text(), "" if self.cause is None else text_of(self.cause)
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
    if kind.__module__.startswith(f"{_HOME}."):
        kind.__module__ = _HOME  # the name by which users, pickles and other processes know it
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


def as_runtime_error(error: BaseException) -> GraflowRuntimeError:
    """The error itself when it is a `GraflowRuntimeError`, else one that wraps it."""
    if isinstance(error, GraflowRuntimeError):
        return error
    return GraflowRuntimeError(f"An error occurred: {named(error)}", error)


def named(error: BaseException) -> str:
    """An error in a sentence: its type and text; errors of ours say what they are in their text."""
    if isinstance(error, RemoteTaskError):
        return error.message
    text = text_of(error)
    if isinstance(error, GraflowError) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


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


_unpickled_error.__module__ = _HOME
