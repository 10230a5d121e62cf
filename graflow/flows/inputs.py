"""The inputs of a flow: a model made from its function's signature, their stored form, and what is shown of them."""

from __future__ import annotations

import hashlib
import inspect
import json
import typing
from collections.abc import Callable, Mapping
from typing import Any, Final

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretBytes,
    SecretStr,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidatorFunctionWrapHandler,
    create_model,
    field_serializer,
    field_validator,
)
from pydantic_core import PydanticCustomError, PydanticOmit, PydanticUseDefault, from_json

from graflow.encoding.shapes import is_name
from graflow.exceptions import ConfigError, FlowInputError
from graflow.foreign import attempt
from graflow.secret import MASK, Secret, is_secret_key
from graflow.values.plain import is_plain

_SHOWN: Final = 60  # characters of a value in an error
_RAISED: Final = "raised"
_OF_PYDANTIC: Final = (ValueError, AssertionError, PydanticOmit, PydanticUseDefault)  # it knows what they mean


class _Inputs(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        arbitrary_types_allowed=True,
        ser_json_bytes="base64",
        val_json_bytes="base64",
        ser_json_inf_nan="strings",
        protected_namespaces=(),
    )

    @field_validator("*", mode="wrap")
    @classmethod
    def _checked(cls, value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        """Whatever a type's own check raises is a fault of this field; pydantic lets most errors pass as they are."""
        return attempt(lambda: handler(value), _as_fault)

    @field_serializer("*", mode="wrap")
    def _stored(self, value: Any, handler: SerializerFunctionWrapHandler) -> Any:
        """Secrets are stored as they are; a flow could not go on with their masks."""
        if isinstance(value, SecretStr | SecretBytes):
            return handler(value) if isinstance(value, SecretBytes) else value.get_secret_value()
        return value.reveal() if isinstance(value, Secret) else handler(value)


class InputModel:
    """What a flow takes.

    Args:
        flow_name: The flow, for errors.
        function: Its function; each parameter is one input.

    Attributes:
        model: The pydantic model; its JSON schema has the names of the parameters.

    Raises:
        ConfigError: When the signature cannot be that of a flow.
    """

    def __init__(self, flow_name: str, function: Callable[..., Any]) -> None:
        self._flow_name = flow_name
        self._parameters = list(inspect.signature(function).parameters.values())
        hints = attempt(
            lambda: typing.get_type_hints(function, include_extras=True),
            lambda error: self._refuse(f"has types that cannot be read: {error}"),
        )
        self._fields: dict[str, str] = {}
        fields: dict[str, Any] = {}
        takes_more = False
        for parameter in self._parameters:
            if parameter.kind is parameter.VAR_POSITIONAL:
                self._refuse(f"takes *{parameter.name}; inputs have names, so give it a list")
            if parameter.kind is parameter.VAR_KEYWORD:
                takes_more = True
                continue
            name = self._fields[parameter.name] = _field_name(parameter.name)
            default = ... if parameter.default is parameter.empty else parameter.default
            fields[name] = (hints.get(parameter.name, Any), Field(default, alias=parameter.name))
        made = attempt(
            lambda: create_model(flow_name, __base__=_Inputs, **fields),
            lambda error: self._refuse(f"has types that make no inputs: {error}"),
        )
        if takes_more:
            made = create_model(flow_name, __base__=made, __cls_kwargs__={"extra": "allow"})
        self.model: type[BaseModel] = made

    def _refuse(self, why: str) -> typing.NoReturn:
        raise ConfigError(f"The function of flow '{self._flow_name}' {why}")

    def stored(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Validated inputs as plain JSON, defaults filled in.

        Raises:
            FlowInputError: Naming each field that does not fit.
        """
        if not isinstance(inputs, Mapping):
            raise FlowInputError(f"Inputs of flow '{self._flow_name}' are a mapping of names to values, not {inputs!r}")
        try:
            made = self.model.model_validate(dict(inputs))
            stored: dict[str, Any] = made.model_dump(mode="json", by_alias=True)
        except ValidationError as error:
            raise self._explained(error) from None
        except ValueError as error:  # as pydantic tells of values that it cannot store
            raise FlowInputError(f"Inputs of flow '{self._flow_name}' cannot be stored as JSON: {error}") from None
        for name, value in stored.items():
            self._check_stored(name, value)
        return stored

    def _check_stored(self, name: str, value: object) -> None:
        """Refuse what would not be read back, such as half of a surrogate pair, NaN, or a number of 5,000 digits."""
        try:
            from_json(json.dumps(value, allow_nan=False))
        except (ValueError, RecursionError) as error:
            text = f"Inputs of flow '{self._flow_name}' do not fit: {name}: cannot be stored as JSON: {error}"
            raise FlowInputError(text) from None

    def arguments(self, stored: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """What the flow's function is called with, for inputs as `stored` gave them; the same each time.

        Raises:
            FlowInputError: When they fit the signature no more.
        """
        try:
            made = self.model.model_validate_json(json.dumps(dict(stored)))
        except ValidationError as error:
            raise self._explained(error) from None
        positional: list[Any] = []
        named: dict[str, Any] = dict(made.model_extra or {})
        for parameter in self._parameters:
            if parameter.kind is parameter.VAR_KEYWORD:
                continue
            value = getattr(made, self._fields[parameter.name])
            if parameter.kind is parameter.POSITIONAL_ONLY:
                positional.append(value)
            else:
                named[parameter.name] = value
        return positional, named

    def _explained(self, error: ValidationError) -> FlowInputError:
        known = ", ".join(self._fields) or "none"
        lines = []
        for fault in error.errors(include_url=False):
            path = ".".join(map(str, fault["loc"]))
            key = str(fault["loc"][0]) if fault["loc"] else ""
            if fault["type"] == _RAISED and is_secret_key(key):
                lines.append(f"{path}: cannot be checked: {fault['ctx']['kind']}")
            elif fault["type"] == "missing":
                lines.append(f"{path}: is required")
            elif fault["type"] == "extra_forbidden":
                lines.append(f"{path}: is no input of this flow; inputs are {known}")
            else:
                lines.append(f"{path}: {fault['msg']}, not {_shown(key, fault['input'])}")
        return FlowInputError(f"Inputs of flow '{self._flow_name}' do not fit: " + "; ".join(lines))


def _as_fault(error: Exception) -> typing.NoReturn:
    if isinstance(error, _OF_PYDANTIC):
        raise error
    kind = type(error).__name__
    why = attempt(lambda: _shortened(str(error)), lambda _: "")
    raise PydanticCustomError(_RAISED, "cannot be checked: {kind}: {why}", {"kind": kind, "why": why}) from None


def _field_name(name: str) -> str:
    """The parameter's own name, unless a model cannot have a field of that name."""
    return f"input_{name}" if name.startswith("_") or hasattr(_Inputs, name) else name


def _shown(key: str, value: object) -> str:
    if is_secret_key(key):
        return MASK
    return _shortened(repr(value))


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def checked_id(flow_id: str) -> str:
    """An id that a caller gives to a flow.

    Raises:
        ConfigError: It cannot be one.
    """
    if not is_name(flow_id):
        raise ConfigError(f"flow_id is a text of 1 to 200 characters, not {flow_id!r}")
    return flow_id


def checked_metadata(metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    """What a caller wants to be kept with a flow.

    Raises:
        ConfigError: It is no plain JSON.
    """
    if metadata is None:
        return {}
    if not isinstance(metadata, Mapping):
        raise ConfigError(f"metadata is a mapping of names to plain JSON, not {metadata!r}")
    for name, value in metadata.items():
        if not isinstance(name, str) or not is_plain(value, check_numbers=True):
            raise ConfigError(f"metadata is plain JSON with text for names, and {name!r} has {value!r}")
    return dict(metadata)


def digest_of(stored: object) -> str:
    """Tells the same plain JSON from other."""
    text = json.dumps(stored, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
