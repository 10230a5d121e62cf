"""Errors as plain data, so that type, message, traceback and causes of an error survive the way between processes."""

from __future__ import annotations

import builtins
import inspect
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

from graflow.exceptions import GraflowError, PayloadError, RemoteTaskError, travelling_errors
from graflow.foreign import attempt, text_of

MAX_CAUSES: Final = 16
MAX_MESSAGE: Final = 16 * 1024
MAX_TRACEBACK: Final = 64 * 1024
_MAX_FIELD_DEPTH: Final = 8
_MAX_ITEMS: Final = 1000  # of one dictionary in an error
_DIRECT: Final = "The above exception was the direct cause of the following exception:"
_DURING: Final = "During handling of the above exception, another exception occurred:"

_ErrorType = TypeVar("_ErrorType", bound=type[Exception])


@dataclass(frozen=True)
class ErrorData:
    """An error as data, of another process for example; nothing that can be raised.

    Attributes:
        type: Qualified name of its class; builtin classes without a module.
        message: Its text.
        traceback: What Python printed for it there, causes included.
        cause: The error it was raised from, or during.
        state: What its class is made from again, as JSON data; None when only text is known.
    """

    type: str
    message: str
    traceback: str = ""
    cause: ErrorData | None = None
    state: Mapping[str, Any] | None = field(default=None, repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """JSON data, read by `from_dict`."""
        data: dict[str, Any] = {"type": self.type, "message": self.message, "traceback": self.traceback}
        data["cause"] = None if self.cause is None else self.cause.to_dict()
        if self.state is not None:
            data["state"] = dict(self.state)
        return data

    @classmethod
    def from_dict(cls, data: object) -> ErrorData:
        """The error that `to_dict` wrote.

        Raises:
            PayloadError: When the data has another shape.
        """
        return _from_dict(data, 4 * MAX_CAUSES)

    def chain(self) -> Iterator[ErrorData]:
        """This error, then its cause, and so on."""
        link: ErrorData | None = self
        while link is not None:
            yield link
            link = link.cause


def _from_dict(data: object, depth: int) -> ErrorData:
    if not isinstance(data, dict) or depth == 0:
        raise PayloadError("An error must be an object with 'type', 'message', 'traceback' and 'cause', nested little")
    kind, message, trace = data.get("type"), data.get("message", ""), data.get("traceback", "")
    state, cause = data.get("state"), data.get("cause")
    if not (isinstance(kind, str) and kind and isinstance(message, str) and isinstance(trace, str)):
        raise PayloadError("An error's 'type', 'message' and 'traceback' must be text")
    if state is not None and not isinstance(state, dict):
        raise PayloadError("An error's 'state' must be an object")
    return ErrorData(kind, message, trace, None if cause is None else _from_dict(cause, depth - 1), state)


# -- out ---------------------------------------------------------------------------------------------------------------


def describe_error(error: BaseException) -> ErrorData:
    """The error as data; one that already came from another process keeps the type and text it had there."""
    if isinstance(error, RemoteTaskError) and isinstance(error.error, ErrorData):
        return error.error
    cause: ErrorData | None = None
    trace = ""
    for link, joint in reversed([*_links(error)]):
        own = "".join(traceback.format_exception(link, chain=False)).rstrip()
        trace = f"{trace}\n\n{joint}\n\n{own}" if trace else own
        if link is error:
            break
        if isinstance(link, RemoteTaskError) and isinstance(link.error, ErrorData):
            cause = link.error
        else:
            cause = _described(link, _clipped_front(own, MAX_TRACEBACK // 4), cause)
    return _described(error, _clipped_front(trace, MAX_TRACEBACK), cause)


def _described(error: BaseException, trace: str, cause: ErrorData | None) -> ErrorData:
    return ErrorData(qualified_name(type(error)), message_of(error), trace, cause, _state_of(error, 0))


def _links(error: BaseException) -> Iterator[tuple[BaseException, str]]:
    """The error and those behind it, each with the sentence that Python prints between it and the one behind it."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen and len(seen) <= MAX_CAUSES:
        seen.add(id(link))
        if link.__cause__ is not None or link.__suppress_context__:
            behind, joint = link.__cause__, _DIRECT
        else:
            behind, joint = link.__context__, _DURING
        yield link, joint
        link = behind


def qualified_name(kind: type) -> str:
    """`ValueError` for builtin classes, else `module.Class`."""
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def message_of(error: BaseException) -> str:
    """The text of an error, also of one that cannot print itself; of another process's, what it said there."""
    if isinstance(error, RemoteTaskError) and isinstance(error.error, ErrorData):
        return error.error.message or error.error.type
    text = text_of(error)
    return text if len(text) <= MAX_MESSAGE else f"{text[:MAX_MESSAGE]}… ({len(text)} characters)"


def _clipped_front(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"… ({len(text) - limit} characters left out)\n{text[-limit:]}"


def _state_of(error: BaseException, depth: int) -> dict[str, Any] | None:
    """The arguments that make the error again, where its class is one that comes back as itself."""
    if isinstance(error, GraflowError):
        error = error.as_sent()
    kind = type(error)
    if _known(qualified_name(kind)) is not kind:
        return None
    names = _constructor_names(kind)
    try:
        if names is not None and all(hasattr(error, name) for name in names):
            return {"fields": {name: _field(getattr(error, name), depth) for name in names}}
        # What an OSError is made of besides `args`, its file name, only its reduction tells.
        args = error.__reduce__()[1] if isinstance(error, OSError) else error.args
        return {"args": [_field(argument, depth) for argument in args]}
    except TypeError:
        return None


def _field(value: object, depth: int) -> Any:
    if value is None or type(value) in (str, int, float, bool):
        return value
    if depth > _MAX_FIELD_DEPTH:
        raise TypeError("nested too deeply")
    if isinstance(value, BaseException):
        inner = ErrorData(qualified_name(type(value)), message_of(value), "", None, _state_of(value, depth + 1))
        return {"error": inner.to_dict()}
    if isinstance(value, ErrorData):
        return {"remote": value.to_dict()}
    if type(value) is list:
        return [_field(item, depth + 1) for item in value]
    if type(value) is tuple:
        return {"tuple": [_field(item, depth + 1) for item in value]}
    if type(value) is bytes and len(value) <= MAX_MESSAGE:
        return {"bytes": value.hex()}
    if type(value) is dict and len(value) <= _MAX_ITEMS:
        return {"items": [[_field(key, depth + 1), _field(item, depth + 1)] for key, item in value.items()]}
    raise TypeError(f"a {type(value).__qualname__} is not kept in an error")


# -- back --------------------------------------------------------------------------------------------------------------


def rebuild_error(remote: ErrorData, task_id: str | None = None) -> BaseException:
    """An error that can be raised here.

    Builtin errors, those of `graflow` and `graflow_celery` and those of `register_error` come back as their own class,
    anything else as a `RemoteTaskError`. What comes back has the data as `.remote`, and prints the traceback that it
    had there.
    """
    telling = RemoteTaskError(remote, task_id)
    error = _rebuilt(remote, 0)
    if error is None:
        error = telling
    else:
        error.__cause__ = telling
    error.remote = remote  # type: ignore[attr-defined]  # also on classes that are not ours
    return error


def register_error(kind: _ErrorType) -> _ErrorType:
    """Let errors of this class come back as themselves; usable as a decorator.

    Its constructor is called again with the attributes named like its parameters, or else with its `args`.

    Raises:
        TypeError: When it is no subclass of `Exception`.
    """
    if not (isinstance(kind, type) and issubclass(kind, Exception)):
        raise TypeError(f"Only subclasses of Exception can be registered, not {kind!r}")
    _known_errors[qualified_name(kind)] = kind
    return kind


def _known(name: str) -> type[Exception] | None:
    """The class of that name, from the closed tables of those that come back as themselves."""
    return travelling_errors.get(name) or _known_errors.get(name)


def _rebuilt(remote: ErrorData, depth: int) -> BaseException | None:
    kind = _known(remote.type)
    # A constructor, registered ones included, may refuse any argument; so may we, by a TypeError.
    return None if kind is None else attempt(lambda: _made_again(kind, remote, depth), lambda _: None)


def _made_again(kind: type[Exception], remote: ErrorData, depth: int) -> BaseException | None:
    state = remote.state or {}
    fields, args = state.get("fields"), state.get("args")
    if isinstance(fields, dict):
        names = _constructor_names(kind) or ()
        return kind(**{name: _value(fields.get(name), depth) for name in names})
    made = kind(*[_value(argument, depth) for argument in args]) if isinstance(args, list) else kind(remote.message)
    return made if message_of(made) == remote.message else None


def _value(data: object, depth: int) -> Any:
    if depth > 2 * _MAX_FIELD_DEPTH:
        raise TypeError("nested too deeply")
    if isinstance(data, list):
        return [_value(item, depth + 1) for item in data]
    if not isinstance(data, dict):
        return data
    if "error" in data:
        remote = ErrorData.from_dict(data["error"])
        return _rebuilt(remote, depth + 1) or RemoteTaskError(remote)
    if "tuple" in data:
        return tuple(_value(item, depth + 1) for item in data["tuple"])
    if "bytes" in data:
        return bytes.fromhex(data["bytes"])
    if "remote" in data:
        return ErrorData.from_dict(data["remote"])
    items = [(_value(key, depth + 1), _value(item, depth + 1)) for key, item in data["items"]]
    if len(items) > _MAX_ITEMS:
        raise TypeError("more items than an error has")
    return dict(items)


def _constructor_names(kind: type[BaseException]) -> tuple[str, ...] | None:
    """Parameters of a constructor written in Python; None for those whose `args` are all there is."""
    if kind not in _constructors:
        _constructors[kind] = _looked_up_names(kind)
    return _constructors[kind]


def _looked_up_names(kind: type[BaseException]) -> tuple[str, ...] | None:
    if not inspect.isfunction(kind.__init__):
        return None
    parameters = list(inspect.signature(kind.__init__).parameters.values())[1:]
    if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD, p.POSITIONAL_ONLY) for p in parameters):
        return None
    return tuple(parameter.name for parameter in parameters)


_constructors: WeakKeyDictionary[type, tuple[str, ...] | None] = WeakKeyDictionary()
_known_errors: dict[str, type[Exception]] = {
    name: kind for name, kind in vars(builtins).items() if isinstance(kind, type) and issubclass(kind, Exception)
}
