"""Counts for Prometheus: runs and steps of flows, members on workers, and what goes wrong with leases and stores.

Off unless the section `monitoring` of `config.yaml` says otherwise; then nothing is imported for it.
"""

from graflow.metrics.counting import CONTENT_TYPE, exposition, start_counting

__all__ = ["CONTENT_TYPE", "exposition", "start_counting"]
