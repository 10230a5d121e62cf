"""A `config.yaml` as sections of values, each with its line."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from graflow.exceptions import SettingError

if TYPE_CHECKING:
    import yaml

CONFIG_VARIABLE: Final = "GRAFLOW_CONFIG"
SECTIONS: Final = ("redis", "flow_engine", "cache", "persistence", "monitoring")

_OURS_ALONE: Final = "flow_engine"
_BEGINS_SECTION: Final = re.compile(rf"^[\"']?({'|'.join(SECTIONS)})[\"']?\s*:", re.MULTILINE)


class Said(NamedTuple):
    """A value, and the line that has it."""

    value: Any
    line: int


@dataclass(frozen=True, eq=False)
class Document:
    """What a `config.yaml` says.

    Attributes:
        path: The file.
        sections: By name of the section and key; what is empty or null there is left out.
    """

    path: Path
    sections: Mapping[str, Mapping[str, Said]] = field(default_factory=dict, repr=False)

    def section(self, name: str, known: Collection[str]) -> Mapping[str, Said]:
        """The keys of a section.

        Raises:
            ConfigError: For a key that is not among the known ones; names it, its line and the nearest.
        """
        found = self.sections.get(name, {})
        for key, said in found.items():
            if key not in known:
                raise SettingError(f"{self.path}:{said.line}: Unknown key {key!r} in section {name}{meant(key, known)}")
        return found

    def place(self, name: str, key: str) -> str:
        """A key as errors speak of it: the file, the line, the section and the key."""
        said = self.sections.get(name, {}).get(key)
        line = "" if said is None else f":{said.line}"
        return f"{name}.{key} ({self.path}{line})"

    @property
    def folder(self) -> Path:
        """The folder that relative paths in it start from: that of the project."""
        above = self.path.absolute().parent
        return above.parent if above.name == ".graflow" else above


def meant(name: str, known: Collection[str]) -> str:
    """What may have been meant by a name that nothing has, as the end of a sentence."""
    near = difflib.get_close_matches(name.lower(), sorted(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(sorted(known))}"


def parsed(path: Path, text: str, *, is_named: bool) -> Document | None:
    """The document in a file.

    Args:
        path: The file, for errors.
        text: What it holds.
        is_named: Whether it was named as ours; one that was found may be another program's.

    Returns:
        None for a file of another program: with none of our sections, or with others and without `flow_engine`.

    Raises:
        ConfigError: For what is no YAML, an unknown section or a key that stands there twice; names the line.
    """
    if not is_named and not _BEGINS_SECTION.search(text):
        return None
    reader = _Reader(path)
    nodes = reader.nodes_of(text)
    if not is_named and _OURS_ALONE not in nodes and any(_is_foreign(name) for name in nodes):
        return None
    for name, (node, _) in nodes.items():
        if name not in SECTIONS:
            raise reader.fault(node, f"Unknown section {name!r}{meant(name, SECTIONS)}")
    return Document(path, {name: reader.values_of(name, value) for name, (_, value) in nodes.items()})


def _is_foreign(name: str) -> bool:
    return not difflib.get_close_matches(name.lower(), SECTIONS, n=1, cutoff=0.75)


class _Reader:
    """Reads one file; its errors name the line, and never what stands there, which may be a password."""

    def __init__(self, path: Path) -> None:
        import yaml  # noqa: PLC0415 - a process whose project has no such file must not pay

        self._yaml = yaml
        self._path = path

    def fault(self, node: yaml.Node | int, text: str) -> SettingError:
        line = node if isinstance(node, int) else node.start_mark.line + 1
        return SettingError(f"{self._path}:{line}: {text}")

    def nodes_of(self, text: str) -> dict[str, tuple[yaml.Node, yaml.Node]]:
        """The sections: of each its name and its content."""
        try:
            root = self._yaml.compose(text, Loader=self._yaml.SafeLoader)
        except self._yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be read"
            raise self.fault(1 if mark is None else mark.line + 1, f"This is no YAML: {problem}") from None
        return {} if root is None else self._entries(root, "The file")

    def values_of(self, section: str, node: yaml.Node) -> dict[str, Said]:
        if self._is_null(node):
            return {}
        entries = self._entries(node, f"Section {section}")
        return {
            key: Said(self._value(value), name.start_mark.line + 1)
            for key, (name, value) in entries.items()
            if not self._is_null(value)
        }

    def _entries(self, node: yaml.Node, what: str) -> dict[str, tuple[yaml.Node, yaml.Node]]:
        if not isinstance(node, self._yaml.MappingNode):
            raise self.fault(node, f"{what} holds lines of the form 'name: value'")
        found: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        for name, value in node.value:
            key = str(name.value) if isinstance(name, self._yaml.ScalarNode) else ""
            if not key:
                raise self.fault(name, "A name is text")
            if key in found:
                raise self.fault(name, f"{key!r} is there twice, first in line {found[key][0].start_mark.line + 1}")
            found[key] = name, value
        return found

    def _is_null(self, node: yaml.Node) -> bool:
        return node.tag == "tag:yaml.org,2002:null"

    def _value(self, node: yaml.Node) -> Any:
        loader = self._yaml.SafeLoader("")
        try:
            return loader.construct_object(node, deep=True)
        except (self._yaml.YAMLError, ValueError):
            raise self.fault(node, "This value is of no kind that a setting has") from None
        finally:
            loader.dispose()
