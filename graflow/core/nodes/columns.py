"""The members of a fan-out in column form: what all share, and what each has of its own."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import is_
from typing import Any, Final, Protocol, overload

from graflow.core.bulk.garbage import no_collections
from graflow.core.nodes.arguments import refuse_unknown
from graflow.core.nodes.base import BaseNode

_UNCHANGING: Final = (range, tuple, str, bytes)
_COMPARED: Final = frozenset({int, str})  # an item of a range or of a text is another object at each look
_ABSENT: Final = object()
_making = threading.RLock()


class Prototype(Protocol):
    """A task of a function, of which others are made."""

    template: Any
    made_from: Any

    @property
    def bound_arguments(self) -> Mapping[str, Any]: ...

    def siblings(self, members: Iterable[tuple[str, Mapping[str, Any]]]) -> Iterator[Any]: ...


class MemberIds(Sequence[str]):
    """`<name>[<key>]` of each member, made when somebody asks for it.

    Args:
        name: What all ids begin with.
        count: The number of members.
        keys: What stands in brackets; the index where not given.

    Raises:
        ValueError: Two keys are the same.
    """

    __slots__ = ("_count", "keys", "name")

    def __init__(self, name: str, count: int, keys: list[str] | None = None) -> None:
        self.name = name
        self.keys = keys
        self._count = count
        if keys is not None and len(set(keys)) != count:
            refuse_twice(name, self)

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        keys: Sequence[object] = range(self._count) if self.keys is None else self.keys
        if isinstance(index, slice):
            return [f"{self.name}[{key}]" for key in keys[index]]
        return f"{self.name}[{keys[index]}]"

    def __iter__(self) -> Iterator[str]:
        name = self.name
        return (f"{name}[{key}]" for key in (range(self._count) if self.keys is None else self.keys))

    def __contains__(self, task_id: object) -> bool:
        key = self._key_in(task_id)
        return key is not None and (self.keys is None or key in self.keys)

    def index(self, value: object, start: int = 0, stop: int | None = None) -> int:
        """The place of an id.

        Raises:
            ValueError: It is none of these.
        """
        key = self._key_in(value)
        if key is not None and (self.keys is None or key in self.keys):
            place = int(key) if self.keys is None else self.keys.index(key)
            if place in range(self._count)[start:stop]:
                return place
        raise ValueError(f"{value!r} is no member of '{self.name}'")

    def _key_in(self, task_id: object) -> str | None:
        """What stands in the brackets of an id that may be one of these."""
        if not isinstance(task_id, str) or not task_id.startswith(f"{self.name}[") or task_id[-1] != "]":
            return None
        key = task_id[len(self.name) + 1 : -1]
        if self.keys is not None:
            return key
        is_index = key.isascii() and key.isdecimal() and len(key) <= len(str(self._count)) and str(int(key)) == key
        return key if is_index and int(key) < self._count else None


class MappedMembers(Sequence[Any]):
    """The members of a fan-out; all of them are made as soon as somebody asks for one.

    Args:
        prototype: A task with the function, the options and the arguments that all members share.
        ids: Their ids.
        items: What each has of its own.
        parameter: Where an item goes; None where it is spread over the parameters.
        free: The parameters that the values of a tuple go to, in order.

    Attributes:
        prototype: As given; no member itself, and in no graph.
        ids: As given; read without making members.
        items: As given.
        parameter: As given.
        free: As given.
    """

    __slots__ = ("_made", "free", "ids", "items", "parameter", "prototype")

    def __init__(
        self,
        prototype: Prototype,
        ids: MemberIds,
        items: Sequence[Any],
        parameter: str | None,
        free: tuple[str, ...],
    ) -> None:
        self.prototype = prototype
        self.ids = ids
        self.items = items
        self.parameter = parameter
        self.free = free
        self._made: list[Any] | None = None

    def given(self, index: int) -> dict[str, Any]:
        """The arguments that one member has of its own."""
        item = self.items[index]
        if self.parameter is not None:
            return {self.parameter: item}
        return dict(item) if isinstance(item, Mapping) else dict(zip(self.free, item, strict=False))

    def made(self) -> list[Any]:
        """The members as tasks, the same ones each time."""
        if self._made is None:
            with _making, no_collections():
                if self._made is None:
                    self._made = list(self.prototype.siblings(zip(self.ids, self._bounds(), strict=True)))
        return self._made

    def _bounds(self) -> Iterator[dict[str, Any]]:
        """The arguments of each member."""
        shared, parameter = self.prototype.bound_arguments, self.parameter
        if parameter is None:
            return ({**shared, **self.given(index)} for index in range(len(self.items)))
        if not shared:
            return ({parameter: item} for item in self.items)
        return ({**shared, parameter: item} for item in self.items)

    @property
    def present_ids(self) -> Sequence[str]:
        """The ids that the members have now."""
        return self.ids if self._made is None else [member.task_id for member in self._made]

    def sample(self) -> Any:
        """A task like the first member, made without the others."""
        return next(self.prototype.siblings(zip(self.ids, self._bounds(), strict=False)))

    @property
    def may_be_folded(self) -> bool:
        """Whether nobody has asked for a member, and an id tells by itself whether it is that of a member."""
        kind: Any = type(self.prototype)
        return self._made is None and self.ids.keys is None and kind.register_in is BaseNode.register_in

    @property
    def is_untouched(self) -> bool:
        """Whether each member still is what its item says: none was made yet, or none was changed since."""
        made, template = self._made, self.prototype.template
        if made is None:
            return True
        if len(made) != len(self.ids) or any(getattr(member, "template", None) is not template for member in made):
            return False
        if self.present_ids != self.ids[:]:
            return False
        return self._are_their_items(made) or all(
            map(_are_same, (member.bound_arguments for member in made), self._bounds())
        )

    def _are_their_items(self, made: list[Any]) -> bool:
        """Whether each has its item and nothing else, as far as that is seen without a step in Python for each."""
        parameter, items = self.parameter, self.items
        bounds = [member.bound_arguments for member in made]
        if parameter is None or {*map(len, bounds)} != {1}:
            return False
        given = [bound.get(parameter, _ABSENT) for bound in bounds]
        if type(items) is range:
            return {*map(type, given)} == {int} and given == list(items)
        return all(map(is_, given, items))

    def __len__(self) -> int:
        return len(self.ids) if self._made is None else len(self._made)

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        made = self._made
        return (self.made() if made is None else made)[index]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.made())

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if isinstance(other, MappedMembers):
            return self.made() == other.made()
        return self.made() == other if isinstance(other, list) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # like a list

    def __repr__(self) -> str:
        return f"MappedMembers({self.ids.name!r}, {len(self)})"


def _are_same(bound: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    if len(bound) != len(wanted):
        return False
    for name, value in wanted.items():
        given = bound.get(name, _ABSENT)
        if given is not value and not (type(value) in _COMPARED and type(given) is type(value) and given == value):
            return False
    return True


def taken(items: Iterable[Any]) -> Sequence[Any]:
    """The items as they are now: one that cannot change itself, anything else in a list."""
    return items if isinstance(items, Sequence) and type(items) in _UNCHANGING else list(items)


def spread(task: Any, items: Iterable[Any], free: Sequence[str]) -> list[Any]:
    """Items that are spread over parameters: each a tuple, or a mapping with names that the function knows.

    Raises:
        TypeError: For an item that is neither, or that the function cannot take.
    """
    order, known = tuple(free), set[tuple[Any, ...]]()

    def checked(item: Any) -> Any:
        if type(item) is tuple and len(item) <= len(order):
            return item
        if isinstance(item, Mapping):
            names = tuple(item)
            if names not in known:
                refuse_unknown(task, item, "which an item of starmap() names")
                known.add(names)
            return tuple(item.values()) if names == order[: len(names)] else dict(item)  # a tuple takes a quarter
        if isinstance(item, str | bytes) or not isinstance(item, Iterable):
            raise TypeError(f"An item of starmap() is a tuple or a mapping, not {item!r}; map() takes single values")
        values = tuple(item)
        if len(values) > len(free):
            raise TypeError(
                f"Task '{task.task_id}' takes {len(free)} free arguments ({', '.join(free)}), "
                f"but an item of starmap() has {len(values)}"
            )
        return values

    return [checked(item) for item in items]


def ids_in(members: Sequence[Any]) -> Sequence[str]:
    """The ids of the members of a group, without making those of a fan-out."""
    return members.present_ids if type(members) is MappedMembers else [member.task_id for member in members]


def keyed(items: Iterable[Any], key: Callable[[Any], Any] | None) -> tuple[Iterable[Any], list[str] | None]:
    """The items, and the list of their keys; of items that come one by one it is filled as they come."""
    if key is None:
        return items, None
    if type(items) in _UNCHANGING:
        return items, [f"{key(item)}" for item in items]
    keys: list[str] = []

    def noted() -> Iterator[Any]:
        for item in items:
            keys.append(f"{key(item)}")
            yield item

    return noted(), keys


def refuse_twice(name: str, ids: Iterable[str]) -> None:
    """Raise for ids of which one comes twice."""
    ((twice, times),) = Counter(ids).most_common(1)
    if times > 1:
        raise ValueError(f"Two items of the fan-out '{name}' have the same member id '{twice}'; use another key=")
