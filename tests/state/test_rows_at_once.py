"""Rows that are read together are those that are read one by one."""

from __future__ import annotations

import pytest

from graflow.exceptions import PayloadError
from graflow.state.encoding import decode_fields, decode_rows

ROWS = [
    ['{"a":1}', '{"b":"x, y"}', "{}"],
    ['{"a":1}{"a":2,"b":[]}', '{"c":"}{"}'],
    ['{"a":1,"b":2}', '{"c":3}{"@":{"c":"d1"}}'],
    [b'{"a":1}', '{"b":2}'],
    [],
]


@pytest.mark.parametrize("stored", ROWS, ids=["plain", "with more behind", "with large ones", "bytes", "none"])
def test_rows_that_are_read_together_are_those_that_are_read_one_by_one(stored: list[str | bytes]) -> None:
    assert decode_rows(stored) == [decode_fields(each) for each in stored]


@pytest.mark.parametrize("stored", [['{"a":1', '"b":2}'], ['{"a":1},{"b":2}', "{}"], ["[]", "{}"], ["", "{}"]])
def test_a_damaged_row_is_refused_also_where_it_fits_between_the_others(stored: list[str]) -> None:
    with pytest.raises(PayloadError):
        decode_rows(stored)
