"""The product's own Python with one mistake each, which the simulation has to find."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import CodeType, FunctionType, ModuleType

from graflow_celery import sweeper
from graflow_celery.client import coordinator, run_owner, submission
from graflow_celery.client.waiting import reading, waiter
from graflow_celery.worker import continuation, member
from graflow_celery.worker.batches import batch, holding, reports


@dataclass(frozen=True)
class CodeMutant:
    """`old` becomes `new` in one module."""

    name: str
    module: ModuleType
    old: str
    new: str

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Give the module's functions the code that they have with the mistake."""
        source = inspect.getsource(self.module)
        if source.count(self.old) != 1:
            raise AssertionError(f"mutant {self.name!r} does not fit to {self.module.__name__} any more")
        mistaken = compile(source.replace(self.old, self.new), str(self.module.__file__), "exec", dont_inherit=True)
        changed = dict(_codes_in(mistaken))
        kept = {function: function.__code__ for function in _functions_of(self.module)}
        for function in kept:
            function.__code__ = changed[function.__qualname__]
        try:
            yield
        finally:
            for function, code in kept.items():
                function.__code__ = code


def _codes_in(code: CodeType) -> Iterator[tuple[str, CodeType]]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant.co_qualname, constant
            yield from _codes_in(constant)


def _functions_of(module: ModuleType) -> Iterator[FunctionType]:
    """Functions and methods that the module itself defines; those that dataclasses make are not among them."""
    for found in vars(module).values():
        if getattr(found, "__module__", None) == module.__name__:
            for member in vars(found).values() if inspect.isclass(found) else (found,):
                function = inspect.unwrap(getattr(member, "fget", None) or getattr(member, "__func__", member))
                if isinstance(function, FunctionType) and function.__code__.co_filename == module.__file__:
                    yield function


CODE_MUTANTS = [
    CodeMutant(
        "a running block is not kept",
        holding,
        "                held.append(self.block.block)\n",
        "                pass\n",
    ),
    CodeMutant(
        "what is released runs here as well",
        holding,
        "self._releasing += self._todo\n            self._todo.clear()",
        "self._releasing += self._todo",
    ),
    CodeMutant("nobody beats", batch, "if now - self._tried >= self.spec.lease / _BEATS_PER_LEASE:", "if False:"),
    CodeMutant(
        "what is left of a claim is forgotten", batch, "left, size = [*claim.left, *left], _NEXT", "left, size = [], 1"
    ),
    CodeMutant(
        "what is released is not published",
        batch,
        "self._reports.follow(sorted({*released.released, *released.ready}))",
        "pass",
    ),
    CodeMutant("a freed slot is not published", reports, "            if ready:\n", "            if False:\n"),
    CodeMutant(
        "a success is told for every member",
        reports,
        "self._results.append(result)",
        "self._results.append(MemberReport(result.index, 1, type(result.state).SUCCEEDED, result.payload))",
    ),
    CodeMutant(
        "a continuation runs whatever came of the group",
        continuation,
        "if not (state == GroupState.DONE and _is_enough(spec, stored, values)):",
        "if False:",
    ),
    CodeMutant("the sweeper does not publish the continuation", sweeper, "if again.continuation:", "if False:"),
    CodeMutant(
        "the sweeper does not publish lost members", sweeper, "if again.lost:\n        _log", "if False:\n        _log"
    ),
    CodeMutant("lost members travel together", sweeper, "slots=slots, singly=True)", "slots=slots)"),
    CodeMutant(
        "members are published before their record is there",
        submission,
        "opened = record.open(",
        "deployment.publisher.publish(spec, range(spec.n), slots=1)\n        opened = record.open(",
    ),
    CodeMutant(
        "only some members are published",
        submission,
        "wanted = range(spec.n) if indices is None else indices",
        "wanted = range(spec.n - 1)",
    ),
    CodeMutant(
        "a waiter believes that a group has ended when nothing is there",
        waiter,
        "if page.closed and not page.more:",
        "if not page.more:",
    ),
    CodeMutant(
        "a waiter stays with what failed before a retry",
        reading,
        "if known in {None, number}:",
        "if True:",
    ),
    CodeMutant(
        "an outcome is delivered under another member's name",
        coordinator,
        "self._run.record(index, outcome, worker, attempts)",
        "self._run.record(len(self._ids) - 1 - index, outcome, worker, attempts)",
    ),
    CodeMutant("a run is continued without a claim", run_owner, "    claim.take()\n", "    pass\n"),
    CodeMutant(
        "a run is taken from an owner that lives",
        run_owner,
        "if owner.mine:\n                break",
        "if True:\n                break",
    ),
    CodeMutant(
        "a failure counts as a success",
        member,
        "    return MemberState.TIMED_OUT if",
        "    return MemberState.SUCCEEDED if True else MemberState.TIMED_OUT if",
    ),
]
