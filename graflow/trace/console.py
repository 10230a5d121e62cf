"""A listener that prints a run."""
# ruff: noqa: T201 - printing is what it is for

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any, Final

from graflow.text.shown import one_line
from graflow.trace.base import Tracer

_RESET: Final = "\x1b[0m"
_COLOURS: Final = {"TRACE": "\x1b[1m", "SPAN": "\x1b[36m", "EVENT": "\x1b[33m", "✓": "\x1b[32m", "✗": "\x1b[31m"}


class ConsoleTracer(Tracer):
    """Prints traces, spans and events to standard output as they come, spans inside others indented deeper.

    Args:
        enable_runtime_graph: Whether what ran is remembered for `get_runtime_graph`.
        enable_colors: Colours where standard output is a terminal.
        show_metadata: What is known besides the name, in parentheses.
        indent_size: Columns for each level.
    """

    def __init__(
        self,
        enable_runtime_graph: bool = True,
        enable_colors: bool = True,
        show_metadata: bool = True,
        indent_size: int = 2,
    ) -> None:
        super().__init__(enable_runtime_graph)
        self.enable_colors = enable_colors
        self.show_metadata = show_metadata
        self.indent_size = indent_size
        self._depths: dict[str, int] = {}
        self._begun: dict[str, float] = {}

    def _output_trace_start(self, name: str, trace_id: str | None, metadata: Mapping[str, Any] | None) -> None:
        self._depths = {}
        self._begin(name, 0)
        self._print(0, "TRACE START", name, metadata)

    def _output_trace_end(self, name: str, output: Any, metadata: Mapping[str, Any] | None) -> None:
        self._print(0, "TRACE END", name, metadata, self._verdict(name, metadata))

    def _output_span_start(self, name: str, parent_name: str | None, metadata: Mapping[str, Any] | None) -> None:
        depth = self._depth_below(parent_name)
        self._begin(name, depth)
        self._print(depth, "SPAN START", name, metadata)

    def _output_span_end(self, name: str, output: Any, metadata: Mapping[str, Any] | None) -> None:
        self._print(self._depths.get(name, 1), "SPAN END", name, metadata, self._verdict(name, metadata))

    def _output_event(self, name: str, parent_span: str | None, metadata: Mapping[str, Any] | None) -> None:
        self._print(self._depth_below(parent_span), "EVENT", name, metadata)

    def _output_attach_to_trace(self, trace_id: str, parent_span_id: str | None) -> None:
        if parent_span_id is not None:
            self._depths.setdefault(parent_span_id, 0)

    def _begin(self, name: str, depth: int) -> None:
        self._depths[name] = depth
        self._begun[name] = time.perf_counter()

    def _depth_below(self, parent: str | None) -> int:
        return 1 if parent is None else self._depths.get(parent, 0) + 1

    def _verdict(self, name: str, metadata: Mapping[str, Any] | None) -> str:
        """How a span or trace ended, and after how long."""
        now = time.perf_counter()
        seconds = f"{now - self._begun.pop(name, now):.3f} s"
        if metadata and "error" in metadata:
            return f"{self._coloured('✗', '✗')} {seconds} {one_line(metadata['error'])}"
        return f"{self._coloured('✓', '✓')} {seconds}"

    def _print(self, depth: int, what: str, name: str, metadata: Mapping[str, Any] | None, verdict: str = "") -> None:
        told = {key: value for key, value in (metadata or {}).items() if value is not None and key != "error"}
        shown = one_line(", ".join(f"{key}={value}" for key, value in told.items())) if self.show_metadata else ""
        head = self._coloured(what.partition(" ")[0], f"{what}: {one_line(name)}")
        parts = (head, verdict, shown and f"({shown})")
        print(" " * (depth * self.indent_size) + " ".join(part for part in parts if part))

    def _coloured(self, kind: str, text: str) -> str:
        if not self.enable_colors or not sys.stdout.isatty():
            return text
        return f"{_COLOURS[kind]}{text}{_RESET}"
