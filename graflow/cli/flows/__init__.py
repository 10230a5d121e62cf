"""Durable flows."""

from __future__ import annotations

import click

from graflow.cli.flows.looking import explain, list_flows, show, stats, watch
from graflow.cli.flows.running import fork, resume, retry, run
from graflow.cli.flows.stopping import cancel, cleanup, clear_cache, pause
from graflow.cli.headings import HeadedGroup


@click.group(cls=HeadedGroup)
def flow() -> None:
    """Run, watch and steer flows that survive.

    Flows are kept in a store: --store, else GRAFLOW_FLOW_STORE, else the file .graflow/flows.db of the project. What
    runs a flow has to know it: --flows, else GRAFLOW_FLOWS, names modules or files that have its @flow.
    """


for _command in (
    run,
    resume,
    retry,
    fork,
    list_flows,
    show,
    explain,
    stats,
    watch,
    pause,
    cancel,
    cleanup,
    clear_cache,
):
    flow.add_command(_command)
