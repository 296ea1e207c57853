"""Drawing a split: stratified by class, grouped, and reproducible by anybody.

How ``assign`` draws. A *unit* is what must stay together: a group, or a sample that has none.

1. Every unit gets a rank, SHA-256 of the seed and its name. Nothing else is random, so Python, NumPy,
   machine and the order of files play no part, and a new sample leaves the ranks of old ones alone.
2. Every class gets a whole number of samples per part, floor or ceiling of the exact one, the totals
   of the parts as near as that allows (controlled rounding; Cox, JASA 82, 1987).
3. Class by class, the rarest first (Sechidis et al., ECML PKDD 2011), the units fill the parts in rank
   order: a unit goes where its middle falls. Shares are cut cumulatively, so a class misses its exact
   count by at most its largest unit, whatever the number of parts (units of one class).
4. Only where a class is off by more than the slack are units moved or swapped; where that is all the
   same, so that the class is in every part. The slack, 0.2 % of all samples or 1 % of the class, buys
   stability: following every single sample would move whole groups each time that a file is added. Up
   to 12 units have no slack: all placings are tried.
5. A part that is left without any sample gets the unit that costs least, if it keeps to that bound.

A class with a single unit goes to the largest part. All counting is in whole numbers: a deviation
``count - exact`` is kept times the common denominator of the shares, so no rounding can differ.

Needs nothing but the standard library. Does not read or write anything.
"""

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from itertools import accumulate, combinations, islice, permutations
from numbers import Integral, Real
from typing import Any, NamedTuple

from pipeline.errors import ConfigError, some

EXHAUSTIVE_UNITS = 12
SEARCH_NODES = 20_000
SEARCH_TRIALS = 40_000
SWAP_CANDIDATES = 96
CHOICE = 256

Labels = Sequence[str] | Sequence[int]


def assign(
    ids: Sequence[str],
    labels: Labels,
    groups: Sequence[str | None] | None = None,
    *,
    fractions: Mapping[str, float],
    seed: int = 0,
) -> dict[str, list[str]]:
    """Draw disjoint parts, stratified by label, no group in two of them; ids of a part are sorted.

    Without groups every class is within 1 of ``fraction * samples`` in every part. A group that is
    None or "" means that the sample has none. The result depends on the set of (id, label, group),
    the fractions and the seed alone. Raises ConfigError for arguments that make no sense.

    >>> assign(["a", "b", "c", "d"], [0, 0, 1, 1], fractions={"train": 0.5, "val": 0.5})
    {'train': ['b', 'd'], 'val': ['a', 'c']}
    """
    names, shares = whole_shares(fractions)
    _check_samples(ids, labels, groups, seed)
    classes = {label: index for index, label in enumerate(sorted({str(label) for label in labels}))}
    units = _units(
        ids, [classes[str(label)] for label in labels], [None] * len(ids) if groups is None else groups, seed
    )
    drawn: dict[str, list[str]] = {name: [] for name in fractions}
    for unit, part in zip(units, _draw(units, len(classes), shares), strict=True):
        drawn[names[part]].extend(unit.ids)
    return {name: sorted(part) for name, part in drawn.items()}


def equal_folds(folds: int) -> dict[str, float]:
    """Fractions of ``folds`` equal parts: fold-0, fold-1, …"""
    if folds < 2:
        raise ConfigError.of("split", "folds", f"{folds} folds cannot be drawn", "ask for 2 or more")
    return {f"fold-{index}": 1 / folds for index in range(folds)}


class _Unit(NamedTuple):
    """What stays together; ``counts`` is its (class, samples) pairs."""

    rank: bytes
    ids: list[str]
    counts: tuple[tuple[int, int], ...]


