"""The JSON Schema of what a flow takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from graflow.flows.registry import FlowDefinition
from graflow.secret import is_secret_key

_HERE: Final = "#/$defs/{model}"


class _Lenient(GenerateJsonSchema):
    """Describes a type that JSON Schema cannot as anything, instead of describing no flow that has one."""

    ignored_warning_kinds = {"skipped-choice", "non-serializable-default", "skipped-discriminator"}  # noqa: RUF012 - as in the base

    def handle_invalid_for_json_schema(self, _: core_schema.CoreSchema, __: str) -> JsonSchemaValue:
        return {}


def input_schema(definition: FlowDefinition, ref_template: str = _HERE) -> dict[str, Any]:
    """The schema of a flow's inputs; defaults under names that look secret are left out.

    Args:
        definition: The flow.
        ref_template: Where the models within it are, `{model}` their name.
    """
    made = definition.inputs.model.model_json_schema(
        by_alias=True, ref_template=ref_template, schema_generator=_Lenient, mode="validation"
    )
    properties: Mapping[str, dict[str, Any]] = made.get("properties", {})
    for name, schema in properties.items():
        if is_secret_key(name):
            schema.pop("default", None)
            schema.setdefault("writeOnly", True)
    return {**made, "title": definition.name}
