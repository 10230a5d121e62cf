"""What tests of flows share: a store that crashes, random workflows that tell what they ran, a flow that asks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from graflow import RetryPolicy, chain, parallel, task
from graflow.exceptions import StoreUnavailableError
from graflow.flows import FlowRunner
from graflow.questions import Question
from graflow.state import StateStore
from tests.support import wait_until


class Crash(BaseException):
    """The process is gone, as far as anybody can tell."""


class WatchedStore:
    """A store whose writes can be struck by faults; another object than the store, so that it has another home.

    Args:
        store: The store itself.
        before: Called before each write with the number of writes so far.
        after: The same after it.
    """

    struck = frozenset({"create", "claim", "append"})

    def __init__(
        self,
        store: StateStore,
        before: Callable[[int], object] = lambda _: None,
        after: Callable[[int], object] = lambda _: None,
    ) -> None:
        self.store, self.before, self.after = store, before, after
        self.writes = 0
        self.url = "memory:watched"  # of no other store: what a process knows of it ends with this object

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.store, name)
        if name not in self.struck:
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            self.before(self.writes)
            self.writes += 1
            answer = found(*args, **kwargs)
            self.after(self.writes)
            return answer

        return call


class QuestionsWatchedStore(WatchedStore):
    """The same, where writes of questions count as well."""

    struck = WatchedStore.struck | {"write_questions"}


StateStore.register(WatchedStore)


def crashing(store: StateStore, left: int, *, is_answer_lost: bool = False) -> WatchedStore:
    """A store of which the write after `left` others fails, or loses its answer, as do later ones."""

    def crash(writes: int) -> None:
        if writes >= left + is_answer_lost:
            raise Crash

    def lose(writes: int) -> None:
        if is_answer_lost and writes > left:
            raise Crash

    return WatchedStore(store, crash, lose)


class Program:
    """A workflow made of a list of words; every task tells that it ran.

    Attributes:
        ran: How often the body of each task began, by id.
    """

    def __init__(self, words: list[str]) -> None:
        self.words = words
        self.ran: Counter[str] = Counter()

    def build(self, bonus: int = 0) -> None:
        """The flow's function."""
        earlier = self._plain("start", bonus)
        for place, word in enumerate(self.words):
            earlier >>= getattr(self, f"_{word}")(f"{word}{place}", place)

    def _note(self, name: str) -> int:
        self.ran[name] += 1
        return self.ran[name]

    def _plain(self, name: str, value: int) -> Any:
        @task(name, inject_context=True)
        def body(context):
            self._note(name)
            context.get_channel().append("log", name)
            return value + len(context.get_channel().get("log"))

        return body

    def _group(self, name: str, size: int) -> Any:
        def member(index: int) -> Any:
            @task(f"{name}.m{index}", inject_context=True)
            def body(context):
                self._note(f"{name}.m{index}")
                context.get_channel().set(f"of {name} {index}", index)
                return {"index": index, "seen": len(context.get_channel().get("log"))}

            return body

        members = member(0) | member(1)
        for index in range(2, 2 + size % 3):
            members |= member(index)
        return members.set_group_name(name).with_execution("direct")

    def _loop(self, name: str, passes: int) -> Any:
        @task(name, inject_context=True, max_cycles=100)
        def body(context, data=0):
            self._note(f"{name}#{data}")
            if data < 1 + passes % 3:
                context.next_iteration(data + 1)
            return data

        return body

    def _retried(self, name: str, fails: int, *, is_member: bool = False) -> Any:
        """Fails at first, each time after it has written what is to be gone then.

        What a member appends stays, as others may have read it, and how often it does depends on the cut.
        """
        attempts = Counter[str]()

        @task(name, inject_context=True, retry_policy=RetryPolicy(max_retries=4, initial_interval=0.0))
        def body(context):
            attempts[name] += 1
            channel = context.get_channel()
            seen = [channel.get(f"half of {name}"), channel.exists("log")]
            if not is_member:
                channel.append("log", f"attempt of {name}")
            if attempts[name] <= 1 + fails % 2:
                channel.set(f"half of {name}", attempts[name])
                channel.delete("log")
                raise ValueError(name)
            self._note(name)
            channel.append("log", name)
            return seen

        return body

    def _dynamic(self, name: str, value: int) -> Any:
        @task(name, inject_context=True)
        def body(context):
            self._note(name)

            @task(f"{name}.added{context.get_channel().get('rounds', 0)}", inject_context=True)
            def added(context):
                return context.get_result(name)

            context.next_task(added)
            return value

        return body

    def _nested(self, name: str, _: int) -> Any:
        """A group whose first member has a group behind it, with a loop and a step that a member adds."""
        inner = parallel(self._loop(f"{name}.loop", 1), self._dynamic(f"{name}.dynamic", 3)).with_execution("direct")
        outer = parallel(
            chain(self._plain(f"{name}.first", 1), inner), self._retried(f"{name}.other", 1, is_member=True)
        )
        return outer.set_group_name(name).with_execution("direct")

    def _mapped(self, name: str, size: int) -> Any:
        @task(f"{name}.each", inject_context=True)
        def body(context, number):
            self._note(f"{name}[{number}]")
            context.get_channel().append(f"seen by {name}", number)
            return number * 2

        return body.map(range(2 + size), name=name).with_execution("direct")

    def _back(self, name: str, _: int) -> Any:
        """Jumps to the first step, once."""

        @task(name, inject_context=True)
        def body(context):
            self._note(name)
            context.get_channel().atomic_add("rounds")
            if context.get_channel().atomic_add(f"rounds of {name}") < 2:
                context.next_task("start", goto=True)
            return name

        return body

    def _ends(self, name: str, _: int) -> Any:
        @task(name, inject_context=True)
        def body(context):
            self._note(name)
            context.terminate_workflow("enough")
            return name

        return body


def asked(runner: FlowRunner, *args: Any, **options: Any) -> tuple[str, Question]:
    """A flow that waits for an answer, and its question."""

    @task("ask", inject_context=True)
    def ask(context: Any) -> Any:
        return context.ask(*args, **options)

    runner.register(lambda: ask, "asks")
    flow_id = runner.submit("asks")
    wait_until(lambda: runner.questions(flow_id=flow_id) and runner.get_flow_state(flow_id).owner is None)
    return flow_id, runner.questions()[0]


class Line:
    """A line to a store that may be cut; with `answers` an applied write may lose its answer as well."""

    def __init__(self):
        self.is_cut, self.loses = False, False

    def check(self, _):
        if self.is_cut:
            raise StoreUnavailableError("cut")

    def lose(self, _):
        if self.loses:
            self.loses = False
            raise StoreUnavailableError("the answer is lost")
