"""Every setting of fan-out over Celery: its name, its default, and the places it may come from.

A setting is looked for in `backend_config`, then in the environment (`GRAFLOW_<NAME>`), then in the section `redis` of
`config.yaml`, then in `celeryconfig.py` (`graflow_<name>`), then the default holds. The connection is taken as a whole
from the first place that names one.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import ModuleType
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, ValidationError

from graflow.configuration.sections import Count, Seconds, no_truth
from graflow.configuration.variables import warn_of_unknown_variables
from graflow.coordination.backend_keys import check_keys
from graflow.durations import LONGEST
from graflow.exceptions import ConfigError, SettingError
from graflow.redis.config import (
    CONNECTION_KEYS,
    URL_VARIABLE,
    Secret,
    connection_of,
    describe_server,
    normalize_redis_config,
    redis_url,
)
from graflow.redis.named import NAMES_OF_SERVERS, SECTION, in_file
from graflow.secret import revealed
from graflow.signing import SigningKeys
from graflow_celery.celeryconfig import celeryconfig, warn_of_unread
from graflow_celery.naming import check_broker, check_key, check_prefix, check_queue

Place = Callable[[str], str]
"""How a place calls a setting."""


def backend_config_key(name: str) -> str:
    """A setting as a key of the given mapping."""
    return f"backend_config['{name}']"


def command_option(name: str) -> str:
    """A setting as an option of a command."""
    return f"--{name.replace('_', '-')}"


def _variable(name: str) -> str:
    return URL_VARIABLE if name == "url" and os.environ.get(URL_VARIABLE) else f"GRAFLOW_{name.upper()}"


def _line_of_celeryconfig(name: str) -> str:
    url = name == "url" and not getattr(celeryconfig(), "graflow_url", None)
    return f"{'graflow_redis_url' if url else f'graflow_{name}'} of celeryconfig.py"


def _celerys_setting(name: str) -> str:
    return f"{_CELERYS_NAMES[name]} of celeryconfig.py"


_CELERYS_NAMES: Final = {"broker_url": "broker_url", "queue": "task_default_queue"}


class GroupOptions(BaseModel):
    """What one group may have in another way than the next one over the same servers.

    Attributes:
        timeout: Seconds for a whole group; None for no limit.
        batch_size: Members per message.
        max_attempts: Executions of a member whose worker was lost; 1 means at most once.
        lease: Seconds without a heartbeat after which a worker counts as lost.
        run_lease: Seconds without a heartbeat after which another process may take a run over.
        queue_wait: Seconds after which a message that no worker has claimed is published again; doubled each time.
        max_in_flight: Members of one group running at once; None for no limit.
        worker_wait: Seconds without any worker after which the waiter warns.
        on_no_worker: Whether the waiter goes on waiting then, or ends with an error.
        result_ttl: Seconds that outcomes are kept after the end.
        sweep_interval: Seconds between looks for lost members.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    timeout: Seconds | None = None
    batch_size: Count | Literal["auto"] = "auto"
    max_attempts: Count = 4
    lease: Seconds = 30.0
    run_lease: Seconds = 6.0
    queue_wait: Seconds = 60.0
    max_in_flight: Count | None = None
    worker_wait: Annotated[float, BeforeValidator(no_truth), Field(ge=0, le=LONGEST, allow_inf_nan=False)] = 10.0
    on_no_worker: Literal["warn", "error"] = "warn"
    result_ttl: Seconds = 86400.0
    sweep_interval: Seconds = 1.0


