"""What a graph is, as plain data, and where a later one differs from it."""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import textwrap
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graflow.core.checkpoints.code_digest import digest_of
from graflow.core.graph import TaskGraph
from graflow.core.memberships import is_group
from graflow.core.nodes.columns import MappedMembers
from graflow.core.nodes.wrapper import TaskWrapper
from graflow.foreign import attempt

_LENGTH = 12  # of a digest, in hex digits


@dataclass(frozen=True)
class Difference:
    """One way in which a graph is not what was recorded.

    Attributes:
        kind: `added`, `removed`, `code`, `edges` or `members`.
        node: The node that it is about.
        text: The difference in words.
        matters: Whether a recorded outcome depends on what it was.
    """

    kind: str
    node: str
    text: str
    matters: bool


def graph_fingerprint(graph: TaskGraph) -> dict[str, Any]:
    """Nodes by id, as JSON data: a digest of each one's code, its successors, and the members of groups.

    Members are described by their number and one digest, so that a group of 100,000 takes a line.
    """
    known: dict[int, str | None] = {}
    members = set(graph.groups.holders)
    nodes: dict[str, Any] = {}
    succ = graph.succ
    for node in list(succ):  # of which members of folded fan-outs, that have no edges, are none
        task, successors = graph.task_at(node), succ[node]
        inside = _member_ids(task) if is_group(task) else None
        if node in members and not _others(successors, members):
            continue  # a group tells of it
        found: dict[str, Any] = {}
        code = _code_of(task, known)
        if code is not None:
            found["code"] = code
        after = list(successors) if inside is None else [target for target in successors if target not in inside]
        if after:
            found["after"] = after
        if inside is not None:
            found["members"] = len(task.members)
            found["member_digest"] = _members_digest(task, known)
        nodes[node] = found
    return nodes


def _others(ids: Collection[str], members: Collection[str]) -> list[str]:
    return [node for node in ids if node not in members]


def _member_ids(group: Any) -> Collection[str]:
    members = group.members
    return members.ids if _is_unmade(members) else {member.task_id for member in members}


def _is_unmade(members: Sequence[Any]) -> bool:
    """Whether these are members of a fan-out of which none is a task yet."""
    return isinstance(members, MappedMembers) and members.present_ids is members.ids


def _members_digest(group: Any, known: dict[int, str | None]) -> str:
    content, members = hashlib.sha256(), group.members
    if _is_unmade(members):
        code = _code_of(members.prototype, known) or ""
        content.update(
            "".join([f"{task_id}\0{code}\n" for task_id in members.ids[:]]).encode(errors="backslashreplace")
        )
        return content.hexdigest()[:_LENGTH]
    for member in members:
        content.update(f"{member.task_id}\0{_code_of(member, known) or ''}\n".encode(errors="backslashreplace"))
        if is_group(member):
            content.update(_members_digest(member, known).encode())
    return content.hexdigest()[:_LENGTH]


def _code_of(task: Any, known: dict[int, str | None]) -> str | None:
    if not isinstance(task, TaskWrapper):
        return None
    func = task.func
    if id(func) not in known:
        known[id(func)] = code_digest(func)
    return known[id(func)] if task.version is None else f"{known[id(func)] or ''}@{task.version}"


def code_digest(func: Callable[..., Any]) -> str | None:
    """A digest of the syntax of a function, without positions, docstrings, annotations of places and decorators.

    Where its source is not to be had, one of its instructions, which depend on the version of Python.
    """
    function = inspect.unwrap(func)
    function = getattr(function, "__func__", function)
    code = getattr(function, "__code__", None)
    if code is None or code.co_name == "<lambda>":
        return digest_of(func)
    return _syntax_digest(function) or digest_of(func)


@functools.lru_cache(maxsize=4096)
def _syntax_digest(function: Callable[..., Any]) -> str | None:
    source = attempt(lambda: textwrap.dedent(inspect.getsource(function)), lambda _: "")
    tree = attempt(lambda: ast.parse(source), lambda _: None)
    definition = tree.body[0] if tree is not None and tree.body else None
    if not isinstance(definition, ast.FunctionDef | ast.AsyncFunctionDef):
        return None
    definition.decorator_list = []
    for node in _definitions(definition):
        if ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return hashlib.sha256(ast.dump(definition).encode(errors="backslashreplace")).hexdigest()[:_LENGTH]


def _definitions(
    definition: ast.FunctionDef | ast.AsyncFunctionDef,
) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    for node in ast.walk(definition):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node


def graph_differences(
    recorded: Mapping[str, Any], present: Mapping[str, Any], completed: Collection[str], begun: Collection[str] = ()
) -> list[Difference]:
    """Where a graph differs from a recorded one.

    Args:
        recorded: The fingerprint that was recorded.
        present: The fingerprint of now.
        completed: Nodes that have an outcome.
        begun: Groups that have begun, whose members have outcomes.
    """
    done = {*completed}
    gone, new = recorded.keys() - present.keys(), present.keys() - recorded.keys()
    found = [Difference("removed", node, f"step '{node}' is no longer there", node in done) for node in gone]
    found += [Difference("added", node, f"step '{node}' is new", matters=False) for node in new]
    for node in recorded.keys() & present.keys():
        found += _of_node(node, recorded[node], present[node], done, {*begun})
    return sorted(found, key=lambda difference: (not difference.matters, difference.node, difference.kind))


def _of_node(
    node: str, before: Mapping[str, Any], now: Mapping[str, Any], done: Collection[str], begun: Collection[str]
) -> Iterator[Difference]:
    if before.get("code") != now.get("code"):
        text = f"step '{node}' runs other code ({before.get('code')} -> {now.get('code')})"
        yield Difference("code", node, text, node in done)
    if (before.get("members"), before.get("member_digest")) != (now.get("members"), now.get("member_digest")):
        text = f"group '{node}' has other members ({before.get('members')} -> {now.get('members')})"
        if before.get("members") == now.get("members"):
            text = f"group '{node}' has members of other code or other names"
        yield Difference("members", node, text, node in done or node in begun)
    was, will = before.get("after", []), now.get("after", [])
    for target in [target for target in was if target not in will]:
        text = f"the edge '{node}' >> '{target}' is gone"
        yield Difference("edges", node, text, node in done and target in done)
    for target in [target for target in will if target not in was]:
        text = f"the edge '{node}' >> '{target}' is new"
        yield Difference("edges", node, text, target in done)
