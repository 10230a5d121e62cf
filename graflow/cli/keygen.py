"""Signing keys."""

from __future__ import annotations

import os
import stat
import sys
from contextlib import suppress
from pathlib import Path

import click

from graflow.cli.output import clear_errors
from graflow.signing import generate_key, write_key_file


@click.command()
@click.option("--id", "key_id", help="Id of the key [default: a random one].")
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="A new file that only you may read.")
def keygen(key_id: str | None, out: Path | None) -> None:
    r"""Print a new signing key, for GRAFLOW_SIGNING_KEY of submitters and workers.

    \b
    graflow keygen --out signing.key
    export GRAFLOW_SIGNING_KEY_FILE=$PWD/signing.key
    """
    with clear_errors():
        key = generate_key(key_id)
        if out is not None:
            write_key_file(out, key)
            return
    _keep_from_others()
    click.echo(key)


def _keep_from_others() -> None:
    """Make a file that standard output goes to one that only its owner may read, before there is a key in it."""
    with suppress(OSError, ValueError):  # no file, or somebody else's
        output = sys.stdout.fileno()
        if stat.S_ISREG(os.fstat(output).st_mode):
            os.fchmod(output, 0o600)
