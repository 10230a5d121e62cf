"""How states look, as JSON, so that the page, and programs that show runs, use the same colours and words.

`GET /api/v1/states`::

    {"families": {"running": {"light": "#2563eb", "dark": "#4b8dff", "ink_light": …, "ink_dark": …}, …},
     "states": {"running": {"family": "running", "icon": "open-ring", "sign": "◌", "word": "running",
                            "hollow": false, "dashed": false, "letter": "r"}, …}}
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import Response

from graflow.api.http.etags import tagged
from graflow.drawing.looks import FAMILIES, LOOKS
from graflow.state.groups.strips import LETTERS

router = APIRouter(tags=["server"])


class FamilyLook(BaseModel):
    """The colours of a family of states, and of text on tints of them."""

    light: str
    dark: str
    ink_light: str
    ink_dark: str


class StateLook(BaseModel):
    """How a state looks; `letter` stands for it in strips, where it can be in one."""

    family: str
    icon: str
    sign: str
    word: str
    hollow: bool
    dashed: bool
    letter: str | None


class States(BaseModel):
    """All states and their families."""

    families: dict[str, FamilyLook]
    states: dict[str, StateLook]


_STATES = States(
    families={
        name: FamilyLook(light=family.light, dark=family.dark, ink_light=family.ink_light, ink_dark=family.ink_dark)
        for name, family in FAMILIES.items()
    },
    states={
        name: StateLook(
            family=look.family,
            icon=look.icon,
            sign=look.sign,
            word=look.word,
            hollow=look.is_hollow,
            dashed=look.is_dashed,
            letter=LETTERS.get(name),
        )
        for name, look in LOOKS.items()
    },
)
_NOT_MODIFIED: dict[int | str, dict[str, Any]] = {304: {"description": "As the tag says that you have it"}}


@router.get("/states", response_model=States, responses=_NOT_MODIFIED)
def states(request: Request) -> Response:
    """How states look."""
    return tagged(request, _STATES)
