"""The flows that can be started, and the description of the API with their inputs."""

from __future__ import annotations

import json
from typing import Annotated, Any

import pytest
from fastapi.testclient import TestClient
from jsonschema import Draft202012Validator
from pydantic import BaseModel, Field

from graflow.api.app import create_app
from graflow.api.http.openapi import as_text
from graflow.exceptions import ConfigError
from graflow.flows import FlowRunner
from tests.api.conftest import Clients
from tests.api.flows import Flows, problem
from tests.api.kept import KEPT, described


class Box(BaseModel):
    width: float = 1.0
    inner: Box | None = None


class Odd:
    """Of no type that JSON has."""


def packs(
    box: Box, names: list[str], count: Annotated[int, Field(gt=0)] = 1, api_key: str = "k-123", odd: Odd | None = None
) -> None:
    """Packs things.

    More about it.
    """


@pytest.fixture
def packing(clients: Clients, runner: FlowRunner) -> TestClient:
    runner.register(packs, "packs & co")
    return clients(runner)


def test_flows_are_listed_with_what_they_take(packing: TestClient) -> None:
    (facts,) = [each for each in packing.get("/api/v1/flows").json()["items"] if each["name"] == "packs & co"]
    assert facts["last_run"] is None
    assert facts["description"].startswith("Packs things.")
    assert facts["source"] == f"{__name__}.packs"
    Draft202012Validator.check_schema(facts["inputs"])
    check = Draft202012Validator(facts["inputs"]).is_valid
    assert check({"box": {"inner": {"width": 2}}, "names": []})
    assert not check({"box": {}, "names": 1})
    assert not check({"box": {}, "names": [], "count": 0})
    assert not check({"names": []})
    assert "k-123" not in json.dumps(facts)
    tag = packing.get("/api/v1/flows").headers["etag"]
    assert packing.get("/api/v1/flows", headers={"If-None-Match": tag}).status_code == 304


def test_a_flow_is_told_with_what_came_of_it(client: TestClient, flows: Flows) -> None:
    client.post("/api/v1/weak/execute")
    flows.is_broken = False
    newest = client.post("/api/v1/weak/execute").json()["flow_id"]
    told = client.get("/api/v1/flows/weak").json()
    assert (told["population"], told["counts"]) == (2, {"failed": 1, "completed": 1})
    assert told["last_run"]["flow_id"] == newest
    assert "weak" in problem(client.get("/api/v1/flows/wek"), 404, "not-found")["detail"]


@pytest.mark.parametrize("name", ["flows", "runs", "a/b", "..", "a\nb"])
def test_flows_that_no_address_can_have_are_refused(name: str) -> None:
    runner = FlowRunner("memory://")
    runner.register(packs, name)
    with pytest.raises(ConfigError, match="cannot be served"):
        create_app(runner)


# -- openapi.json ------------------------------------------------------------------------------------------------------


def resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


def test_the_description_has_each_flow_with_its_inputs(packing: TestClient) -> None:
    document = packing.get("/openapi.json").json()
    for verb in ("execute", "execute-async"):
        operation = document["paths"][f"/api/v1/packs%20%26%20co/{verb}"]["post"]
        body = resolved(document, operation["requestBody"]["content"]["application/json"]["schema"])
        inputs = resolved(document, body["properties"]["inputs"])
        assert set(inputs["properties"]) == {"box", "names", "count", "api_key", "odd"}
        assert resolved(document, inputs["properties"]["box"])["title"] == "Box"
        assert (body["required"], operation["requestBody"]["required"]) == (["inputs"], True)
        assert not any(each["name"] == "flow" for each in operation["parameters"])
    assert "k-123" not in json.dumps(document)


def test_everything_that_the_description_points_to_is_there(packing: TestClient) -> None:
    document = packing.get("/openapi.json").json()

    def references(value: object) -> set[str]:
        if isinstance(value, dict):
            own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
            return own.union(*map(references, value.values()))
        return set().union(*map(references, value)) if isinstance(value, list) else set()

    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert references(document) <= known
    names = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
    assert len(names) == len(set(names))


def test_what_the_kept_description_says_of_the_example_flows_still_holds() -> None:
    kept, now = json.loads(KEPT.read_text("utf-8")), json.loads(as_text(described()))

    def of_flow(document: dict[str, Any]) -> dict[str, Any]:
        schemas = document["components"]["schemas"]
        return {
            "paths": {path: each for path, each in document["paths"].items() if "/document_analysis/" in path},
            "schemas": {name: each for name, each in schemas.items() if name.startswith("document_analysis.")},
        }

    assert of_flow(now) == of_flow(kept), "`make openapi` writes it again, where the change is meant"
    assert set(kept["paths"]) <= set(now["paths"])
    assert (len(of_flow(kept)["paths"]), len(of_flow(kept)["schemas"])) == (2, 2)
