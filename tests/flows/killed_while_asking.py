"""Asks, answers and goes on, in processes that are killed one write later each: its arguments are FOLDER MOMENT [URL].

For each write there is a store of its own, and a file of what channels were told, `FOLDER/<write>.txt`. It ends with
the first process that comes to its end, and prints at which writes the others were killed.
"""

import os
import signal
import sys
from itertools import count
from pathlib import Path

from graflow import task
from graflow.flows import FlowRunner, flow
from graflow.questions import notices
from graflow.state import FlowStatus, SqliteStore
from graflow.state.redis import RedisStore
from tests.flows.support import QuestionsWatchedStore

ANSWER = "as planned"


@task(inject_context=True)
def ask(context):
    return context.ask("How?", str, notify=["desk"])


@flow("killed_while_asking")
def asks():
    return ask


def desk(notes):
    """A channel that notes what it is told."""

    def told(notice, question):
        with notes.open("a", encoding="utf-8") as file:
            file.write(f"{notice.kind} {notice.id}\n")

    return {"desk": told}


def store_of(folder, write, url=None):
    """The store of a write: a file, or keys of their own in the Redis at this address."""
    if url is None:
        return SqliteStore(folder / f"{write}.db")
    return RedisStore({"url": url}, key_prefix=f"{folder.name}-{write}")


def live(store, notes, moment, last):
    """Ask, answer and go on; die before or after the write of this number."""

    def kill(writes):
        if writes == last:
            os.kill(os.getpid(), signal.SIGKILL)

    notices.TELL_WITHIN = 0.2  # whoever goes on does not wait long for one who is dead
    watched = QuestionsWatchedStore(store, **{moment: kill})
    with FlowRunner(watched, recovery=False, notifiers=desk(notes)) as runner:
        player = runner.player
        player.create("f", "killed_while_asking", {}, status=FlowStatus.QUEUED, durability="required", metadata=None)
        player.advance("f")
        player.sweep()
        for question in runner.questions():
            runner.answer(question.id, ANSWER, by="ann")
        runner.wait("f", 60)  # before channels are told: nobody else writes meanwhile
        player.sweep()


def main():
    folder, moment, *url = Path(sys.argv[1]), *sys.argv[2:]
    for write in count(1 if moment == "after" else 0):
        child = os.fork()  # nothing has a thread or a connection yet
        if child == 0:
            live(store_of(folder, write, *url), folder / f"{write}.txt", moment, write)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        ended = os.waitstatus_to_exitcode(status)
        if ended == 0:
            return
        if ended != -signal.SIGKILL:
            sys.exit(f"write {write} ended with {ended}")
        print(write, flush=True)


if __name__ == "__main__":
    main()
