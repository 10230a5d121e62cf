"""Where flows are kept: their states, and the stores behind them."""

from graflow.state.memory import MemoryStore
from graflow.state.models import Attempt, FlowPage, FlowState, FlowStepState, MemberPage
from graflow.state.opening import open_store
from graflow.state.sqlite import SqliteStore
from graflow.state.statuses import FlowStatus, StepStatus
from graflow.state.store import StateStore

__all__ = [
    "Attempt",
    "FlowPage",
    "FlowState",
    "FlowStatus",
    "FlowStepState",
    "MemberPage",
    "MemoryStore",
    "SqliteStore",
    "StateStore",
    "StepStatus",
    "open_store",
]
