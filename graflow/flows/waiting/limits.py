"""How much one flow may wait for at once."""

from __future__ import annotations

from typing import Final

from graflow.exceptions import ConfigError
from graflow.state.questions import LISTED, QuestionQuery, QuestionStore

MOST_OPEN: Final = 1000


def check_open(store: QuestionStore, flow_id: str, more: int) -> None:
    """Refuse so many further questions of a flow where too many would be open.

    Raises:
        ConfigError: There would be.
    """
    count, cursor = more, None
    while more and count <= MOST_OPEN:
        page = store.list_questions(QuestionQuery(flow_id, is_open=True, cursor=cursor, limit=LISTED))
        count, cursor = count + len(page), page.next_cursor
        if cursor is None:
            break
    if count > MOST_OPEN:
        raise ConfigError(
            f"Flow '{flow_id}' would wait for more than {MOST_OPEN} answers, signals and times at once: wait for some "
            "of them before the others are asked for"
        )
