"""A flow over Python's own library is killed in the middle of a group on workers, and finishes all the same.

python examples/flows/crash_demo.py                # a private Redis, two workers, and a process that is killed -9
python examples/flows/crash_demo.py --limit 100    # the first 100 documents only
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from rich.console import Console
from rich.live import Live

if not __package__:  # run as a file: its neighbours are found from the folder above, under the name that workers use
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from examples.flows import documents
from examples.flows.document_analysis import document_analysis
from graflow.cli.flows.tree import FlowTree
from graflow.cli.output import Rows, show
from graflow.flows import FlowRunner
from graflow.state import FlowState, FlowStatus, FlowStepState
from graflow_celery import GroupHandle, LocalCluster, attach

ROOT = Path(__file__).resolve().parents[2]
FLOW_ID = "documents"
GROUP = "pages"
WORKERS = 2
KILLED_AT = 0.3  # of the documents
ALONE_FOR = 0.2  # of the documents, which the workers measure while no process runs the flow
LOOK = 0.05


class Stage:
    """Shows the flow while it goes on, and what happens to it; nothing but the report where nobody looks."""

    def __init__(self, runner: FlowRunner) -> None:
        self._runner = runner
        self._console = Console(stderr=True)

    def say(self, text: str) -> None:
        if self._console.is_terminal:
            self._console.print(text, highlight=False, markup=False)

    def state(self) -> FlowState | None:
        return self._runner.store.get_flow_state(FLOW_ID)

    def until(self, is_over: Callable[[FlowState | None], bool]) -> None:
        """Look at the flow until something holds."""
        with ExitStack() as screen:
            live = None
            if self._console.is_terminal:
                live = screen.enter_context(Live(console=self._console, transient=True, auto_refresh=False))
            while not is_over(state := self.state()):
                if live is not None and state is not None:
                    live.update(FlowTree(state, 12), refresh=True)
                time.sleep(LOOK)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """A block after whose end a Ctrl-C comes that was meant to come in it."""
    came: list[object] = []
    usual = signal.signal(signal.SIGINT, lambda *_: came.append(None))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
    if came:
        raise KeyboardInterrupt


class Process:
    """A process that runs the flow, started as anybody would start it: `graflow flow run`.

    It ends with the block, in which it is started: so there is no moment in which nobody would end it.
    """

    def __init__(self, paths: Path, folder: Path, variables: dict[str, str]) -> None:
        self._errors = folder / "errors"
        self._command = [sys.executable, "-m", "graflow", "flow", "run", document_analysis.__name__]
        self._command += ["--flows", document_analysis.__module__, "--id", FLOW_ID, "--quiet", "--json"]
        self._command += [f"paths=@{paths}", "backend=redis", "top=5"]
        self._variables = variables
        self._started: subprocess.Popen[bytes] | None = None

    def start(self) -> float:
        """Start it; returns when that was."""
        begun = time.time()
        with uninterrupted(), self._errors.open("w") as errors:
            self._started = subprocess.Popen(  # noqa: S603 - a command of ours
                self._command,
                cwd=ROOT,
                env={**os.environ, **self._variables},
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,  # Ctrl-C is for the demo, which ends it
            )
        return begun

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._started is not None, "it was not started"
        return self._started

    def require_alive(self) -> None:
        """Raise what it printed, when it has ended by itself and not well."""
        if self.process.poll() not in {None, 0}:
            raise RuntimeError(f"The process that runs the flow has ended:\n{self._errors.read_text()}")

    def kill(self) -> None:
        if self._started is not None:
            self._started.kill()
            self._started.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


@dataclass
class Crash:
    """When what happened, in seconds since the epoch."""

    began: float = 0.0
    killed: float = 0.0
    recorded: frozenset[int] = frozenset()
    restarted: float = 0.0
    claimed: float = 0.0
    ended: float = 0.0


def main() -> int:
    parser = argparse.ArgumentParser(description="A flow survives the death of its process.")
    parser.add_argument("--limit", type=int, metavar="N", help="analyse the first N documents only")
    paths = library()[: parser.parse_args().limit]
    with tempfile.TemporaryDirectory(prefix="graflow-demo-") as name, ExitStack() as ending:
        folder = Path(name)
        if sys.stderr.isatty():
            print(f"Starting a private Redis and {WORKERS} workers", file=sys.stderr)
        cluster = ending.enter_context(LocalCluster(workers=WORKERS, imports=[documents], quiet=True))
        runner = ending.enter_context(FlowRunner(f"sqlite:///{folder}/flows.db", recovery=False))
        crash = crashed(cluster, runner, paths, folder)
        state = runner.get_flow_state(FLOW_ID)
        members = all_members(runner)
        print_report(paths, crash, state, members)
        return 0 if is_whole(paths, state, members) else 1


def library() -> list[str]:
    """The documents of Python's own library, without its tests and what was installed."""
    found = documents.documents_under([sysconfig.get_path("stdlib")])
    left_out = {"site-packages", "dist-packages", "test", "tests", "idle_test"}
    return [path for path in found if not left_out & set(Path(path).parts)]


