"""Signing keys."""

from __future__ import annotations

import click

from graflow.cli.output import clear_errors
from graflow.signing import generate_key


@click.command()
@click.option("--id", "key_id", help="Id of the key [default: a random one].")
def keygen(key_id: str | None) -> None:
    """Print a new signing key, for GRAFLOW_SIGNING_KEY of submitters and workers."""
    with clear_errors():
        click.echo(generate_key(key_id))
