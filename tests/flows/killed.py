"""A program that runs a flow, and may be killed after any of its writes: `killed.py URL EFFECTS WRITES [FLOW]`."""

import json
import os
import signal
import sys
import time
from pathlib import Path

from graflow import RetryPolicy, parallel, task
from graflow.flows import FlowRunner, flow
from graflow.state.opening import open_store
from tests.flows.support import WatchedStore

EFFECTS = Path(sys.argv[2]) if len(sys.argv) > 2 else Path("/dev/null")


def note(name):
    with EFFECTS.open("a", encoding="utf-8") as file:
        file.write(f"{name}\n")


@task(inject_context=True)
def load(context):
    note("load")
    context.get_channel().set("pages", 3)
    return list(range(3))


@task(inject_context=True)
def page(context, number=0):
    note(f"page {number}")
    context.get_channel().append("seen", number)
    return number * 10


@task(inject_context=True, retry_policy=RetryPolicy(max_retries=2, initial_interval=0.0))
def flaky(context):
    note("flaky")
    if context.retry_count < 1:
        raise ValueError("not yet")
    return "done"


@task(inject_context=True)
def around(context, data=0):
    note(f"around {data}")
    if data < 2:
        context.next_iteration(data + 1)
    return data


@task(inject_context=True)
def report(context):
    note("report")
    return [context.get_result("load"), sorted(context.get_channel().get("seen")), context.get_result("flaky")]


@flow("killed")
def killed(title: str):
    pages = parallel(*(page(task_id=f"page{number}", number=number) for number in range(3))).set_group_name("pages")
    load >> pages.with_execution("direct") >> flaky >> around >> report


@task(inject_context=True)
def ask(context):
    drawn = context.flow.side_effect(lambda: note("drawn") or 21)
    context.flow.sleep(0.05)
    return context.flow.start("killed_child", {"number": drawn})


@task
def double(number=0):
    note("double")
    return 2 * number


@flow("killed_child")
def killed_child(number: int):
    double(task_id="double", number=number)


@flow("killed_parent")
def killed_parent(title: str):
    load >> ask


def main():
    begun, last, name = time.monotonic(), int(sys.argv[3]), (sys.argv[4:] or ["killed"])[0]

    def kill(writes):
        if writes == last:
            os.kill(os.getpid(), signal.SIGKILL)

    runner = FlowRunner(WatchedStore(open_store(sys.argv[1]), after=kill), recovery=False, lease=50.0)
    state = runner.execute(name, {"title": "t"}, flow_id="f")
    print(json.dumps({"status": state.status, "outputs": state.outputs, "seconds": time.monotonic() - begun}))


if __name__ == "__main__":
    main()
