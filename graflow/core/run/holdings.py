"""What a run holds until its execution ends, such as the claim on it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TypeVar

from graflow.protocols import Holding

_Held = TypeVar("_Held", bound=Holding)


class Holdings:
    """What the execution of a run came to hold; its branches share the one object.

    Attributes:
        held: The holdings by name, in the order in which they were made.
    """

    def __init__(self) -> None:
        self.held: dict[str, Holding] = {}
        self._making = threading.RLock()

    def hold(self, name: str, make: Callable[[], _Held]) -> _Held:
        """What is held under a name; made at the first call."""
        with self._making:
            found = self.held.get(name)
            if found is None:
                found = self.held[name] = make()
            return found  # type: ignore[return-value]  # one name stands for one kind

    def __iter__(self) -> Iterator[Holding]:
        return iter(list(self.held.values()))

    def check(self) -> None:
        """Raise the error of whatever does not let the run go on."""
        for holding in self:
            holding.check()

    @property
    def error(self) -> Exception | None:
        """Why something that is held does not let the run go on, as far as that is known already."""
        return next((holding.error for holding in self if holding.error is not None), None)

    def released_at_end(self) -> ExitStack:
        """A block at whose end everything is released, after an interruption as well, unless it is inside another."""
        block = ExitStack()
        if not self.held:
            block.push(lambda _, error, __: self.release_all(error) if self.held else None)
        return block

    def release_all(self, error: BaseException | None) -> None:
        """Release everything, because the execution has ended, with an error or without.

        Raises:
            Exception: Why the run had to stop, in the place of an error that followed from it.
        """
        holdings, stopped = list(self), self.error
        self.held.clear()
        with ExitStack() as releasing:
            for holding in holdings:
                releasing.callback(holding.release)
        if stopped is not None and stopped is not error and (error is None or isinstance(error, Exception)):
            raise stopped from error
