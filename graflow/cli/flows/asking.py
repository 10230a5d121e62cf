"""Questions of flows."""

from __future__ import annotations

import getpass
import json
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import click

from graflow.cli.flows.options import WRONG_USE, as_json, runner_of, store
from graflow.cli.output import Rows
from graflow.cli.output import show as print_for_people
from graflow.exceptions import AnswerInvalidError, AnswerRefusedError, NotAskedError, QuestionNotFoundError
from graflow.flows import FlowRunner
from graflow.questions.drafts import Ballot
from graflow.questions.models import Question
from graflow.text.shown import one_line, printable

SOMEBODY_WAS_FIRST: Final = 3
"""The status of a command whose answer a question takes no more."""

_VIA: Final = "cli"
_PROMPT: Final = 60  # characters of it in a table


@click.command()
@click.option("--open", "state", flag_value="open", default="open", help="Those that wait [default].")
@click.option("--settled", "state", flag_value="settled", help="Those that do not.")
@click.option("--of", metavar="PERSON", help="Those that this person may answer.")
@click.option("--flow", "flow_id", metavar="ID", help="Those of this flow.")
@click.option("--limit", type=click.IntRange(1, 200), default=50, show_default=True, help="At most so many.")
@as_json
@store
def questions(state: str, of: str | None, flow_id: str | None, limit: int, as_json: bool, store: str | None) -> None:
    """Questions that flows ask people, newest first."""
    with _runner(store) as runner:
        found = runner.questions(state, of, flow_id=flow_id, limit=limit)
    if as_json:
        for each in found:
            click.echo(json.dumps(each.shown()))
        return
    names = ("question", "state", "asks", "of", "answers", "step", "flow")
    print_for_people(
        Rows(
            names,
            [
                (
                    *(each.id, each.state.value, one_line(each.prompt)[:_PROMPT], ", ".join(each.of) or "anybody"),
                    *(f"{len(each.votes)}/{each.needs}", one_line(f"{each.flow_name}: {each.step}"), each.flow_id),
                )
                for each in found
            ],
        )
    )


@click.group()
def question() -> None:
    """Look at one question of a flow, remind people of it, or take it back."""


@question.command()
@click.argument("question_id")
@as_json
@store
def show(question_id: str, as_json: bool, store: str | None) -> None:
    """A question, what may be answered, and what was."""
    with _runner(store) as runner:
        _tell(runner.view(question_id, _me(), via=_VIA, verified=False), as_json=as_json, whole=True)


@question.command()
@click.argument("question_id")
@store
def audit(question_id: str, store: str | None) -> None:
    """What happened to a question, as lines of JSON; each has the digest of the one before."""
    with _runner(store) as runner:
        for line in runner.audit(question_id):
            click.echo(json.dumps(line))


@question.command()
@click.argument("question_id")
@click.option("--reason", default="", help="Its step is told.")
@as_json
@store
def withdraw(question_id: str, reason: str, as_json: bool, store: str | None) -> None:
    """Take a question back; its step gets an error."""
    with _runner(store) as runner:
        _tell(runner.withdraw(question_id, reason, by=_me(), via=_VIA), as_json=as_json)


@question.command()
@click.argument("question_id")
@click.option("--of", multiple=True, required=True, metavar="PERSON", help="Who is asked instead; may be repeated.")
@click.option("--reason", default="", help="For the log.")
@as_json
@store
def reassign(question_id: str, of: Sequence[str], reason: str, as_json: bool, store: str | None) -> None:
    """Ask other people instead, or roles as role:<name>."""
    with _runner(store) as runner:
        _tell(runner.reassign(question_id, of, reason, by=_me(), via=_VIA), as_json=as_json)


@question.command()
@click.argument("question_id")
@store
def remind(question_id: str, store: str | None) -> None:
    """Have the channels of a question told once more."""
    with _runner(store) as runner:
        channels = runner.remind(question_id, by=_me(), via=_VIA).notify
    click.echo(f"Told again: {', '.join(channels)}" if channels else "The question has no channels: nobody is told")


