"""The description of the API at `/openapi.json`: its own handlers, and each flow with what it takes."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any, Final
from urllib.parse import quote

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from graflow.api.http.auth import SESSION_COOKIE
from graflow.api.http.problems import Problem
from graflow.api.schemas import input_schema
from graflow.flows.registry import FlowDefinition, FlowRegistry

_MODELS: Final = "#/components/schemas/{model}"
_STARTING: Final = ("execute", "execute-async")


def describe(app: FastAPI, registry: FlowRegistry) -> None:
    """Have an application describe itself, with the flows that are registered when it is asked."""

    def described() -> dict[str, Any]:
        return document(app, registry)

    app.openapi = described  # type: ignore[method-assign]  # as FastAPI documents it


def document(app: FastAPI, registry: FlowRegistry) -> dict[str, Any]:
    """The OpenAPI document."""
    made = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    schemas = made.setdefault("components", {}).setdefault("schemas", {})
    problem = Problem.model_json_schema(ref_template=_MODELS)
    schemas["Problem"] = problem
    made["components"]["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer"},
        "session": {"type": "apiKey", "in": "cookie", "name": SESSION_COOKIE},
    }
    made["security"] = [{}, {"token": []}, {"session": []}]
    for name in registry.names():
        _add_flow(made, registry.get(name))
    return made


def _add_flow(made: dict[str, Any], definition: FlowDefinition) -> None:
    """Give a flow paths of its own, whose bodies have its inputs."""
    key = quote(definition.name, safe="").replace("%", "_")
    inputs = input_schema(definition, f"#/components/schemas/{key}.{{model}}")
    schemas = made["components"]["schemas"]
    schemas.update({f"{key}.{model}": schema for model, schema in inputs.pop("$defs", {}).items()})
    schemas[f"{key}.Inputs"] = inputs
    start = deepcopy(schemas["Start"])
    start["title"] = f"Start of {definition.name}"
    start["properties"]["inputs"] = {"$ref": f"#/components/schemas/{key}.Inputs"}
    if inputs.get("required"):
        start["required"] = ["inputs"]
    schemas[f"{key}.Start"] = start
    for verb in _STARTING:
        operation = deepcopy(made["paths"][f"/api/v1/{{flow}}/{verb}"]["post"])
        operation["operationId"] = f"{key}_{verb}"
        operation["summary"] = f"{operation['summary']}: {definition.name}"
        operation["parameters"] = [each for each in operation["parameters"] if each["name"] != "flow"]
        operation["requestBody"] = {
            "required": bool(inputs.get("required")),
            "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{key}.Start"}}},
        }
        made["paths"][f"/api/v1/{quote(definition.name, safe='')}/{verb}"] = {"post": operation}


def as_text(made: dict[str, Any]) -> str:
    """A document as it is kept in a tree, where versions and order of making show no difference."""
    return json.dumps({**made, "info": {**made["info"], "version": "0"}}, indent=1, sort_keys=True) + "\n"
