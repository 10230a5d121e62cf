"""The order of what stands in one layer, such that few edges cross."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final

_SWEEPS: Final = 8
_PATIENCE: Final = 3  # sweeps without a better order

Layers = list[list[int]]
Neighbours = Sequence[Sequence[int]]
"""By vertex, those of the layer before, or of the one after."""


def ordered(layers: Layers, before: Neighbours, after: Neighbours) -> Layers:
    """The layers, each in an order found by barycentres; no worse than the given one, which decides between equals."""
    best, fewest = layers, crossings(layers, after)
    present, waited = layers, 0
    for sweep in range(_SWEEPS):
        if fewest == 0 or waited == _PATIENCE:
            break
        present = _swept(present, after, backwards=True) if sweep % 2 else _swept(present, before)
        found = crossings(present, after)
        waited += 1
        if found < fewest:
            best, fewest, waited = present, found, 0
    return best


def ordered_like(layers: Layers, before: Neighbours, known: Mapping[int, float]) -> Layers:
    """The layers with what has a known place in the order of these, and what is new where its predecessors are."""
    places = dict(known)
    for layer in layers:
        for vertex in layer:
            if vertex not in places:
                near = [places[other] for other in before[vertex]]
                places[vertex] = sum(near) / len(near) if near else max(known.values(), default=0.0) + 1.0
    return [sorted(layer, key=lambda vertex: (places[vertex], vertex not in known)) for layer in layers]


def crossings(layers: Layers, after: Neighbours) -> int:
    """How often edges between neighbouring layers cross."""
    count = 0
    for layer, following in pairwise(layers):
        place = {vertex: number for number, vertex in enumerate(following)}
        passed: list[int] = []
        for vertex in layer:
            targets = sorted(place[target] for target in after[vertex])
            count += sum(len(passed) - bisect_right(passed, target) for target in targets)
            for target in targets:
                passed.insert(bisect_right(passed, target), target)
    return count


def _swept(layers: Layers, neighbours: Neighbours, *, backwards: bool = False) -> Layers:
    """Each layer in the order of the means of its neighbours' places, from one end to the other."""
    place: dict[int, float] = {}
    found: Layers = []
    for layer in reversed(layers) if backwards else layers:
        key = {}
        for number, vertex in enumerate(layer):
            near = neighbours[vertex]
            key[vertex] = sum([place[other] for other in near]) / len(near) if near else number
        row = sorted(layer, key=key.__getitem__)
        place.update((vertex, number) for number, vertex in enumerate(row))
        found.append(row)
    return found[::-1] if backwards else found