@question.command()
@click.argument("question_id")
@click.option("--for", "person", required=True, metavar="PERSON", help="Who answers with it.")
@store
def link(question_id: str, person: str, store: str | None) -> None:
    """The path of a signed link with which one person may answer; give it to that person alone."""
    with _runner(store) as runner:
        click.echo(runner.answer_link(question_id, person))


@click.command()
@click.argument("question_id")
@click.option("--approve", "given", flag_value="true", help="Yes.")
@click.option("--reject", "given", flag_value="false", help="No.")
@click.option("--value", metavar="JSON", help="Any other answer.")
@click.option("--reason", help="Words about it.")
@click.option("--by", metavar="PERSON", help="Who answers, as you say [default: cli:<user>@<host>].")
@as_json
@store
def answer(
    question_id: str,
    given: str | None,
    value: str | None,
    reason: str | None,
    by: str | None,
    as_json: bool,
    store: str | None,
) -> None:
    """Answer a question; its flow goes on by itself. Exit status 3 when somebody was first."""
    if (given is None) == (value is None):
        raise click.UsageError("Give one of --approve, --reject and --value")
    ballot = Ballot(by or _me(), _plain(given or value or ""), reason, _VIA, verified=False)
    with _runner(store) as runner:
        after, _ = runner.player.questions.answer(question_id, ballot)
        _tell(after, as_json=as_json)


@click.command()
@click.argument("flow_id")
@click.argument("name")
@click.argument("value", metavar="JSON", default="null")
@click.option("--id", "signal_id", help="Makes the command idempotent.")
@store
def signal(flow_id: str, name: str, value: str, signal_id: str | None, store: str | None) -> None:
    """Tell a flow of something that a step waits for, or will wait for."""
    with _runner(store) as runner:
        is_new = runner.signal(flow_id, name, _plain(value), id=signal_id, by=_me())
    click.echo("Told" if is_new else "It had been told before")


@contextmanager
def _runner(store: str | None) -> Iterator[FlowRunner]:
    """A runner, and errors of questions as statuses: 3 where somebody was first, 2 for wrong use."""
    with runner_of(store) as runner:
        try:
            yield runner
        except AnswerRefusedError as error:
            raise _RefusedError(error, SOMEBODY_WAS_FIRST) from error
        except (AnswerInvalidError, NotAskedError, QuestionNotFoundError) as error:
            raise _RefusedError(error, WRONG_USE) from error


class _RefusedError(click.ClickException):
    def __init__(self, error: Exception, status: int) -> None:
        super().__init__(printable(error))
        self.exit_code = status  # type: ignore[misc]  # click's own ask the instance


def _me() -> str:
    return f"cli:{getpass.getuser()}@{socket.gethostname()}"


def _plain(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise click.UsageError(f"{text[:60]!r} is no JSON; a text is written '\"like this\"'") from error


def _tell(question: Question, *, as_json: bool, whole: bool = False) -> None:
    shown = question.shown()
    if as_json:
        click.echo(json.dumps(shown))
        return
    by = f" by {question.settled_by}" if question.settled_by else ""
    click.echo(
        printable(f"{question.id} is {question.state.value}{by}: {len(question.votes)}/{question.needs} answers")
    )
    if whole:
        click.echo(printable(question.prompt))
        facts = [
            ("flow", f"{question.flow_name} {question.flow_id}".strip()),
            ("step", question.step),
            ("of", ", ".join(question.of) or "anybody"),
        ]
        facts += [("asked", shown["asked_at"]), ("deadline", shown["deadline"] or "none")]
        facts += [("answer", json.dumps(question.answer_schema))]
        facts += [(vote.person, json.dumps([vote.value, vote.reason])) for vote in question.votes]
        print_for_people(Rows(("what", "is"), facts))
