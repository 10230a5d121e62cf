"""Flows that survive: named workflows, recorded step by step, that any process may go on with."""

from graflow.flows.context import FlowContext
from graflow.flows.plans import FlowPlan, PlannedStep
from graflow.flows.registry import flow
from graflow.flows.runner import FlowRunner

__all__ = ["FlowContext", "FlowPlan", "FlowRunner", "PlannedStep", "flow"]
