"""Flows that survive: named workflows, recorded step by step, that any process may go on with."""

from graflow.core.flow_context import FlowContext
from graflow.flows.asynchronous import AsyncFlowRunner
from graflow.flows.registry import flow
from graflow.flows.runner import FlowRunner
from graflow.flows.verbs.explaining import StepExplanation
from graflow.flows.verbs.plans import FlowPlan, PlannedStep
from graflow.flows.verbs.stats import FlowStats

__all__ = [
    "AsyncFlowRunner",
    "FlowContext",
    "FlowPlan",
    "FlowRunner",
    "FlowStats",
    "PlannedStep",
    "StepExplanation",
    "flow",
]
