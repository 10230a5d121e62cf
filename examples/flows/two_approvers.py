"""Two people have to say yes: neither a second vote of one nor that of a stranger counts.

python examples/flows/two_approvers.py
"""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

from graflow import task
from graflow.exceptions import AnswerRefusedError, NotAskedError
from graflow.flows import FlowRunner, flow

PATIENCE = 60.0


@task
def invoice() -> dict[str, Any]:
    return {"to": "Turing Machines", "amount": 1200}


@task(inject_context=True)
def pay(context: Any, invoice: dict[str, Any]) -> str:
    prompt = f"Pay {invoice['amount']} to {invoice['to']}?"
    people = ["ann", "bob", "carol"]
    ok = context.approve(prompt, about=invoice, of=people, needs=2, deadline=timedelta(days=3), default=False)
    voters = ", ".join(vote.person for vote in ok.votes)
    return f"paid {invoice['amount']}, approved by {voters}" if ok else "not paid"


@flow("payment")
def payment() -> None:
    invoice >> pay


def main() -> None:
    with FlowRunner("memory://") as runner:
        flow_id = runner.submit("payment")
        deadline = time.monotonic() + PATIENCE
        while not (found := runner.questions(flow_id=flow_id)) and time.monotonic() < deadline:
            time.sleep(0.05)
        (question,) = found
        print(question.prompt, "of", ", ".join(question.of))

        runner.answer(question.id, True, by="ann", reason="as agreed")
        for person, value in (("ann", False), ("mallory", True)):
            try:
                runner.answer(question.id, value, by=person)
            except (AnswerRefusedError, NotAskedError) as error:
                print(f"{person}: {type(error).__name__}")
        still = runner.question(question.id)
        print(f"{len(still.votes)} of {still.needs} answers, so it is {still.state.value}")

        runner.answer(question.id, True, by="bob")
        print(runner.wait(flow_id, timeout=PATIENCE).outputs)
        print(" ".join(line["what"] for line in runner.audit(question.id) if line["what"] in {"voted", "refused"}))


if __name__ == "__main__":
    main()
