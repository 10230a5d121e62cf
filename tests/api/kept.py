"""The description of the API with the example flows, which `make openapi` writes into docs/openapi.json."""

from __future__ import annotations

from pathlib import Path

from examples.flows.document_analysis import document_analysis
from graflow.api.app import create_app
from graflow.api.http.openapi import as_text, document
from graflow.flows import FlowRunner
from graflow.flows.registry import FlowRegistry, definition_of

KEPT = Path(__file__).parents[2] / "docs" / "openapi.json"


def described() -> dict[str, object]:
    """The description as it is now."""
    registry = FlowRegistry()
    registry.add(definition_of(document_analysis, "document_analysis"))
    return document(create_app(FlowRunner("memory://", recovery=False)), registry)


if __name__ == "__main__":
    KEPT.write_text(as_text(described()), "utf-8")
