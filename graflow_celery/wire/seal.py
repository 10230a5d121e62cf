"""The seal of one run: what is signed for it holds for no other."""

from __future__ import annotations

from graflow.seals import Seal
from graflow.signing import SigningKeys
from graflow_celery.record import GroupSpec


class RunSeal(Seal):
    """Seals what is written about one run and opens what is read.

    Args:
        keys: The keys of this process; without any nothing is sealed, and what others have sealed is read unverified.
        spec: The group: its run, its id and the digest of what its members are.
    """

    def __init__(self, keys: SigningKeys | None, spec: GroupSpec) -> None:
        # Keys of this run alone, so that a seal costs one pass over its content.
        bound_to = (spec.run_id, spec.group_id, spec.digest)
        super().__init__({} if keys is None else keys.derive("run", bound_to=bound_to))
        self.keys = keys
        self.run_id = spec.run_id
