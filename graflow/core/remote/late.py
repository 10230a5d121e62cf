"""Members whose function is called at once: a branch is made for one when its function asks for the run, or fails."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any, Final, Self

from graflow.core.branches.outcome import BranchOutcome
from graflow.core.building.entering import running_frame
from graflow.core.building.scopes import GraphScope, current_scope, recording_into, set_scope
from graflow.core.graph import TaskGraph
from graflow.core.nodes.templates import DIRECT, TaskTemplate
from graflow.core.nodes.wrapper import TaskWrapper
from graflow.core.remote.branch import RemoteBranch
from graflow.core.run.steps.execution import BegunTask

MakeBranch = Callable[[int, Mapping[str, Any]], RemoteBranch]

_making: Final = threading.RLock()  # several threads of one member may ask at once


def plain_function(task: object, filled: Mapping[str, Any], *, empty_channel: bool) -> Callable[[Any], Any] | None:
    """How to call the function of a task with its arguments, where there is nothing more to running it.

    Args:
        task: The task.
        filled: Its arguments by name; those of each call have the same names.
        empty_channel: Whether the channel has nothing that could fill other parameters.

    Returns:
        Takes the arguments as a dictionary of its own. None where the task needs its run from the beginning: it takes a
        context, has a time limit, a handler or a cache, is a coroutine, or may take what the channel has.
    """
    if type(task) is not TaskWrapper:
        return None
    template: TaskTemplate = task.template
    if template.inject_context or template.handler_type != DIRECT or template.timeout is not None or template.is_async:
        return None
    if template.max_cycles is not None or template.cache is not None:
        return None
    plan, func = template.plan(0), template.func
    if template.resolve_keyword_args and not empty_channel and not filled.keys() >= {*plan.wanted}:
        return None
    if not plan.moves:
        return lambda given: func(**given)

    def call(given: dict[str, Any]) -> Any:
        args, kwargs = plan.placed((), given)
        return func(*args, **kwargs)

    return call


class LateMember(GraphScope):
    """A member whose function is called before it has a branch.

    It is what operators of the function record into, and stands for the task context until somebody looks at that.

    Args:
        make: Makes the branch of a member, given its index and its arguments.
        index: The member.
        given: What its function is called with.
    """

    __slots__ = ("_block", "_branch", "_given", "_index", "_make")

    def __init__(self, make: MakeBranch, index: int, given: Mapping[str, Any]) -> None:
        self.registers_on_creation = self.is_implicit = False
        self.unused = []
        self._make = make
        self._index = index
        self._given = given
        self._branch: RemoteBranch | None = None
        self._block: BegunTask | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._begun()[1].frame, name)

    @property
    def is_plain(self) -> bool:
        """Whether nothing has asked for the branch."""
        return self._branch is None

    @property
    def graph(self) -> TaskGraph:  # type: ignore[override]  # made when it is asked for
        return self._begun()[0].context.graph

    def _begun(self) -> tuple[RemoteBranch, BegunTask]:
        """The branch, in which this call is the execution that runs."""
        with _making:
            if self._branch is None or self._block is None:
                with _outside():
                    branch = self._make(self._index, self._given)
                    branch.context.ledger.results = {}
                    self._block = BegunTask(branch.context, branch.member)
                    self._branch = branch
            return self._branch, self._block

    def outcome(self, value: object = None, error: BaseException | None = None) -> BranchOutcome:
        """What came of the branch, whose member's function has been called.

        Args:
            value: What the function gave.
            error: What it raised, caught where it was called.
        """
        branch, block = self._begun()
        member: Any = branch.member
        template = member.template
        if error is not None and error.__traceback__ is not None:
            error.__traceback__ = error.__traceback__.tb_next  # without the frame of the caller

        @wraps(template.func)
        def again(*_: Any, **__: Any) -> Any:
            member.template = template
            if error is not None:
                raise error
            return value

        member.template = template.changed(func=again)
        with _outside():
            block.replay()
            return branch.run()


class LateCalls:
    """A block in which functions of members are called, one after another, in the thread that enters it."""

    def __enter__(self) -> Self:
        self._scope, self._token = current_scope(), running_frame.set(None)
        return self

    def next(self, make: MakeBranch, index: int, given: Mapping[str, Any]) -> LateMember:
        """Have this thread be in a member from now on; see `LateMember`."""
        late = LateMember(make, index, given)
        running_frame.set(late)
        set_scope(late)
        return late

    def __exit__(self, *_: object) -> None:
        running_frame.reset(self._token)
        set_scope(self._scope)


@contextmanager
def _outside() -> Iterator[None]:
    """Be in no task while a branch is made."""
    token = running_frame.set(None)
    try:
        with recording_into(None):
            yield
    finally:
        running_frame.reset(token)
