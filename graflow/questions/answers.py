"""Types of answers: as JSON Schema for whoever answers, as Python for whoever asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

from graflow.exceptions import AnswerInvalidError, ConfigError
from graflow.state.encoding import to_text

LONGEST_ANSWER: Final = 256 * 1024  # characters as JSON
LONGEST_SCHEMA: Final = 64 * 1024
MOST_OPTIONS: Final = 100
_ERRORS: Final = 10  # that are told of one answer


class AnswerType:
    """What may be answered.

    Args:
        answer: A type, as pydantic takes it: `bool`, `str`, `int`, a `Literal`, a model; or a JSON Schema.

    Raises:
        ConfigError: It is neither, or too large.
    """

    def __init__(self, answer: Any) -> None:
        self._adapter: TypeAdapter[Any] | None = None
        if isinstance(answer, Mapping):
            self.schema: dict[str, Any] = dict(answer)
        else:
            try:
                self._adapter = TypeAdapter(answer)
                self.schema = self._adapter.json_schema()
            except (PydanticSchemaGenerationError, PydanticUserError) as error:
                raise ConfigError(f"answer= is a type that JSON can hold, or a JSON Schema, not {answer!r}") from error
        try:
            text = to_text(self.schema)
            _Schemas.check(self.schema)
        except (ValueError, TypeError) as error:
            raise ConfigError(f"answer= is no JSON Schema: {error}") from error
        if len(text) > LONGEST_SCHEMA:
            raise ConfigError(
                f"The JSON Schema of answer= has {len(text)} characters; at most {LONGEST_SCHEMA} are kept"
            )
        if len(self.schema.get("enum", ())) > MOST_OPTIONS:
            raise ConfigError(f"A question has at most {MOST_OPTIONS} options, not {len(self.schema['enum'])}")

    def kept(self, value: Any) -> Any:
        """A value of the type as plain JSON.

        Raises:
            AnswerInvalidError: It does not fit.
        """
        made = value if self._adapter is None else self._adapter.dump_python(value, mode="json", warnings=False)
        check_answer(self.schema, made, "default")
        return made

    def read(self, question_id: str, value: Any) -> Any:
        """An answer as its asker wants it.

        Raises:
            AnswerInvalidError: It is none: the type says more than its schema.
        """
        if self._adapter is None:
            return value
        try:
            return self._adapter.validate_json(to_text(value))
        except ValidationError as error:
            told = [f"{'.'.join(map(str, each['loc'])) or 'it'}: {each['msg']}" for each in error.errors()]
            raise AnswerInvalidError(question_id, told[:_ERRORS]) from error


def check_answer(schema: Mapping[str, Any], value: Any, question_id: str) -> None:
    """Refuse an answer by the schema alone; nothing is fetched or imported for it.

    Raises:
        AnswerInvalidError: It does not fit, or is too large.
    """
    try:
        text = to_text(value)
    except TypeError as error:
        raise AnswerInvalidError(question_id, [str(error)]) from error
    if len(text) > LONGEST_ANSWER:
        raise AnswerInvalidError(question_id, [f"it has {len(text)} characters; at most {LONGEST_ANSWER} are taken"])
    if found := _Schemas.errors(schema, value):
        raise AnswerInvalidError(question_id, found[:_ERRORS])


class _Schemas:
    """JSON Schema, of the library that is first needed when somebody asks."""

    @staticmethod
    def check(schema: Mapping[str, Any]) -> None:
        """Raise ValueError for what is none."""
        from jsonschema import Draft202012Validator, SchemaError  # noqa: PLC0415 - most programs never ask

        try:
            Draft202012Validator.check_schema(schema)
        except SchemaError as error:
            raise ValueError(error.message) from error

    @staticmethod
    def errors(schema: Mapping[str, Any], value: Any) -> list[str]:
        """What is wrong with a value; names of other schemas lead nowhere."""
        from jsonschema import Draft202012Validator  # noqa: PLC0415 - as above
        from referencing import Registry  # noqa: PLC0415
        from referencing.exceptions import Unresolvable  # noqa: PLC0415

        validator = Draft202012Validator(schema, registry=Registry())
        try:
            found = sorted(validator.iter_errors(value), key=lambda error: list(map(str, error.absolute_path)))
        except (Unresolvable, RecursionError) as error:
            return [f"its schema cannot be used: {type(error).__name__}"]
        return [f"{'.'.join(map(str, each.absolute_path)) or 'it'}: {each.message[:300]}" for each in found]