def whole_shares(fractions: Mapping[str, float]) -> tuple[list[str], list[int]]:
    """Names, largest share first, and their shares as whole numbers: 0.8, 0.2 → [4, 1]."""
    exact = {name: _share(name, value) for name, value in fractions.items()}
    total = sum(exact.values(), Fraction(0))
    if len(exact) < 2 or abs(total - 1) > Fraction(1, 10**9):
        reason = f"the fractions of {len(exact)} part(s) sum to {float(total):.10g}"
        raise ConfigError.of("split", "fractions", reason, "name two or more parts whose fractions sum to 1")
    names = sorted(exact, key=lambda name: (-exact[name], name))
    denominator = math.lcm(*(exact[name].denominator for name in names))
    whole = [int(exact[name] * denominator) for name in names]
    return names, [share // math.gcd(*whole) for share in whole]


def _share(name: str, value: object) -> Fraction:
    """The decimal number that the user wrote, not its binary neighbour."""
    number = isinstance(value, Real | Decimal) and not isinstance(value, bool)
    if not (number and math.isfinite(float(value)) and value > 0 and isinstance(name, str) and name):  # type: ignore[arg-type,operator]
        reason = f"the fraction of part {name!r} is {value!r}"
        raise ConfigError.of("split", "fractions", reason, "give every part a name and a number above 0")
    return Fraction(str(value))


def _check_samples(
    ids: Sequence[str], labels: Labels, groups: Sequence[str | None] | None, seed: int
) -> None:
    lengths = {len(ids), len(labels), len(ids if groups is None else groups)}
    if len(lengths) > 1:
        reason = f"{len(ids)} ids, {len(labels)} labels, {len(groups or [])} groups"
        raise ConfigError.of("split", "lengths-differ", reason, "give one label and one group per id")
    if len(ids) == 0:
        raise ConfigError.of("split", "no-samples", "there is nothing to split", "build the store first")
    named = [] if groups is None else groups
    wrong = (
        _not(ids, str)
        + _not(labels, str | Integral)
        + _not(named, str | Integral | None)
        + _not([seed], Integral)
    )
    wrong += ["''"] if "" in ids else []
    if wrong:
        remedy = "ids are text; labels, groups and the seed text or whole numbers"
        raise ConfigError.of("split", "types", some(wrong, "value"), remedy)
    twice = sorted(str(name) for name, count in Counter(ids).items() if count > 1)
    if twice:
        raise ConfigError.of("split", "duplicate-ids", some(twice, "id"), "give every sample its own id")


def _not(values: Sequence[Any], kinds: Any) -> list[str]:
    """Those of another kind; looks at each only if one is."""
    sound = all(issubclass(kind, kinds) for kind in set(map(type, values)))
    return [] if sound else [repr(value) for value in values if not isinstance(value, kinds)]


def _units(ids: Sequence[str], classes: list[int], groups: Sequence[str | None], seed: int) -> list[_Unit]:
    """Units in the order of their ranks."""
    members: defaultdict[str, list[int]] = defaultdict(list)
    for index, (sample, group) in enumerate(zip(ids, groups, strict=True)):
        members[f"sample {sample}" if group is None or group == "" else f"group {group}"].append(index)
    lone = {index: ((index, 1),) for index in set(classes)}
    return sorted(
        _Unit(
            hashlib.sha256(f"{seed} {name}".encode("utf-8", "surrogatepass")).digest(),
            [str(ids[index]) for index in inside],
            lone[classes[inside[0]]] if len(inside) == 1 else _counted(classes[index] for index in inside),
        )
        for name, inside in members.items()
    )


def _counted(classes: Iterable[int]) -> tuple[tuple[int, int], ...]:
    return tuple(sorted(Counter(classes).items()))


@dataclass(frozen=True)
class _Plan:
    """What a draw aims at. Deviations and limits are in samples times ``scale``."""

    shares: list[int]
    scale: int
    sizes: list[int]  # samples per class
    units: list[int]  # units per class
    largest: list[int]  # samples of the class in its largest unit
    slack: list[int]  # how far a class may be off before units are moved for it
    step: int  # more than all distances can sum to
    gap_step: int  # more than all gaps can sum to

    def exact(self, index: int) -> list[int]:
        """Samples of a class per part, times scale."""
        return [self.sizes[index] * share for share in self.shares]

    def cost(self, index: int, row: Sequence[int]) -> int:
        """How bad the deviations of one class are: past the bound, then distance, then parts without it."""
        bound = self.largest[index] * self.scale
        past, off, filled = 0, 0, 0
        for deviation, share in zip(row, self.shares, strict=True):
            distance = abs(deviation)
            past += max(0, distance - bound)
            off += max(0, distance - self.slack[index])
            filled += deviation != -self.sizes[index] * share
        gaps = max(0, min(len(row), self.units[index]) - filled)
        return gaps + self.gap_step * (off + self.step * past)


def _plan(units: list[_Unit], classes: int, shares: list[int]) -> _Plan:
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
    return _Plan(shares, scale, sizes, held, largest, slack, step, gap_step)


def _draw(units: list[_Unit], classes: int, shares: list[int]) -> list[int]:
    """Part of every unit."""
    plan = _plan(units, classes, shares)
    quotas = _quotas(plan.sizes, shares)
    where = [0] * len(units)
    for component in _components(units, plan):
        _fill(units, component, plan, quotas, where)
        if any(plan.largest[index] > 1 for index in component.classes):
            _repair(units, component, plan, where)
    _occupy(units, plan, where)
    return where


# Controlled rounding of (class, part) ------------------------------------------------------------


def _quotas(sizes: list[int], shares: list[int]) -> list[list[int]]:
    """Whole samples per class and part: floor or ceiling of the exact number, totals near theirs."""
    rows = [_round_row(size, shares) for size in sizes]
    pairs = list(permutations(range(len(shares)), 2))
    while any(_level(rows, sizes, shares, pair) for pair in pairs):
        pass
    return rows


def _round_row(size: int, shares: list[int]) -> list[int]:
    """Floors, then one more for the parts that have none yet, then for those with the largest remainders."""
    if size == 1:
        return [1] + [0] * (len(shares) - 1)
    scale = sum(shares)
    row = [size * share // scale for share in shares]
    order = sorted(range(len(shares)), key=lambda part: (row[part] > 0, -(size * shares[part] % scale), part))
    for part in order[: size - sum(row)]:
        row[part] += 1
    return row


def _level(rows: list[list[int]], sizes: list[int], shares: list[int], pair: tuple[int, int]) -> bool:
    """Turn the roundings that lose least, so that two parts' totals come nearer; say if any turned."""
    scale, total = sum(shares), sum(sizes)
    over, under = (sum(row[part] for row in rows) * scale - total * shares[part] for part in pair)
    turns = (over - under + scale - 1) // (2 * scale)
    if turns < 1:
        return False
    high, low = pair
    can = []
    for index, (row, size) in enumerate(zip(rows, sizes, strict=True)):
        floor_high, rest_high = divmod(size * shares[high], scale)
        floor_low, rest_low = divmod(size * shares[low], scale)
        empties = floor_high == 0 and floor_low > 0
        if size > 1 and row[high] > floor_high and row[low] == floor_low and rest_low and not empties:
            can.append((rest_high - rest_low, index))
    for _, index in sorted(can)[:turns]:
        rows[index][high] -= 1
        rows[index][low] += 1
    return bool(can)


# Filling in rank order ---------------------------------------------------------------------------


class _Component(NamedTuple):
    """Classes, the rarest first, that share units directly or by a chain; no others touch these units."""

    classes: list[int]
    units: list[int]


def _components(units: list[_Unit], plan: _Plan) -> list[_Component]:
    root = list(range(len(plan.sizes)))
    for counts in {unit.counts for unit in units if len(unit.counts) > 1}:
        for index, _ in counts[1:]:
            root[find_root(root, index)] = find_root(root, counts[0][0])
    classes, inside = defaultdict(list), defaultdict(list)
    for index in sorted(range(len(root)), key=lambda index: (plan.units[index], index)):
        classes[find_root(root, index)].append(index)
    for position, unit in enumerate(units):
        inside[find_root(root, unit.counts[0][0])].append(position)
    return [_Component(classes[key], inside[key]) for key in classes]


def find_root(root: list[int], index: int) -> int:
    """The representative of a set in a union-find forest; shortens the path on the way."""
    while root[index] != index:
        root[index] = index = root[root[index]]
    return index


def _fill(
    units: list[_Unit], component: _Component, plan: _Plan, quotas: list[list[int]], where: list[int]
) -> None:
    """Lay the units of each class along its shares, in rank order."""
    lead = {index: order for order, index in enumerate(component.classes)}
    led: defaultdict[int, list[int]] = defaultdict(list)
    for position in component.units:
        led[min((index for index, _ in units[position].counts), key=lead.__getitem__)].append(position)
    placed = [[0] * len(plan.shares) for _ in component.classes]
    for order, index in enumerate(component.classes):
        aims = _aims(plan, quotas, index)
        cuts = list(
            accumulate(aim - plan.scale * done for aim, done in zip(aims, placed[order], strict=True))
        )
        _cut(units, led[index], index, cuts, plan.scale, where)
        for position in led[index]:
            for other, count in units[position].counts:
                placed[lead[other]][where[position]] += count


def _aims(plan: _Plan, quotas: list[list[int]], index: int) -> list[int]:
    """Quotas for lone samples; for groups the exact numbers, for which the bound of step 3 holds."""
    if plan.units[index] == 1:
        return [plan.sizes[index] * plan.scale] + [0] * (len(plan.shares) - 1)
    if plan.largest[index] == 1:
        return [quota * plan.scale for quota in quotas[index]]
    return plan.exact(index)


def _cut(
    units: list[_Unit], order: list[int], index: int, cuts: list[int], scale: int, where: list[int]
) -> None:
    """Give every unit the first part whose cut lies beyond the unit's middle (all doubled, to stay whole)."""
    done = part = 0
    for position in order:
        count = dict(units[position].counts)[index]
        while part < len(cuts) - 1 and (2 * done + count) * scale > 2 * cuts[part]:
            part += 1
        where[position] = part
        done += count


# Repair ------------------------------------------------------------------------------------------

Moves = Sequence[tuple[int, int]]  # (unit, part it goes to)


@dataclass
class _Draft:
    """The units of one component, where they are, and how far each class is from exact in each part."""

    units: list[_Unit]
    plan: _Plan
    where: list[int]
    rows: dict[int, list[int]]

    def cost(self) -> int:
        return sum(self.plan.cost(index, row) for index, row in self.rows.items())

    def add(self, unit: int, part: int, *, sign: int = 1) -> None:
        for index, count in self.units[unit].counts:
            self.rows[index][part] += sign * count * self.plan.scale

    def move(self, moves: Moves) -> Moves:
        """Move units; return the moves that undo it."""
        back = [(unit, self.where[unit]) for unit, _ in moves]
        for unit, part in moves:
            self.add(unit, self.where[unit], sign=-1)
            self.add(unit, part)
            self.where[unit] = part
        return back

    def gain(self, moves: Moves) -> int:
        """By how much moving units would lower the cost."""
        touched = {index for unit, _ in moves for index, _ in self.units[unit].counts}
        before = sum(self.plan.cost(index, self.rows[index]) for index in touched)
        back = self.move(moves)
        after = sum(self.plan.cost(index, self.rows[index]) for index in touched)
        self.move(back)
        return before - after

    def least(self) -> int:
        """What placing more units must cost: what is too much now stays so, and lacks elsewhere."""
        slack = self.plan.slack
        over = sum(max(0, deviation - slack[index]) for index, row in self.rows.items() for deviation in row)
        return self.plan.gap_step * (over if any(slack) else 2 * over)


def _repair(units: list[_Unit], component: _Component, plan: _Plan, where: list[int]) -> None:
    """Move and swap units where a class is off; try all placings of up to 12 units."""
    draft = _draft(units, component, plan, where)
    free = [unit for unit in component.units if not _pinned(units[unit], plan)]
    _descend(draft, free)
    if len(free) <= EXHAUSTIVE_UNITS and draft.cost():
        _search(draft, free)


def _draft(units: list[_Unit], component: _Component, plan: _Plan, where: list[int]) -> _Draft:
    rows = {index: [-exact for exact in plan.exact(index)] for index in component.classes}
    draft = _Draft(units, plan, where, rows)
    for unit in component.units:
        draft.add(unit, where[unit])
    return draft


def _occupy(units: list[_Unit], plan: _Plan, where: list[int]) -> None:
    """Give every empty part a unit of a part that has several, at the least cost, within the bound."""
    held = Counter(where)
    empty = [part for part in range(len(plan.shares)) if not held[part]]
    if not empty:
        return
    draft = _draft(units, _Component(list(range(len(plan.sizes))), list(range(len(units)))), plan, where)
    for part in empty:
        spare = [n for n, unit in enumerate(units) if held[where[n]] > 1 and not _pinned(unit, plan)]
        gains = {unit: draft.gain([(unit, part)]) for unit in spare}
        unit = max(spare, key=gains.__getitem__, default=-1)
        if spare and gains[unit] > -plan.gap_step * plan.step:
            held[where[unit]] -= 1
            draft.move([(unit, part)])


def _pinned(unit: _Unit, plan: _Plan) -> bool:
    """True for the only unit of a class: the largest part gets it."""
    return any(plan.units[index] == 1 for index, _ in unit.counts)


def _descend(draft: _Draft, free: list[int]) -> None:
    """Take moves that help, swaps only when no move does, until all is well or the trials are used up."""
    trials = iter(range(SEARCH_TRIALS))
    while draft.cost() and (
        _take(draft, _moves(draft, free), trials) or _take(draft, _swaps(draft, free), trials)
    ):
        pass


def _take(draft: _Draft, candidates: Iterator[Moves], trials: Iterator[int]) -> bool:
    """Make the best of every few candidates if it helps, until nothing is off; say if any helped."""
    helped = False
    while few := [moves for moves, _ in zip(islice(candidates, CHOICE), trials, strict=False)]:
        best = max(few, key=draft.gain)
        if draft.gain(best) > 0:
            draft.move(best)
            helped = True
            if not draft.cost():
                break
    return helped


def _moves(draft: _Draft, free: list[int]) -> Iterator[Moves]:
    for unit in free:
        for part in range(len(draft.plan.shares)):
            if part != draft.where[unit]:
                yield [(unit, part)]


def _swaps(draft: _Draft, free: list[int]) -> Iterator[Moves]:
    """Pairs in different parts; units of the same classes and sizes in the same part stand for each other."""
    kinds = {(draft.where[unit], draft.units[unit].counts): unit for unit in free}
    for one, other in combinations(list(kinds.values())[:SWAP_CANDIDATES], 2):
        if draft.where[one] != draft.where[other]:
            yield [(one, draft.where[other]), (other, draft.where[one])]


def _search(draft: _Draft, free: list[int]) -> None:
    """Find the cheapest placing of the free units by branch and bound, the large units first."""
    order = sorted(free, key=lambda unit: -len(draft.units[unit].ids))
    parts = range(len(draft.plan.shares))
    best, placing = draft.cost(), [draft.where[unit] for unit in order]
    tried, nodes = list(placing), iter(range(SEARCH_NODES))

    def place(depth: int) -> None:
        nonlocal best, placing
        if draft.least() >= best or next(nodes, None) is None:
            return
        if depth == len(order):
            cost = draft.cost()
            best, placing = (cost, list(tried)) if cost < best else (best, placing)
            return
        first = draft.units[order[depth]].rank[0]  # where to begin is part of the draw, too
        for part in parts:
            tried[depth] = (first + part) % len(parts)
            draft.add(order[depth], tried[depth])
            place(depth + 1)
            draft.add(order[depth], tried[depth], sign=-1)

    for unit in order:
        draft.add(unit, draft.where[unit], sign=-1)
    place(0)
    for unit, part in zip(order, placing, strict=True):
        draft.where[unit] = part
        draft.add(unit, part)
