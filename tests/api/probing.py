"""Requests made from the description of the API, to an application in this process, which has no other flows.

Examples depend on the modules that a process has loaded, so this is a program: the same requests each time.
"""

from __future__ import annotations

from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import APIOperation, Case, openapi
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from graflow.api.app import create_app
from graflow.flows import FlowRunner
from tests.api.flows import Flows

BOUNDED = settings(
    max_examples=15,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


def operations() -> list[APIOperation]:
    """What an application that has flows and runs can be asked, but for streams, which have no end."""
    runner = FlowRunner("memory://")
    flows = Flows(runner)
    flows.gate.set()
    for flow_id in ("0", "1"):
        runner.execute("weak", flow_id=flow_id)
    schema = openapi.from_asgi("/openapi.json", create_app(runner, allowed_hosts=["*"]))
    found = [each.ok() for each in schema.get_all_operations()]
    return [each for each in found if "events" not in (each.tags or ())]


def probe(operation: APIOperation) -> None:
    """Ask for one operation in many ways; raises at an answer that is not described, with the request."""

    @BOUNDED
    @given(case=operation.as_strategy())
    def ask(case: Case) -> None:
        case.call_and_validate(checks=CHECKS, timeout=300)

    ask()


if __name__ == "__main__":
    for operation in operations():
        probe(operation)
        print(operation.label, flush=True)
