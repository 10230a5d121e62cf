"""Inputs of a flow as they are given on a command line: `key=value`, typed by the flow's signature."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from graflow.exceptions import FlowInputError, FlowNotFoundError
from graflow.flows.registry import default_flows


def parse_inputs(flow_name: str, given: Sequence[str]) -> dict[str, Any]:
    """Inputs by name.

    Args:
        flow_name: The flow; what its inputs may be decides between JSON and text.
        given: `key=json`, `key=text`, `key=@file` with a file of JSON, and `key=@-` for standard input.

    Raises:
        FlowNotFoundError: When there is no such flow.
        FlowInputError: For what is no such text, a key that is given twice, or a file that holds no JSON.
    """
    if not default_flows.names():
        raise FlowNotFoundError(f"No flow is called '{flow_name}': name the module that has it, as in --flows my.flows")
    model = default_flows.get(flow_name).inputs.model
    found: dict[str, Any] = {}
    for text in given:
        key, separator, value = text.partition("=")
        if not separator or not key:
            raise FlowInputError(f"Inputs are given as key=value, not {text!r}")
        if key in found:
            raise FlowInputError(f"The input '{key}' is given twice; several values are a list: {key}='[...]'")
        found[key] = _from_file(key, value[1:]) if value.startswith("@") else _typed(model, key, value)
    return found


def _from_file(key: str, name: str) -> Any:
    try:
        text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
        return json.loads(text)
    except OSError as error:
        raise FlowInputError(f"{key}: {name} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise FlowInputError(f"{key}: {name} holds no JSON: {error}") from error


def _typed(model: type[BaseModel], key: str, text: str) -> Any:
    """The value that a text stands for: as JSON, unless the input takes only the text itself."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    if isinstance(value, str) or _fits(model, key, value) or not _fits(model, key, text):
        return value
    return text


def _fits(model: type[BaseModel], key: str, value: Any) -> bool:
    field = _fields(model).get(key)
    if field is None:
        return False
    try:
        field.validate_python(value)
    except ValidationError:
        return False
    return True


def _fields(model: type[BaseModel]) -> Mapping[str, TypeAdapter[Any]]:
    """What checks each input by itself."""
    return {field.alias or name: TypeAdapter(field.rebuild_annotation()) for name, field in model.model_fields.items()}