def crashed(cluster: LocalCluster, runner: FlowRunner, paths: Sequence[str], folder: Path) -> Crash:
    """Have the flow run, kill its process, and have it run again."""
    stage, crash = Stage(runner), Crash()
    given = folder / "paths.json"
    given.write_text(json.dumps(paths), encoding="utf-8")
    variables = {
        "GRAFLOW_REDIS_URL": cluster.redis_url.reveal(),
        "GRAFLOW_SIGNING_KEY": cluster.backend_config["signing_key"].reveal(),
        "GRAFLOW_FLOW_STORE": str(runner.store.url),
    }
    with Process(given, folder, variables) as first:
        crash.began = first.start()
        stage.say(f"Process {first.process.pid} runs the flow over {len(paths):,} documents")

        def is_midway(state: FlowState | None) -> bool:
            first.require_alive()
            return ended_members(state) >= KILLED_AT * len(paths)

        stage.until(is_midway)
        first.kill()
        crash.killed = time.time()
    crash.recorded = frozenset(member.index or 0 for member in all_members(runner) if member.status.is_success)
    stage.say(f"kill -9 {first.process.pid}, with {len(crash.recorded):,} documents on record")
    group = attach(run_key_of(runner), cluster.backend_config)
    wait_alone(stage, group, len(crash.recorded), len(paths))
    with Process(given, folder, variables) as second:
        crash.restarted = second.start()
        stage.say(f"Process {second.process.pid} is started with the same command")
        epoch = runner.store.get_record(FLOW_ID).epoch
        while runner.store.get_record(FLOW_ID).epoch == epoch and second.process.poll() is None:
            time.sleep(0.01)
        crash.claimed = time.time()

        def is_over(state: FlowState | None) -> bool:
            second.require_alive()
            return state is not None and state.status.is_terminal

        stage.until(is_over)
        crash.ended = time.time()
        second.process.wait(30)
    return crash


def wait_alone(stage: Stage, group: GroupHandle, recorded: int, size: int) -> None:
    """Let the workers go on for a while, with nobody who runs the flow."""
    enough = min(size, recorded + ALONE_FOR * size)
    stage.say("Nobody runs the flow now; the workers go on with the group")
    while (status := group.status()).succeeded < enough and not status.state.is_final:
        time.sleep(LOOK)
    stage.say(f"They have measured {status.succeeded:,} documents by now")


def run_key_of(runner: FlowRunner) -> str:
    (key,) = [step.run_key for step in runner.get_flow_state(FLOW_ID).steps if step.step_name == GROUP]
    return str(key)


def ended_members(state: FlowState | None) -> int:
    steps = [] if state is None else state.steps
    return sum((step.counts or {}).get("completed", 0) for step in steps if step.step_name == GROUP)


def all_members(runner: FlowRunner) -> list[FlowStepState]:
    found: list[FlowStepState] = []
    cursor = None
    while True:
        page = runner.list_members(FLOW_ID, GROUP, cursor=cursor, limit=1000)
        found += page
        cursor = page.next_cursor
        if cursor is None:
            return found


# -- the report --------------------------------------------------------------------------------------------------------


REUSED, FOUND, MET, RUN = ORDER = (
    "reused: on record before the kill",
    "adopted: measured by workers, recorded after the restart",
    "adopted: a worker was at it when the flow went on",
    "run after the restart, for the first time",
)


def became(member: FlowStepState, crash: Crash) -> str:
    """What the restart made of a document."""
    if member.index in crash.recorded:
        return REUSED
    if at(member.completed_at) <= crash.claimed:
        return FOUND
    return MET if at(member.started_at) <= crash.claimed else RUN


def step_became(step: FlowStepState, crash: Crash) -> tuple[str, int]:
    """What the restart made of a step, and how often it was begun."""
    if at(step.completed_at) <= crash.killed:
        return "reused", step.attempts
    return ("adopted" if step.attempts > 1 else "run"), step.attempts


def at(moment: datetime | None) -> float:
    return (moment or datetime.now(UTC)).timestamp()


def is_whole(paths: Sequence[str], state: FlowState, members: Sequence[FlowStepState]) -> bool:
    """Whether the flow completed, over every document, and none was measured twice."""
    found = state.outputs or {}
    measured_twice = [member for member in members if member.attempts > 1]
    is_complete = state.status is FlowStatus.COMPLETED and len(members) == len(paths) == found.get("documents")
    return is_complete and not measured_twice


def print_report(paths: Sequence[str], crash: Crash, state: FlowState, members: Sequence[FlowStepState]) -> None:
    print(f"\nFlow {state.flow_id} is {state.status}: {len(paths):,} documents of Python {sys.version.split()[0]}\n")
    parts = Counter(became(member, crash) for member in members)
    rows = [[name, parts[name]] for name in sorted(parts, key=ORDER.index)]
    rows.append(["run again", sum(member.attempts > 1 for member in members)])
    show(Rows(("documents", "how many"), rows))
    print()
    show(Rows(("step", "became", "times begun"), [[step.step_name, *step_became(step, crash)] for step in state.steps]))
    print()
    seconds = [
        ("first process, until it was killed", crash.killed - crash.began),
        ("nobody ran the flow", crash.restarted - crash.killed),
        ("second process, from its start to its claim", crash.claimed - crash.restarted),
        ("second process, from its claim to the end", crash.ended - crash.claimed),
    ]
    show(Rows(("time", "seconds"), [[name, f"{value:.2f}"] for name, value in seconds]))
    found = state.outputs
    if found is not None:
        words = ", ".join(keyword["word"] for keyword in found["keywords"])
        print(f"\n{found['words']:,} words, {found['links']:,} links, keywords {words}")
    whole = is_whole(paths, state, members)
    print("Every document was measured once." if whole else "NOT every document was measured exactly once.")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("Interrupted; nothing is left behind.")
