"""Pages of lists, by cursor."""

from __future__ import annotations

from typing import Annotated, Final, Generic, TypeVar

from fastapi import Query
from pydantic import BaseModel

_Item = TypeVar("_Item")

LONGEST_PAGE: Final = 200

Limit = Annotated[int, Query(ge=1, le=LONGEST_PAGE, description="At most so many.")]
Cursor = Annotated[str | None, Query(max_length=1000, description="`next_cursor` of the page before.")]


class Page(BaseModel, Generic[_Item]):
    """One page of a list.

    Attributes:
        items: In the order of the list.
        next_cursor: Gives the next page; None on the last one.
    """

    items: list[_Item]
    next_cursor: str | None = None
