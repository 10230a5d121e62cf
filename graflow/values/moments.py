"""Dates, times of day and zones.

A moment keeps its wall time, zone and fold. A reader that does not know the zone, or other rules for it, keeps the
moment itself. A fixed offset that was given a name of its own, as by `astimezone()`, stands as `offset:<name>`, which
no zone is called.
"""

from __future__ import annotations

import zoneinfo
from contextlib import suppress
from datetime import UTC, datetime, time, timedelta, timezone, tzinfo
from functools import cache
from typing import Any, Final

from graflow.values.base import NoCodecError, Reading, Writing, parts_of, text_of

_OWN: Final = "offset:"


def take_datetime(value: datetime, _writing: Writing) -> Any:
    """ISO text; `[text, zone]` with a named zone, `[text, zone, fold]` where the offset does not tell the fold."""
    zone, text = value.tzinfo, value.isoformat()
    name = _name_of(zone)
    if zone is not None and value.utcoffset() is None:
        raise NoCodecError("a tzinfo that gives no offset")
    if value.fold and value.utcoffset() == value.replace(fold=0).utcoffset():
        return [text, name, 1]
    return text if name is None else [text, name]


def make_datetime(content: Any, _reading: Reading) -> datetime:
    if type(content) is not list:
        return datetime.fromisoformat(content)
    text, name, *fold = parts_of(content, 2, 3)
    moment = datetime.fromisoformat(text)
    zone = _zone_named(name, moment.utcoffset())
    if zone is not None:
        moment = _in_zone(moment, zone)
    return moment.replace(fold=1) if fold == [1] else moment


def _in_zone(moment: datetime, zone: tzinfo) -> datetime:
    """The moment with this zone, its wall time kept when one of the two folds has the offset that was written."""
    for fold in (0, 1):
        found = moment.replace(tzinfo=zone, fold=fold)
        if found.utcoffset() == moment.utcoffset():
            return found
    with suppress(OverflowError):  # at the ends of time another offset leads out of the calendar
        return moment.astimezone(zone)
    return moment


def take_time(value: time, _writing: Writing) -> Any:
    """ISO text; `[text, zone, fold]` where there is a named zone or a fold."""
    name = _name_of(value.tzinfo)
    if value.tzinfo is not None and name is None and value.utcoffset() is None:
        raise NoCodecError("a time of day whose offset depends on the date")
    return [value.isoformat(), name, value.fold] if name is not None or value.fold else value.isoformat()


def make_time(content: Any, _reading: Reading) -> time:
    if type(content) is not list:
        return time.fromisoformat(content)
    text, name, fold = parts_of(content, 3)
    found = time.fromisoformat(text).replace(fold=fold)
    return found if name is None else found.replace(tzinfo=_zone_named(name, found.utcoffset()) or _unknown(name))


def take_timezone(value: timezone, _writing: Writing) -> Any:
    """Days, seconds and microseconds of the offset, and the name that it was given."""
    offset, name = value.utcoffset(None), _own_name(value)
    parts = [offset.days, offset.seconds, offset.microseconds]
    return parts if name is None else [*parts, name]


def make_timezone(content: object, _reading: Reading) -> timezone:
    days, seconds, microseconds, *name = parts_of(content, 3, 4)
    offset = timedelta(days, seconds, microseconds)
    return timezone(offset, text_of(name[0])) if name else UTC if not offset else timezone(offset)


def take_zone(value: zoneinfo.ZoneInfo, _writing: Writing) -> str:
    if not value.key:
        raise NoCodecError("a zone without a name")
    return value.key


def make_zone(content: object, _reading: Reading) -> zoneinfo.ZoneInfo:
    return zoneinfo.ZoneInfo(content) if content in _zones() else _unknown(content)


def _name_of(zone: tzinfo | None) -> str | None:
    if type(zone) is timezone:
        own = _own_name(zone)
        return None if own is None else _OWN + own
    return (zone.key or None) if type(zone) is zoneinfo.ZoneInfo else None


def _own_name(zone: timezone) -> str | None:
    name = zone.tzname(None)
    return None if name == timezone(zone.utcoffset(None)).tzname(None) else name


def _zone_named(name: object, offset: timedelta | None) -> tzinfo | None:
    if isinstance(name, str) and name.startswith(_OWN) and offset is not None:
        return timezone(offset, name.removeprefix(_OWN))
    return zoneinfo.ZoneInfo(name) if name in _zones() else None


def _unknown(name: object) -> zoneinfo.ZoneInfo:
    raise ValueError(f"the time zone {str(name)[:80]!r} is not known here")


@cache
def _zones() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones())
