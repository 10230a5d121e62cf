"""Texts of nodes."""

from __future__ import annotations


def wrapped(label: str, words: int) -> list[str]:
    """The lines of a label, with so many words on each at most.

    Raises:
        ValueError: For fewer words than 1.
    """
    if words < 1:
        raise ValueError(f"wrap_label_n_words must be at least 1, not {words!r}")
    lines: list[str] = []
    for line in label.splitlines() or [""]:
        split = line.split(" ")
        lines += [" ".join(split[at : at + words]) for at in range(0, len(split), words)]
    return lines
