"""Units of a split: samples that must stay together, and the numbers that an assignment aims at."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

EXHAUSTIVE_UNITS = 12  # up to so many, all placings are tried


class Unit(NamedTuple):
    """What stays together; ``counts`` is its (class, samples) pairs."""

    rank: bytes
    ids: list[str]
    counts: tuple[tuple[int, int], ...]


def make_units(ids: Sequence[str], classes: list[int], groups: Sequence[str | None], seed: int) -> list[Unit]:
    """Units in the order of their ranks."""
    members: defaultdict[str, list[int]] = defaultdict(list)
    for index, (sample, group) in enumerate(zip(ids, groups, strict=True)):
        members[f"sample {sample}" if group is None or group == "" else f"group {group}"].append(index)
    lone = {index: ((index, 1),) for index in set(classes)}
    return sorted(
        Unit(
            hashlib.sha256(f"{seed} {name}".encode("utf-8", "surrogatepass")).digest(),
            [str(ids[index]) for index in inside],
            lone[classes[inside[0]]] if len(inside) == 1 else _counted(classes[index] for index in inside),
        )
        for name, inside in members.items()
    )


def _counted(classes: Iterable[int]) -> tuple[tuple[int, int], ...]:
    return tuple(sorted(Counter(classes).items()))


@dataclass(frozen=True)
class Aims:
    """What an assignment aims at. Deviations and limits are in samples times ``scale``."""

    shares: list[int]
    scale: int
    sizes: list[int]  # samples per class
    units: list[int]  # units per class
    largest: list[int]  # samples of the class in its largest unit
    slack: list[int]  # how far a class may be off before units are moved for it
    step: int  # more than all distances can sum to
    gap_step: int  # more than all gaps can sum to

    def exact(self, index: int) -> list[int]:
        """Samples of a class per split, times scale."""
        return [self.sizes[index] * share for share in self.shares]

    def cost(self, index: int, row: Sequence[int]) -> int:
        """How bad the deviations of one class are: past the bound, then distance, then splits without it."""
        bound = self.largest[index] * self.scale
        past, off, filled = 0, 0, 0
        for deviation, share in zip(row, self.shares, strict=True):
            distance = abs(deviation)
            past += max(0, distance - bound)
            off += max(0, distance - self.slack[index])
            filled += deviation != -self.sizes[index] * share
        gaps = max(0, min(len(row), self.units[index]) - filled)
        return gaps + self.gap_step * (off + self.step * past)


def make_aims(units: list[Unit], classes: int, shares: list[int]) -> Aims:
    """The numbers to aim at, from the units and the shares of the splits."""
    sizes, held, largest = [0] * classes, [0] * classes, [0] * classes
    for unit in units:
        for index, count in unit.counts:
            sizes[index] += count
            held[index] += 1
            largest[index] = max(largest[index], count)
    scale = sum(shares)
    least = max(scale, sum(sizes) * scale // 500)
    slack = [0 if len(units) <= EXHAUSTIVE_UNITS else max(least, size * scale // 100) for size in sizes]
    step, gap_step = 2 * sum(sizes) * scale + 1, len(shares) * classes + 1
    return Aims(shares, scale, sizes, held, largest, slack, step, gap_step)


class Component(NamedTuple):
    """Classes, the rarest first, that share units directly or by a chain; no others touch these units."""

    classes: list[int]
    units: list[int]


def components(units: list[Unit], plan: Aims) -> list[Component]:
    """Classes and units in independent components: no unit belongs to two of them."""
    root = list(range(len(plan.sizes)))
    for counts in {unit.counts for unit in units if len(unit.counts) > 1}:
        for index, _ in counts[1:]:
            root[find_root(root, index)] = find_root(root, counts[0][0])
    classes, inside = defaultdict(list), defaultdict(list)
    for index in sorted(range(len(root)), key=lambda index: (plan.units[index], index)):
        classes[find_root(root, index)].append(index)
    for position, unit in enumerate(units):
        inside[find_root(root, unit.counts[0][0])].append(position)
    return [Component(classes[key], inside[key]) for key in classes]


def find_root(root: list[int], index: int) -> int:
    """The representative of a set in a union-find forest; shortens the path on the way."""
    while root[index] != index:
        root[index] = index = root[root[index]]
    return index
