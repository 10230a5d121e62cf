"""Fan-outs that are written in columns: how many members stand in a block, and what tells one group from another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from graflow.core.envelopes.shared_code import GroupCode
from graflow.core.task_registry import TaskResolver
from graflow.signing import SigningKeys, generate_key
from graflow_celery.client.columns import LONGEST, Chunks, ColumnWriter, stride_of
from graflow_celery.settings import GroupOptions
from graflow_celery.wire.chunks import Chunk
from tests.unit.registry_tasks import double

KEYS = SigningKeys.parse(generate_key())


@dataclass
class Unknown:
    """A class that no task speaks of."""

    x: int


def written(
    group: Any, stride: int, keys: SigningKeys | None = KEYS, content: bytes = b"what all share"
) -> Chunks | None:
    resolver, code = TaskResolver(keys=keys), GroupCode(keys, ("run", group.task_id))
    writer = ColumnWriter(resolver, code, keys, run_id="run", group_id=group.task_id, shared="hash", content=content)
    return writer.write(group.members, stride)


def unpacked(chunks: Chunks, name: str) -> list[Chunk]:
    return [
        Chunk.unpack(packed, run_id="run", group_id=name, index=place * chunks.stride, keys=KEYS)
        for place, packed in enumerate(chunks.entries)
    ]


def test_each_member_is_in_one_chunk() -> None:
    chunks = written(double.map(range(10)), 4)
    assert chunks is not None
    found = unpacked(chunks, "double")
    assert [list(chunk.members) for chunk in found] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert [(chunk.task_id(i), chunk.given(i)) for chunk in found for i in chunk.members][9] == (
        "double[9]",
        {"number": 9},
    )


@pytest.mark.parametrize(("content", "inline"), [(b"J{}", "J{}"), (b"J" * 2000, None)], ids=["short", "long"])
def test_what_all_members_share_comes_along_where_it_is_short(content: bytes, inline: str | None) -> None:
    chunks = written(double.map(range(4)), 2, content=content)
    assert chunks is not None
    assert [chunk.inline for chunk in unpacked(chunks, "double")] == [inline, inline]


def test_what_tells_a_group_from_another_does_not_depend_on_the_size_of_its_blocks() -> None:
    items = [[i, {"of": (i,)}] for i in range(30)]
    digests = {made.digest for stride in (0, 2, 7, 30, 500) if (made := written(double.map(items), stride)) is not None}
    assert len(digests) == 1
    others = [double.map(items[:-1]), double.map([*items[:-1], 0]), double.map(items, key=lambda item: f"k{item[0]}")]
    for group in others:
        made = written(group, 7)
        assert made is not None
        assert made.digest not in digests


def test_long_items_stand_in_smaller_chunks() -> None:
    chunks = written(double.map(["x" * 20_000] * 40), 40)
    assert chunks is not None
    assert chunks.stride < 40
    assert all(len(packed) <= LONGEST for packed in chunks.entries)
    assert sum(len(chunk.items) for chunk in unpacked(chunks, "double")) == 40
    apart = written(double.map(["x" * 200_000] * 4), 4)
    assert apart is not None
    assert (apart.entries, apart.stride) == ([], 0)


@pytest.mark.parametrize("long", ["x" * 70_000, b"x" * 70_000, ["x" * 200_000]], ids=["text", "bytes", "inside"])
def test_long_items_are_told_from_others_wherever_they_stand(long: Any) -> None:
    made = [written(double.map([long, 1, 2, 3]), stride) for stride in (0, 2, 4)]
    made += [written(double.map([long, 1, 2, 4]), 0), written(double.map([long[:-1], 1, 2, 3]), 0)]
    digests = [each.digest for each in made if each is not None]
    assert len(digests) == 5
    assert len(set(digests[:3])) == 1
    assert len(set(digests)) == 3


def test_what_has_no_form_in_columns_is_written_by_itself() -> None:
    assert written(double.map([object(), object()]), 2) is None
    assert written(double.map([Unknown(1), Unknown(2)]), 2) is None  # with a key it goes as a signed pickle
    renamed = double.map(range(4))
    renamed.set_group_name("another")
    assert written(renamed, 2) is None


@pytest.mark.parametrize(
    ("n", "slots", "options", "stride"),
    [
        (10_000, 2, {}, 500),
        (1_000, 2, {}, 125),
        (16, 2, {}, 8),
        (2, 2, {}, 0),
        (3, 2, {}, 2),
        (10_000, 2, {"batch_size": 10}, 10),
        (10_000, 2, {"batch_size": 1}, 0),
        (10_000, 2, {"max_in_flight": 5}, 0),
        (10_000, 2, {"max_attempts": 1}, 0),
        (10_000, 0, {}, 500),
    ],
)
def test_how_many_members_stand_in_a_block(n: int, slots: int, options: dict[str, Any], stride: int) -> None:
    assert stride_of(n, slots, GroupOptions(**options)) == stride
