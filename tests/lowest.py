"""The lowest versions that pyproject.toml allows of what runs, as constraints for pip: `python -m tests.lowest`."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

_PROJECT = Path(__file__).parent.parent / "pyproject.toml"
_FLOOR = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(?:\[[^]]*\])?>=(?P<version>[0-9.]+)")


def lowest(requirements: Iterable[str]) -> Iterator[str]:
    """Each requirement at its floor.

    Raises:
        ValueError: For one that has none.
    """
    for requirement in requirements:
        found = _FLOOR.match(requirement)
        if found is None:
            raise ValueError(f"{requirement!r} names no lowest version")
        yield f"{found['name']}=={found['version']}"


def declared() -> list[str]:
    """What the package needs to run, with its optional parts; not what it is developed with."""
    project = tomllib.loads(_PROJECT.read_text(encoding="utf-8"))["project"]
    parts = project["optional-dependencies"]
    return [
        *project["dependencies"],
        *(each for name in sorted(parts.keys() - {"dev", "draw"}) for each in parts[name]),
    ]


if __name__ == "__main__":
    print("\n".join(lowest(declared())))
