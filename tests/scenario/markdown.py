"""Fenced blocks and links of the project's pages."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [
        ROOT / "README.md",
        ROOT / "ARCHITECTURE.md",
        ROOT / "CHANGELOG.md",
        ROOT / "CONTRIBUTING.md",
        *(ROOT / "docs").rglob("*.md"),
    ]
)

_FENCE = re.compile(r'^```(?P<language>\w*)(?: title="(?P<title>[\w./]+)")?\s*$')
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_PROMISE = re.compile(r"^\s*print\(.*\)  +# (?P<text>.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    language: str
    title: str | None
    text: str
    line: int


def blocks_of(page: Path) -> list[Block]:
    blocks: list[Block] = []
    opened: tuple[str, str | None, int] | None = None
    body: list[str] = []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        if opened is None:
            if match := _FENCE.match(line):
                opened, body = (match["language"], match["title"], number + 1), []
            elif line.startswith("```"):
                raise ValueError(f"{page}:{number}: {line!r} opens a block in a form that is not run")
        elif line == "```":
            blocks.append(Block(opened[0], opened[1], "\n".join(body) + "\n", opened[2]))
            opened = None
        else:
            body.append(line)
    if opened is not None:
        raise ValueError(f"{page}:{opened[2]}: the block is never closed")
    return blocks


def script_of(blocks: list[Block]) -> str:
    """The blocks as one program whose line numbers are those of the page."""
    lines: list[str] = []
    for block in blocks:
        lines += [""] * (block.line - 1 - len(lines))
        lines += block.text.splitlines()
    return "\n".join(lines) + "\n"


def promised_output(text: str) -> list[str]:
    """What the page says that its `print(...)  # text` lines show."""
    return [match["text"] for match in _PROMISE.finditer(text)]


def links_of(page: Path) -> list[str]:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return [match["target"] for match in _LINK.finditer(text)]


def anchors_of(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}