class ServerSettings(BaseModel):
    """Where record, broker and keys are, and under which names: what makes a deployment.

    Attributes:
        connection: The Redis of record, as the connection keys that were given.
        broker_url: Any Celery broker; the Redis of record when None.
        key_prefix: Namespace of keys and queues.
        queue: Celery queue of the members; the key prefix when None.
        signing_key: `key id:base64` pairs; the first signs, all verify.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    connection: dict[str, Any] = Field(default_factory=dict, repr=False)
    broker_url: Any = Field(default=None, repr=False)
    key_prefix: str = Field(default="graflow", min_length=1)
    queue: str | None = Field(default=None, min_length=1)
    signing_key: Any = Field(default=None, repr=False)
    keep_logs: bool = True
    _said: Mapping[str, Place] = PrivateAttr(default_factory=dict)

    def said(self, name: str) -> str:
        """A setting, or a key of the connection, under the name by which it was given."""
        own = name if name in self.__class__.model_fields else "connection"
        return self._said.get(own, backend_config_key)(name)

    def broker_said(self, _key: str) -> str:
        """Any key of the connection to the broker, which is given as one URL."""
        return self.said("broker_url")

    @property
    def queue_name(self) -> str:
        return self.queue or self.key_prefix

    @property
    def flow_queue_name(self) -> str:
        """The control queue: one message for each flow that is to be run."""
        return f"{self.key_prefix}.flows"

    @property
    def redis_url(self) -> Secret:
        """URL of the Redis of record, with its secrets."""
        return redis_url(self.connection)

    @property
    def server(self) -> str:
        """The Redis of record in words, without secrets."""
        return describe_server(self.connection)

    @property
    def keys(self) -> SigningKeys | None:
        """The signing keys: those given, else those of the environment."""
        if self.signing_key is not None:
            return SigningKeys.parse(revealed(self.signing_key))
        return SigningKeys.from_environment()

    def identity(self) -> str:
        """What tells two brokers or records apart, as a key for caches within this process."""
        parts = {name: str(revealed(value)) for name, value in connection_of(self.connection).items()}
        said = json.dumps([parts, str(revealed(self.broker_url)), self.key_prefix, self.queue_name], sort_keys=True)
        return hashlib.sha256(said.encode()).hexdigest()  # it holds the password


class Settings(ServerSettings, GroupOptions):
    """The `backend_config` of a group, a queue, a worker or a handle, checked and completed.

    Attributes:
        thread_count: Threads of the threading backend.
    """

    thread_count: Count | None = None

    @classmethod
    def load(
        cls,
        config: Mapping[str, Any] | Settings | None = None,
        *,
        strict: bool = True,
        place: Place = backend_config_key,
    ) -> Self | Settings:
        """Settings from a `backend_config` laid over the environment, `config.yaml` and `celeryconfig.py`.

        Args:
            config: The given settings; a `Settings` is returned as it is.
            strict: Whether unknown keys are refused; a context's `config` may hold anything.
            place: How the caller calls the keys that are given.

        Raises:
            ConfigError: For an unknown key (naming the nearest known one) or a value that does not fit.
        """
        if isinstance(config, Settings):
            return config
        given = normalize_redis_config(config)
        if strict:
            check_keys(given)
        merged, said = _merged(given, place)
        try:
            made = cls(**merged)
            made._said = said
        except ValidationError as error:
            raise SettingError(_explain(error, said)) from None
        for name, check in _CHECKS.items():
            try:
                check(made)
            except (ConfigError, ValueError) as error:
                raise SettingError(f"{_words(name, said, made.connection)} cannot be used: {error}") from None
        return made

    def consuming(self, queue: str) -> Self:
        """The same with another queue.

        Raises:
            ConfigError: When no worker could be told to consume it.
        """
        try:
            check_queue(queue)
        except ConfigError as error:
            raise SettingError(f"queue= cannot be used: {error}") from None
        return self.model_copy(update={"queue": queue})

    @property
    def options(self) -> GroupOptions:
        """The part that a group carries."""
        return GroupOptions(**{name: getattr(self, name) for name in GroupOptions.model_fields})


OWN_KEYS: Final = frozenset(Settings.model_fields) - {"connection"}
_TRUTHS: Final = frozenset({"ssl", "decode_responses", "socket_keepalive", "ssl_check_hostname"})
_NUMBERS: Final = frozenset(
    {
        *("port", "db", "protocol", "max_connections", "health_check_interval", "batch_size"),
        *("socket_timeout", "socket_connect_timeout"),
    }
)


def _merged(given: Mapping[str, Any], nearest: Place) -> tuple[dict[str, Any], dict[str, Place]]:
    """What is said at each place, nearer places first, and under which name the last one said it."""
    merged: dict[str, Any] = {}
    configured, celerys = _from_celeryconfig(), _celerys_own()
    said: dict[str, Place] = dict.fromkeys(celerys, _celerys_setting)
    warn_of_unknown_variables()
    places = (
        (_line_of_celeryconfig, configured),
        _from_file(),
        (_variable, _from_environment()),
        (nearest, given),
    )
    for place, found in places:
        source = normalize_redis_config(found)
        own = {name: source[name] for name in OWN_KEYS if source.get(name) is not None}
        connection = {name: source[name] for name in CONNECTION_KEYS if source.get(name) is not None}
        said.update(dict.fromkeys(own, place))
        if connection:
            said["connection"] = place
        if connection.keys() & set(NAMES_OF_SERVERS):
            merged["connection"] = connection
            if found is not configured:
                celerys.pop("broker_url", None)  # a Redis that is named nearer by is the broker as well
        elif connection:
            merged["connection"] = {**merged.get("connection", {}), **connection}
        merged.update(own)
    merged = {**celerys, **merged}
    if "connection" not in merged:
        warn_of_unread()  # which may have named the server
    if isinstance(merged.get("signing_key"), str):
        merged["signing_key"] = Secret(merged["signing_key"], "GRAFLOW_SIGNING_KEY")
    return merged, said


_CHECKS: Final[Mapping[str, Callable[[Settings], object]]] = {
    "connection": lambda settings: connection_of(settings.connection),
    "broker_url": lambda settings: check_broker(settings.broker_url),
    "key_prefix": lambda settings: check_prefix(settings.key_prefix),
    "queue": lambda settings: check_queue(settings.queue),
    "signing_key": lambda settings: check_key(settings.signing_key),
}


def _words(name: str, said: Mapping[str, Place], connection: Mapping[str, Any]) -> str:
    """A setting, or what is given of the connection, under the name by which it was given."""
    place = said.get(name, backend_config_key)
    if name != "connection":
        return place(name)
    return f"The connection in {', '.join(place(key) for key in sorted(connection))}"


_MAY_HOLD_SECRETS: Final = frozenset({"connection", "broker_url", "signing_key"})
_NO_NUMBER: Final = frozenset({"float_parsing", "int_parsing"})


def _explain(error: ValidationError, said: Mapping[str, Place]) -> str:
    first = error.errors(include_url=False)[0]
    if first["type"] in _NO_NUMBER and isinstance(first["input"], str):
        return f"{_words(str(first['loc'][0]), said, {})}: it takes a number, not {first['input']!r}"
    name = str(first["loc"][0])
    given = "" if name in _MAY_HOLD_SECRETS else f", not {first['input']!r}"
    return f"{_words(name, said, {})}: {first['msg']}{given}"


def _from_file() -> tuple[Place, dict[str, Any]]:
    """What the section `redis` of the project's `config.yaml` says, and how it calls it."""
    found = in_file()
    if found is None:
        return backend_config_key, {}
    document, said = found
    return lambda name: document.place(SECTION, name), said


