"""Flower, Celery's monitor, as a command of `celery`; where it is not installed the command says how to get it."""

from __future__ import annotations

from typing import Any

import click

MISSING = "Flower is not installed here; install it with: pip install flower"


@click.command("flower", context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
def _without_flower(**_: Any) -> None:
    """Watch tasks and workers in a browser (needs: pip install flower)."""
    raise click.ClickException(MISSING)


def command() -> click.Command:
    """Flower's own command; without Flower, one that says what to install."""
    try:
        from flower.command import flower  # noqa: PLC0415 - an extra
    except ImportError:
        return _without_flower
    found: click.Command = flower
    return found


flower = command()
