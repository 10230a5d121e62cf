"""The command itself, which is also `python -m graflow` and `celery -A graflow_celery graflow`."""

from __future__ import annotations

import click

from graflow.cli.keygen import keygen
from graflow.cli.plugins import PluggedGroup


@click.group(cls=PluggedGroup)
@click.version_option(package_name="graflow-celery")
def graflow() -> None:
    """Workflows in plain Python, here and on Celery workers."""


graflow.add_command(keygen)


def main() -> None:
    """The console script."""
    graflow()