def _from_environment() -> dict[str, Any]:
    """`GRAFLOW_<NAME>` of every setting and connection key; the signing key is read where it is used."""
    found: dict[str, Any] = {}
    for name in (*OWN_KEYS - {"signing_key"}, *CONNECTION_KEYS):
        text = os.environ.get(f"GRAFLOW_{name.upper()}")
        if text:
            found[name] = _from_text(name, text)
    url = os.environ.get("GRAFLOW_REDIS_URL")
    if url:
        found["url"] = url
    return found


def _from_text(name: str, text: str) -> Any:
    """The value that a text stands for; what is neither a number nor a truth value where one is needed stays text."""
    if name in _TRUTHS and text.lower() in {"true", "1", "yes", "on", "false", "0", "no", "off"}:
        return text.lower() in {"true", "1", "yes", "on"}
    if name in _NUMBERS:
        with suppress(ValueError):
            number = float(text)
            return int(number) if number.is_integer() else number
    return text


def _from_celeryconfig() -> dict[str, Any]:
    """`graflow_<name>` of every setting and connection key in `celeryconfig.py`, where there is one."""
    said = {} if (module := celeryconfig()) is None else said_in(module)
    found = {name: said.get(f"graflow_{name}") for name in (*OWN_KEYS, *CONNECTION_KEYS)}
    found["url"] = found.get("url") or said.get("graflow_redis_url")
    return {name: value for name, value in found.items() if value is not None}


def said_in(module: ModuleType) -> dict[str, Any]:
    """All that `celeryconfig.py` says for settings: ours, and what Celery calls broker and queue."""
    return {
        name: value
        for name, value in vars(module).items()
        if name.startswith("graflow_") or name in _CELERYS_NAMES.values()
    }


def _celerys_own() -> dict[str, Any]:
    """What Celery's own settings in `celeryconfig.py` say about broker and queue."""
    module = celeryconfig()
    named = {"broker_url": getattr(module, "broker_url", None), "queue": getattr(module, "task_default_queue", None)}
    return {name: value for name, value in named.items() if value}


VARIABLES: Final = tuple(
    f"GRAFLOW_{name.upper()}"
    for name in (*(OWN_KEYS - {"signing_key"}), *CONNECTION_KEYS, "worker_parent", "sys_path", "member_output")
)
"""The variables of the environment that are read here, and those that a worker gets from its parent."""
