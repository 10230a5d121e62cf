"""Options of a task, checked where they are written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from inspect import CO_VARARGS
from types import FunctionType
from typing import Any, Final

from graflow.coordination.backend_keys import QUEUE_NAME, is_queue_name
from graflow.core.retry import ErrorFilter, RetryPolicy
from graflow.durations import LONGEST, MOST
from graflow.encoding.shapes import is_writable
from graflow.exceptions import ConfigError
from graflow.given import checked_count
from graflow.text.shown import get_logger

_log = get_logger(__name__)

_SECONDS: Final = f"seconds above 0 and up to {LONGEST}"


def _are_seconds(value: Any) -> bool:
    return _is_number(value, int | float) and 0 < value <= LONGEST


def _is_number(value: Any, kind: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


_FOR_WORKERS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "queue": (QUEUE_NAME, is_queue_name),
    "priority": ("a whole number from 0 to 9", lambda value: _is_number(value, int) and 0 <= value <= 9),
    "time_limit": (_SECONDS, _are_seconds),
    "soft_time_limit": (_SECONDS, _are_seconds),
    "max_attempts": (f"a whole number from 1 to {MOST}", lambda value: _is_number(value, int) and 0 < value <= MOST),
}


def checked_id(task_id: object) -> str:
    """The id of a task.

    Raises:
        ConfigError: It is no text, empty, or holds half of a surrogate pair.
    """
    if not isinstance(task_id, str) or not task_id:
        raise ConfigError(f"The id of a task must be text that is not empty, not {task_id!r}")
    if not is_writable(task_id):
        raise ConfigError(f"The id of a task must be text that UTF-8 can hold, not {task_id!r}")
    return task_id


def checked_flag(task_id: str, name: str, value: object) -> bool:
    """True or False.

    Raises:
        ConfigError: It is something else.
    """
    if not isinstance(value, bool):
        raise ConfigError(f"Task '{task_id}': {name} must be True or False, not {value!r}")
    return value


def checked_handler(task_id: str, value: object) -> str:
    """The type of the handler that runs the task; `"direct"` when not given.

    Raises:
        ConfigError: It is no name.
    """
    if value is not None and not isinstance(value, str):
        raise ConfigError(
            f"Task '{task_id}': handler must be the name that the handler is registered under, not {value!r}"
        )
    return value or "direct"


def checked_limit(task_id: str, name: str, value: object) -> int | None:
    """A whole number of at least 0, or None.

    Raises:
        ConfigError: It is something else.
    """
    return None if value is None else checked_count(f"Task '{task_id}': {name}", value, most=MOST)


def checked_seconds(task_id: str, name: str, value: Any) -> float | None:
    """Seconds above 0, or None.

    Raises:
        ConfigError: It is something else.
    """
    if value is not None and not _are_seconds(value):
        raise ConfigError(f"Task '{task_id}': {name} must be {_SECONDS}, not {value!r}")
    return value  # type: ignore[no-any-return]  # looked at just now


def checked_policy(task_id: str, policy: object, max_retries: object) -> tuple[RetryPolicy | None, int | None]:
    """The retry policy, and how often the task is tried again: what the policy says, else what the task says.

    Raises:
        ConfigError: One of them is of a wrong type or out of range.
    """
    given = checked_limit(task_id, "max_retries", max_retries)
    if policy is None:
        return None, given
    if not isinstance(policy, RetryPolicy):
        raise ConfigError(f"Task '{task_id}': retry_policy must be a RetryPolicy, not {policy!r}")
    if given is None or policy.max_retries == given:
        return policy, policy.max_retries
    if policy.max_retries:
        _log.warning(
            "Task '%s': max_retries=%d does nothing beside a retry_policy with max_retries=%d, which counts",
            *(task_id, given, policy.max_retries),
        )
    return policy, policy.max_retries or given


def policy_of(
    task_id: str,
    policy: RetryPolicy | None,
    max_retries: int | None,
    retry_on: ErrorFilter | None,
    give_up_on: ErrorFilter | None,
) -> RetryPolicy | None:
    """The retry policy that `@task(max_retries=3, retry_on=ConnectionError)` stands for; it waits for nothing.

    Raises:
        ConfigError: There is nothing to try again, or a policy that says it already.
    """
    filters = {"retry_on": retry_on, "give_up_on": give_up_on}
    given = " and ".join(name for name, value in filters.items() if value is not None)
    if not given:
        return policy
    if policy is not None:
        raise ConfigError(
            f"Task '{task_id}': {given} and retry_policy exclude each other; give {given} to RetryPolicy()"
        )
    if not checked_limit(task_id, "max_retries", max_retries):
        raise ConfigError(f"Task '{task_id}': {given} does nothing without max_retries; give max_retries=")
    try:
        return RetryPolicy(max_retries or 0, initial_interval=0, retry_on=retry_on, give_up_on=give_up_on)
    except ConfigError as error:
        raise ConfigError(f"Task '{task_id}': {str(error).replace('RetryPolicy.', '')}") from None


CacheOption = bool | Callable[..., object]
"""Whether what a task or flow gives is kept; a function of its arguments gives what counts of them."""


def checked_cache(what: str, cache: Any, ttl: Any) -> tuple[CacheOption | None, float | None]:
    """Whether values are kept, and for how many seconds; None for no.

    Args:
        what: Whose they are, for the error.
        cache: As it was given.
        ttl: The same.

    Raises:
        ConfigError: One of them is of a wrong type or out of range, or `ttl` is given alone.
    """
    if cache is not None and not isinstance(cache, bool) and not callable(cache):
        raise ConfigError(
            f"{what}: cache must be True, or a function of the same arguments that gives what counts of them, "
            f"not {cache!r}"
        )
    if ttl is not None and not _are_seconds(ttl):
        raise ConfigError(f"{what}: ttl must be {_SECONDS}, not {ttl!r}")
    if ttl is not None and not cache:
        raise ConfigError(f"{what}: ttl does nothing without a cache; give cache=True")
    return cache or None, ttl


def checked_version(task_id: str, version: object) -> str | int | None:
    """What tells the code of a task besides its function, or None.

    Raises:
        ConfigError: It is neither text nor a whole number.
    """
    if version is None or (isinstance(version, str | int) and not isinstance(version, bool)):
        return version
    raise ConfigError(f"Task '{task_id}': version must be text or a whole number, not {version!r}")


def checked_options(task_id: str, options: object) -> dict[str, Any] | None:
    """Options for members on workers, or None.

    Raises:
        ConfigError: An option is unknown or has a wrong value.
    """
    if options is None:
        return None
    if not isinstance(options, Mapping):
        raise ConfigError(f"Task '{task_id}': options must be a mapping, not {options!r}")
    unknown = [name for name in options if name not in _FOR_WORKERS]
    if unknown:
        raise ConfigError(
            f"Task '{task_id}' has unknown options {', '.join(map(repr, unknown))}; known are {', '.join(_FOR_WORKERS)}"
        )
    for name, value in options.items():
        wanted, fits = _FOR_WORKERS[name]
        if value is not None and not fits(value):
            raise ConfigError(f"Task '{task_id}': the option {name} must be {wanted}, not {value!r}")
    return dict(options)


def checked_injection(task_id: str, value: object, func: Callable[..., object]) -> bool:
    """Whether the context is given to a function, which must have a place for it.

    Raises:
        ConfigError: When it is no truth value, or the function takes nothing by position.
    """
    injects = checked_flag(task_id, "inject_context", value)
    if injects and isinstance(func, FunctionType):
        code = func.__code__
        if not (code.co_argcount or code.co_flags & CO_VARARGS):
            raise ConfigError(
                f"Task '{task_id}': inject_context=True gives the context as the first argument, and the function "
                f"takes none; write def {func.__name__}(context)"
            )
    return injects


def require_key(key: object, where: str) -> None:
    """Refuse a key of a fan-out that cannot be called.

    Raises:
        TypeError: It is no function.
    """
    if key is not None and not callable(key):
        raise TypeError(f"{where} takes a function of an item as key=, such as str, not {key!r}")


def require_items(items: object, where: str) -> None:
    """Refuse what a fan-out cannot take item by item.

    Raises:
        TypeError: For anything that is not iterable.
    """
    if not isinstance(items, Iterable):
        raise TypeError(f"{where} takes the items, one for each member, not {items!r}; give a list or a range")
