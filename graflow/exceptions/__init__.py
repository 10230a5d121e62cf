"""The error tree of `graflow`; the branches that `graflow_celery` adds are drawn in `graflow_celery.errors`.

::

    GraflowError
    ├── AnswerInvalidError           (also a ValueError)
    ├── AnswerRefusedError
    ├── ConfigError                  (also a ValueError)
    │   ├── FeedbackAnswerError
    │   ├── SettingError             (also a GraflowRuntimeError)
    │   └── StoreConfigError
    ├── FlowConflictError            (also a ValueError)
    │   ├── MoveRefusedError
    │   └── PlanOutdatedError
    ├── FlowInputError               (also a ValueError)
    ├── FlowNotFoundError            (also a ValueError)
    ├── GraphCompilationError
    │   └── DuplicateTaskError
    ├── InvalidCursorError           (also a ValueError)
    ├── NotAskedError
    ├── PayloadError                 (also a ValueError)
    ├── QuestionNotFoundError        (also a ValueError)
    ├── SignatureError
    ├── TaskResolutionError
    │   └── UnknownTaskError
    ├── UnknownHandlerError          (also a ValueError)
    └── GraflowRuntimeError
        ├── ChildFlowError
        ├── CycleLimitExceededError
        ├── FeedbackCancelledError
        ├── FlowChangedError
        ├── FlowTimeoutError         (also a TimeoutError)
        ├── GraflowWorkflowCanceledError
        ├── GroupConflictError
        ├── GroupLostError
        ├── GroupNotFoundError       (also a LookupError)
        ├── GroupTimeoutError        (also a TimeoutError)
        ├── MaxStepsExceededError
        ├── NoWorkerError
        ├── ParallelGroupError
        ├── QuestionChangedError
        ├── QuestionExpiredError     (also a TimeoutError)
        ├── QuestionWithdrawnError
        ├── RemoteTaskError
        ├── RetryLimitExceededError
        ├── RunOwnedError
        ├── StaleEpochError
        ├── StoreError
        │   └── StoreUnavailableError
        ├── TakeOverError
        ├── TaskFailedError          (also of the type that the task raised)
        ├── TaskError
        │   ├── MemberCancelledError
        │   │   └── MemberLeftOutError
        │   ├── MemberLostError
        │   └── TaskTimeoutError     (also a TimeoutError)
        ├── UnknownNodeError         (also a ValueError)
        └── VersionConflictError

Each error keeps what its message is built from as attributes, and survives `pickle` and `copy` with type, text and
attributes; an attribute that cannot be pickled arrives as a description of itself. One that a member of a group raises
on a worker comes back as itself: `travelling_errors` holds every class of the two trees, by its qualified name.
"""

from __future__ import annotations

from graflow.exceptions.base import ErrorDescription as ErrorDescription
from graflow.exceptions.base import GraflowError, GraflowRuntimeError, RemoteTaskError, as_runtime_error, named
from graflow.exceptions.base import _unpickled_error as _unpickled_error
from graflow.exceptions.base import travelling_errors as travelling_errors
from graflow.exceptions.feedback import FeedbackAnswerError, FeedbackCancelledError
from graflow.exceptions.flows import (
    ChildFlowError,
    FlowChangedError,
    FlowConflictError,
    FlowInputError,
    FlowNotFoundError,
    FlowTimeoutError,
    InvalidCursorError,
    MoveRefusedError,
    PlanOutdatedError,
    StaleEpochError,
    StoreConfigError,
    StoreError,
    StoreUnavailableError,
    TakeOverError,
    VersionConflictError,
)
from graflow.exceptions.groups import (
    GroupConflictError,
    GroupLostError,
    GroupNotFoundError,
    GroupTimeoutError,
    MemberCancelledError,
    MemberLeftOutError,
    MemberLostError,
    NoWorkerError,
    ParallelGroupError,
    TaskError,
    TaskTimeoutError,
)
from graflow.exceptions.questions import (
    AnswerInvalidError,
    AnswerRefusedError,
    NotAskedError,
    QuestionChangedError,
    QuestionExpiredError,
    QuestionNotFoundError,
    QuestionWithdrawnError,
)
from graflow.exceptions.refused import (
    ConfigError,
    PayloadError,
    SettingError,
    SignatureError,
    TaskResolutionError,
    UnknownHandlerError,
    UnknownTaskError,
)
from graflow.exceptions.runs import (
    CycleLimitExceededError,
    DuplicateTaskError,
    GraflowWorkflowCanceledError,
    GraphCompilationError,
    MaxStepsExceededError,
    RetryLimitExceededError,
    RunOwnedError,
    TaskFailedError,
    UnknownNodeError,
)

__all__ = [
    "AnswerInvalidError",
    "AnswerRefusedError",
    "ChildFlowError",
    "ConfigError",
    "CycleLimitExceededError",
    "DuplicateTaskError",
    "FeedbackAnswerError",
    "FeedbackCancelledError",
    "FlowChangedError",
    "FlowConflictError",
    "FlowInputError",
    "FlowNotFoundError",
    "FlowTimeoutError",
    "GraflowError",
    "GraflowRuntimeError",
    "GraflowWorkflowCanceledError",
    "GraphCompilationError",
    "GroupConflictError",
    "GroupLostError",
    "GroupNotFoundError",
    "GroupTimeoutError",
    "InvalidCursorError",
    "MaxStepsExceededError",
    "MemberCancelledError",
    "MemberLeftOutError",
    "MemberLostError",
    "MoveRefusedError",
    "NoWorkerError",
    "NotAskedError",
    "ParallelGroupError",
    "PayloadError",
    "PlanOutdatedError",
    "QuestionChangedError",
    "QuestionExpiredError",
    "QuestionNotFoundError",
    "QuestionWithdrawnError",
    "RemoteTaskError",
    "RetryLimitExceededError",
    "RunOwnedError",
    "SettingError",
    "SignatureError",
    "StaleEpochError",
    "StoreConfigError",
    "StoreError",
    "StoreUnavailableError",
    "TakeOverError",
    "TaskError",
    "TaskFailedError",
    "TaskResolutionError",
    "TaskTimeoutError",
    "UnknownHandlerError",
    "UnknownNodeError",
    "UnknownTaskError",
    "VersionConflictError",
    "as_runtime_error",
    "named",
]
