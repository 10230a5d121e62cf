"""What a tracer remembers of a run: raw notes while it lasts, made into a graph when somebody asks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

import networkx as nx

from graflow.foreign import text_of

FORMATS: Final = ("dict", "json", "graphml")

# What happened, to what (a name, or a task whose id is asked for on request), when, and what else there is to tell.
Note = tuple[str, Any, float, Any, Any]
TRACE: Final = "trace"  # began, with its metadata
SPAN: Final = "span"  # began, with the name of its parent and its metadata
END: Final = "end"  # of a trace or span, with its metadata
CHILD: Final = "child"  # was asked for by a parent
MEMBERS: Final = "members"  # of a group: their names
GIVEN: Final = "given"  # members of a group have begun and ended well: their names
RESULTS: Final = "results"  # of a group: by name, whether the member succeeded


class _Known:
    """What is told of a task, in the place of the task itself."""

    __slots__ = ("facts", "task_id")

    def __init__(self, task: Any) -> None:
        self.task_id = task.task_id
        self.facts = facts_of(task)


class RuntimeRecord:
    """The notes of one run, from all of its threads.

    Every task of a run begins and ends, so these two are written in short, one behind the other in the same list, and
    make nothing that the garbage collector would have to look at: a task and a time when it begins, a time and a task
    when it ends well. All else is a `Note`. Adding to a list is atomic.
    """

    def __init__(self) -> None:
        self.trace_id: str | None = None
        self.short: list[Any] = []

    def begin(self, trace_id: str | None) -> None:
        """Forget the run before; a run that is continued keeps its notes."""
        if trace_id is not None and trace_id != self.trace_id:
            self.short.clear()
            self.trace_id = trace_id

    def let_go_of_tasks(self) -> None:
        """Keep what is told of tasks instead of the tasks, since some of them belong to the run alone."""
        known: dict[int, _Known] = {}
        as_they_are = (str, float, _Known)

        def told(item: Any) -> Any:
            if isinstance(item, as_they_are):
                return item
            if isinstance(item, tuple):
                return (item[0], told(item[1]), *item[2:])
            found = known.get(id(item))
            if found is None:
                found = known[id(item)] = _Known(item)
            return found

        self.short[:] = [told(item) for item in self.short]

    def notes(self) -> list[Note]:
        """All notes in full."""
        items = iter(self.short[:])
        found: list[Note] = []
        for item in items:
            if isinstance(item, tuple):
                found += _one_by_one(item) if item[0] == GIVEN else (item,)
            elif isinstance(item, float):
                found.append((END, next(items), item, None, None))
            else:
                found.append((SPAN, item, next(items), None, None))
        return found

    def order(self) -> list[str]:
        """Names in the order in which they began, one entry for each time."""
        return [_name(task) for what, task, *_ in self.notes() if what in {TRACE, SPAN}]

    def innermost(self) -> str | None:
        """The span that began last among those that have not ended."""
        ended: list[str] = []
        for what, task, *_ in reversed(self.notes()):
            if what == END:
                ended.append(_name(task))
            elif what == SPAN:
                if (name := _name(task)) not in ended:
                    return name
                ended.remove(name)
        return None

    def graph(self) -> nx.DiGraph[str]:
        """A node for each name, and edges from what started something to that; both ends of an edge are nodes."""
        graph: nx.DiGraph[str] = nx.DiGraph()
        notes = self.notes()
        for note in notes:
            if note[0] in {TRACE, SPAN}:
                _begin(graph, note)
            elif note[0] == END:
                _end(graph, note)
            elif note[0] == RESULTS:
                _note_results(graph, note)
        for parent, child, relation in _edges(notes):
            if parent in graph and child in graph:
                graph.add_edge(parent, child, relation=relation)
        return graph


def facts_of(task: Any) -> dict[str, Any]:
    """What a span tells of its task."""
    if isinstance(task, _Known):
        return task.facts
    return {"task_type": type(task).__name__, "handler_type": getattr(task, "handler_type", None)}


def failure_of(error: BaseException | None) -> dict[str, Any]:
    """What the end of a span or trace tells of an error."""
    return {} if error is None else {"error": text_of(error), "error_type": type(error).__name__}


def exported(graph: nx.DiGraph[str] | None, order: list[str], form: str) -> dict[str, Any] | str | None:
    """A runtime graph as plain data, as JSON with ISO times, or as GraphML; None for None.

    Raises:
        ValueError: For any other form.
    """
    if form not in FORMATS:
        raise ValueError(f"Unknown format {form!r}; choose dict, json or graphml")
    if graph is None:
        return None
    if form == "graphml":
        return "\n".join(nx.generate_graphml(_flat(graph)))
    data = {
        "nodes": [{"id": node, **attributes} for node, attributes in graph.nodes(data=True)],
        "edges": [{"source": a, "target": b, **attributes} for a, b, attributes in graph.edges(data=True)],
        "execution_order": order,
    }
    return data if form == "dict" else json.dumps(data, default=_as_text)


def _one_by_one(note: Note) -> Iterator[Note]:
    """What is told of many members at once, for each of them."""
    _, group_id, at, members, _ = note
    for member in members:
        yield SPAN, member, at, group_id, None
        yield END, member, at, None, {}


def _name(task: Any) -> str:
    name: str = task if isinstance(task, str) else task.task_id
    return name


def _begin(graph: nx.DiGraph[str], note: Note) -> None:
    what, task, at, _, metadata = note
    name = _name(task)
    facts = {} if isinstance(task, str) else facts_of(task)
    graph.add_node(
        name,
        status="running",
        start_time=datetime.fromtimestamp(at, UTC),
        end_time=None,
        executions=graph.nodes[name]["executions"] + 1 if name in graph else 1,
        metadata={"type": what, **facts, **(metadata or {})},
    )


def _end(graph: nx.DiGraph[str], note: Note) -> None:
    _, task, at, _, metadata = note
    node = graph.nodes.get(_name(task))
    if node is not None:
        node["metadata"] |= metadata or {}
        node["status"] = "failed" if "error" in node["metadata"] else "completed"
        node["end_time"] = datetime.fromtimestamp(at, UTC)


def _note_results(graph: nx.DiGraph[str], note: Note) -> None:
    """Members of which nothing but their result is known."""
    _, _, at, results, _ = note
    for name, succeeded in results.items():
        if name not in graph:
            _begin(graph, (SPAN, name, at, None, None))
            _end(graph, (END, name, at, None, {} if succeeded else {"error": "failed elsewhere"}))


def _edges(notes: list[Note]) -> Iterator[tuple[str, str, str]]:
    """Parents and children first: a member of a group is told as that, also where the group is around it."""
    for what, task, _, parent, _ in notes:
        if what in {SPAN, CHILD} and parent is not None:
            yield parent, _name(task), "parent-child"
    for what, group, _, members, _ in notes:
        if what == MEMBERS:
            yield from ((_name(group), member, "parallel-member") for member in members)


def _flat(graph: nx.DiGraph[str]) -> nx.DiGraph[str]:
    """The same with texts and numbers alone, which is all that GraphML has."""
    flat: nx.DiGraph[str] = nx.DiGraph()
    for node, attributes in graph.nodes(data=True):
        told = {name: value for name, value in attributes.items() if value is not None}
        texts = {name: _as_text(value) for name, value in told.items() if not isinstance(value, int)}
        flat.add_node(node, **{**told, **texts})
    flat.add_edges_from(graph.edges(data=True))
    return flat


def _as_text(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    return json.dumps(value, default=str) if isinstance(value, dict) else str(value)
