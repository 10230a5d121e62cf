"""The group record: the one place that decides whether a member of a group is done.

A message of the broker is a hint; this record is the truth. Each member is executed at least once (at most once with
`max_attempts=1`), its outcome is recorded exactly once, and every opened group ends DONE, FAILED or CANCELLED within a
bound. Each method of `GroupRecord` is one script (`record/lua`) that runs on the time of Redis and may be
repeated after a lost answer.
"""

from __future__ import annotations

from graflow_celery.record.data.blocks import BlockClaim, BlockCompletion, BlockLease, BlockReport, GrantedBlock
from graflow_celery.record.data.groups import (
    MAX_MEMBERS,
    GroupHeader,
    GroupSpec,
    GroupState,
    GroupStatus,
    Opened,
    Reopened,
    manifest_digest,
)
from graflow_celery.record.data.members import (
    BeatAnswer,
    Claim,
    Completion,
    GrantedMember,
    Lease,
    MemberReport,
    MemberState,
    RecordedOutcome,
    Released,
)
from graflow_celery.record.data.pages import ClaimedMember, Cursor, OutcomePage, RecordedBlock
from graflow_celery.record.data.sweeps import Look, Republish, Since, WorkerBeat, WorkerInfo
from graflow_celery.record.group_record import GroupRecord
from graflow_celery.record.keys import Keys
from graflow_celery.record.owners import Owner, RunOwners
from graflow_celery.record.server.client import CONNECT_SECONDS, check_server, record_client
from graflow_celery.record.server.rights import check_rights

__all__ = [
    "CONNECT_SECONDS",
    "MAX_MEMBERS",
    "BeatAnswer",
    "BlockClaim",
    "BlockCompletion",
    "BlockLease",
    "BlockReport",
    "Claim",
    "ClaimedMember",
    "Completion",
    "Cursor",
    "GrantedBlock",
    "GrantedMember",
    "GroupHeader",
    "GroupRecord",
    "GroupSpec",
    "GroupState",
    "GroupStatus",
    "Keys",
    "Lease",
    "Look",
    "MemberReport",
    "MemberState",
    "Opened",
    "OutcomePage",
    "Owner",
    "RecordedBlock",
    "RecordedOutcome",
    "Released",
    "Reopened",
    "Republish",
    "RunOwners",
    "Since",
    "WorkerBeat",
    "WorkerInfo",
    "check_rights",
    "check_server",
    "manifest_digest",
    "record_client",
]
