"""Which deployment a command means: its options, and the way there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from graflow.cli.output import clear_errors
from graflow_celery.deployment import Deployment, deployment_of
from graflow_celery.settings import Settings, command_option

_F = TypeVar("_F", bound=Callable[..., Any])


def connection(command: _F) -> _F:
    """The options that say which deployment is meant: parameters `url` and `key_prefix` of the command."""
    for option in (
        click.option("--key-prefix", help="Namespace of the deployment [default: graflow]."),
        click.option("--url", help="Redis of record [default: GRAFLOW_REDIS_URL, else localhost]."),
    ):
        command = option(command)
    return command


def settings(url: str | None, key_prefix: str | None) -> Settings:
    """The settings that these options give, laid over those of the environment."""
    given = {name: value for name, value in (("url", url), ("key_prefix", key_prefix)) if value is not None}
    return Settings.load(given, place=command_option)


@contextmanager
def deployment(url: str | None, key_prefix: str | None) -> Iterator[Deployment]:
    """The deployment, which has answered; errors of its servers end the command with their message."""
    with clear_errors():
        found = deployment_of(settings(url, key_prefix))
        found.check(works=False)
        with found.errors():
            yield found
