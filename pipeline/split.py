"""Splits that anyone can reproduce and nobody can leak through, bound to a store.

How ``assign`` draws. A *unit* is what must stay together: a group, or a sample that has none.

1. Every unit gets a rank, SHA-256 of the seed and its name. Nothing else is random, so Python, NumPy,
   machine and the order of files play no part, and a new sample leaves the ranks of old ones alone.
2. Every class gets a whole number of samples per part, floor or ceiling of the exact one, the totals
   of the parts as near as that allows (controlled rounding; Cox, JASA 82, 1987).
3. Class by class, the rarest first (Sechidis et al., ECML PKDD 2011), the units fill the parts in rank
   order: a unit goes where its middle falls. Shares are cut cumulatively, so a class misses its exact
   count by at most its largest unit, whatever the number of parts (units of one class).
4. Only where a class misses a part, or is off by more than the slack, are units moved or swapped. The
   slack, 0.2 % of all samples or 1 % of the class, buys stability: following every single sample would
   move whole groups each time that a file is added. Up to 12 units have no slack: all placings are tried.

A class with a single unit goes to the largest part. All counting is in whole numbers: a deviation
``count - exact`` is kept times the common denominator of the shares, so no rounding can differ.

Statistics come from the train part alone. Files, ours and those of others, are in ``split_formats``;
volumes are not read here (``viptt verify`` does that).
"""

import hashlib
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from itertools import accumulate, combinations, islice, permutations
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.errors import ConfigError, IntegrityError, Problem
from pipeline.split_formats import (
    REDRAW,
    TEST,
    TRAIN,
    VAL,
    Parts,
    Split,
    class_weights,
    export_split,
    format_of,
    id_problems,
    read_lists,
    read_split,
    some,
    train_part,
    write_split,
)

if TYPE_CHECKING:  # `assign` and the file need nothing but the standard library
    from pipeline.store import Row, Store

__all__ = [
    "METHODS",
    "Split",
    "assign",
    "check_split",
    "choose_fold",
    "equal_folds",
    "export_split",
    "given_split",
    "import_split",
    "make_split",
    "read_split",
    "require_store",
    "split_table",
    "write_split",
]

GROUPED = "stratified-grouped-hash-1"
PLAIN = "stratified-hash-1"
PAPER = "viptt-2021"
GIVEN = "given"
METHODS = (GROUPED, PLAIN, PAPER)

EXHAUSTIVE_UNITS = 12
SEARCH_NODES = 20_000
SEARCH_TRIALS = 40_000
SWAP_CANDIDATES = 96
CHOICE = 256

Labels = Sequence[str] | Sequence[int]


# --- drawing ------------------------------------------------------------------------------------


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
    names, shares = _shares(fractions)
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


def _shares(fractions: Mapping[str, float]) -> tuple[list[str], list[int]]:
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

    def exact(self, index: int) -> list[int]:
        """Samples of a class per part, times scale."""
        return [self.sizes[index] * share for share in self.shares]

    def cost(self, index: int, row: Sequence[int]) -> int:
        """How bad the deviations of one class are: past the bound, then parts without it, then distance."""
        bound = self.largest[index] * self.scale
        past, off, filled = 0, 0, 0
        for deviation, share in zip(row, self.shares, strict=True):
            distance = abs(deviation)
            past += max(0, distance - bound)
            off += max(0, distance - self.slack[index])
            filled += deviation != -self.sizes[index] * share
        gaps = max(0, min(len(row), self.units[index]) - filled)
        return off + self.step * (gaps + past * len(row) * (len(self.sizes) + 1))


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
    return _Plan(shares, scale, sizes, held, largest, slack, 2 * sum(sizes) * scale + 1)


def _draw(units: list[_Unit], classes: int, shares: list[int]) -> list[int]:
    """Part of every unit."""
    plan = _plan(units, classes, shares)
    quotas = _quotas(plan.sizes, shares)
    where = [0] * len(units)
    for component in _components(units, plan):
        _fill(units, component, plan, quotas, where)
        if any(plan.largest[index] > 1 for index in component.classes):
            _repair(units, component, plan, where)
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
            root[_find(root, index)] = _find(root, counts[0][0])
    classes, inside = defaultdict(list), defaultdict(list)
    for index in sorted(range(len(root)), key=lambda index: (plan.units[index], index)):
        classes[_find(root, index)].append(index)
    for position, unit in enumerate(units):
        inside[_find(root, unit.counts[0][0])].append(position)
    return [_Component(classes[key], inside[key]) for key in classes]


def _find(root: list[int], index: int) -> int:
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
        return over if any(slack) else 2 * over


def _repair(units: list[_Unit], component: _Component, plan: _Plan, where: list[int]) -> None:
    """Move and swap units where a class is off; try all placings of up to 12 units."""
    rows = {index: [-exact for exact in plan.exact(index)] for index in component.classes}
    draft = _Draft(units, plan, where, rows)
    for unit in component.units:
        draft.add(unit, where[unit])
    free = [unit for unit in component.units if not _pinned(units[unit], plan)]
    _descend(draft, free)
    if len(free) <= EXHAUSTIVE_UNITS and draft.cost():
        _search(draft, free)


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


# --- a split ------------------------------------------------------------------------------------


def make_split(
    store: "Store",
    *,
    fractions: Mapping[str, float],
    seed: int = 0,
    method: str | None = None,
    grouped: bool = True,
    frozen: Split | None = None,
) -> Split:
    """Draw a split of a store.

    Samples with the same bytes (of source or volume) are kept together like a group. ``grouped=False``
    ignores the groups, and the split says what leaks. The ``test`` part of ``frozen`` is kept as it is
    and the other parts are drawn from the rest; siblings of its samples that came later are excluded.
    """
    method = method or (GROUPED if grouped and any(row.group for row in store.rows) else PLAIN)
    if method not in METHODS:
        reason = f"the method {method!r} is not known"
        raise ConfigError.of(store.header.dataset, "split-method", reason, f"use one of {', '.join(METHODS)}")
    units = _bound(store.rows, grouped=method == GROUPED)
    kept = _frozen_test(store, frozen)
    tied = {units[sample] for sample in kept}
    rows = [row for row in store.rows if units[row.id] not in tied]
    excluded = [row.id for row in store.rows if units[row.id] in tied and row.id not in kept]
    if not kept:
        drawn = _drawn(rows, units, method, fractions, seed)
        return _described(store, drawn, method=method, seed=seed, fractions=fractions)
    fractions, shares = _fractions_beside(fractions, len(kept) / len(store.rows))
    beside: Parts = {**_drawn(rows, units, method, shares, seed), TEST: kept}
    return _described(store, beside, method=method, seed=seed, fractions=fractions, excluded=excluded)


def given_split(
    store: "Store", parts: Parts, *, method: str = GIVEN, seed: int = 0, excluded: Sequence[str] = ()
) -> Split:
    """Take parts that somebody else drew, in their order; the fractions are what they turn out to be.

    Raises IntegrityError for ids that the store lacks, or that are in two parts.
    """
    total = sum(map(len, parts.values()))
    if not total:
        raise IntegrityError.of(
            store.header.dataset, "split-empty", "no part holds a sample", "give the lists of ids"
        )
    fractions = {name: len(ids) / total for name, ids in parts.items()}
    problems = id_problems(store.header.dataset, parts) + _unknown(store, parts, store.header.dataset)
    if problems:
        raise IntegrityError(*problems)
    return _described(store, parts, method=method, seed=seed, fractions=fractions, excluded=excluded)


def import_split(path: Path | str, store: "Store", *, fold: int | None = None) -> Split:
    """Take the parts from any file that ``split_formats`` reads, or from our own after an edit by hand."""
    path = Path(path)
    if format_of(path) == "json":
        edited = read_split(path, edited=True)
        return given_split(store, edited.parts, seed=edited.seed, excluded=edited.excluded)
    return given_split(store, read_lists(path, store, fold=fold))


def choose_fold(split: Split, index: int) -> Split:
    """Make a split of folds one of train and val: fold ``index`` validates, the others train, test stays."""
    folds = [name for name in split.parts if re.fullmatch(r"fold-\d+", name)]
    val = f"fold-{index}"
    if val not in folds:
        reason = f"there is no {val} among {', '.join(split.parts)}"
        raise ConfigError.of(split.dataset, "no-such-fold", reason, "draw folds with `viptt split --folds K`")
    rest = [name for name in folds if name != val]
    others = {name: name for name in split.parts if name not in folds}
    counts = sum((Counter(split.counts[name]) for name in rest), Counter())
    trained = {name: counts[name] for name in split.counts[val]}
    merged = {TRAIN: sorted(sample for name in rest for sample in split.parts[name]), VAL: split.parts[val]}
    names = {VAL: val, **others}
    return replace(
        split,
        fractions={TRAIN: sum(split.fractions[name] for name in rest)} | _renamed(split.fractions, names),
        parts={name: tuple(ids) for name, ids in merged.items()} | _renamed(split.parts, others),
        counts={TRAIN: trained} | _renamed(split.counts, names),
        class_weights=class_weights(trained),
        groups={TRAIN: sum(split.groups.get(name, 0) for name in rest)} | _renamed(split.groups, names),
        leaked={TRAIN: 0} | _renamed(split.leaked, names),
    )


def _renamed(values: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """`values` under new names (new → old)."""
    return {new: values[old] for new, old in names.items() if old in values}


LONE = "sample "


def _bound(rows: "Sequence[Row]", *, grouped: bool) -> dict[str, str]:
    """Sample → the unit it must stay in: its group, and all samples with the same bytes."""
    number: dict[str, int] = {}
    root: list[int] = []
    for row in rows:
        keys = [f"source {row.source_sha256}", f"volume {row.sha256}", f"group {row.group}"]
        places = [number.setdefault(key, len(number)) for key in keys[: 3 if grouped and row.group else 2]]
        root.extend(range(len(root), len(number)))
        for place in places[1:]:
            root[_find(root, place)] = _find(root, places[0])
    units: defaultdict[int, list[Row]] = defaultdict(list)
    for row in rows:
        units[_find(root, number[f"volume {row.sha256}"])].append(row)
    return {row.id: name for unit in units.values() for name in [_unit_name(unit, grouped)] for row in unit}


def _unit_name(unit: "Sequence[Row]", grouped: bool) -> str:
    """The first group's name, so that a group keeps its rank whatever is added to it."""
    groups = [row.group for row in unit if grouped and row.group]
    if groups:
        return min(groups)
    return f"{LONE if len(unit) == 1 else 'same as '}{min(row.id for row in unit)}"


def _frozen_test(store: "Store", frozen: Split | None) -> tuple[str, ...]:
    kept = tuple(frozen.parts.get(TEST, ())) if frozen else ()
    gone = sorted(set(kept) - {row.id for row in store.rows})
    if gone:
        remedy = "bring them back, or remove the split file to draw a new test part"
        reason = f"the frozen test part has {some(gone, 'id')} that the store lacks"
        raise IntegrityError.of(store.header.dataset, "frozen-test-gone", reason, remedy)
    return kept


def _fractions_beside(
    fractions: Mapping[str, float], test: float
) -> tuple[dict[str, float], dict[str, float]]:
    """Fractions to record beside a frozen test part, and those for drawing the other parts."""
    _shares(fractions)
    others = {name: share for name, share in fractions.items() if name != TEST}
    if len(others) < len(fractions):
        return dict(fractions), {name: share / (1 - fractions[TEST]) for name, share in others.items()}
    return {name: share * (1 - test) for name, share in others.items()} | {TEST: test}, others


def _drawn(
    rows: "Sequence[Row]", units: Mapping[str, str], method: str, fractions: Mapping[str, float], seed: int
) -> dict[str, list[str]]:
    ids, labels = [row.id for row in rows], [row.label for row in rows]
    if method == PAPER:
        return _drawn_as_paper(ids, labels, fractions, seed)
    groups = [None if units[row.id].startswith(LONE) else units[row.id] for row in rows]
    return assign(ids, labels, groups, fractions=fractions, seed=seed)


def _drawn_as_paper(
    ids: list[str], labels: list[int], fractions: Mapping[str, float], seed: int
) -> dict[str, list[str]]:
    """scikit-learn's stratified split of the sorted ids, as ViPTT-Net's notebook drew it."""
    try:
        from sklearn.model_selection import train_test_split
    except ImportError:
        remedy = "run `pip install 'viptt[train]'`"
        raise ConfigError.of("split", "no-scikit-learn", f"{PAPER} needs scikit-learn", remedy) from None
    names, _ = _shares(fractions)
    if len(names) != 2:
        raise ConfigError.of(
            "split", "fractions", f"{PAPER} draws two parts", "name two parts, such as train and val"
        )
    samples = sorted(zip(ids, labels, strict=True))
    sizes = {
        "test_size": fractions[names[1]],
        "random_state": seed,
        "stratify": [label for _, label in samples],
    }
    try:
        pair = train_test_split([sample for sample, _ in samples], **sizes)
    except ValueError as error:
        raise ConfigError.of("split", "too-few-samples", str(error), f"use the method {GROUPED}") from None
    return {name: sorted(pair[names.index(name)]) for name in fractions}


# --- what a split says of itself ----------------------------------------------------------------


def _described(
    store: "Store",
    parts: Parts,
    *,
    method: str,
    seed: int,
    fractions: Mapping[str, float],
    excluded: Sequence[str] = (),
) -> Split:
    """Add to bare parts what can be counted in the store; parts come in the order of the fractions."""
    rows = {row.id: row for row in store.rows}
    inside = {name: [rows[sample] for sample in parts[name]] for name in fractions}
    counts = {name: _class_counts(part, store.header.classes) for name, part in inside.items()}
    split = Split(
        dataset=store.header.dataset,
        store_digest=store.digest,
        method=method,
        seed=int(seed),
        fractions={name: float(share) for name, share in fractions.items()},
        parts={name: tuple(parts[name]) for name in fractions},
        counts=counts,
        class_weights=class_weights(counts[train_part(fractions)]),
        groups={name: len({row.group or f"{LONE}{row.id}" for row in part}) for name, part in inside.items()},
        leaked=_leaked(inside),
        excluded=tuple(sorted(excluded)),
    )
    return replace(split, warnings=tuple(map(str, _warnings(split, store))))


def _class_counts(rows: "Iterable[Row]", classes: Sequence[str]) -> dict[str, int]:
    counted = Counter(row.label for row in rows)
    return {name: counted[index] for index, name in enumerate(classes)}


def _leaked(inside: "Mapping[str, Sequence[Row]]") -> dict[str, int]:
    """Samples per part with a sibling in train (or, where no part is called train, in any other)."""
    homes = {name: {row.group for row in part if row.group} for name, part in inside.items()}
    leaked = {}
    for name, part in inside.items():
        sides = [
            home for other, home in homes.items() if other != name and (other == TRAIN or TRAIN not in homes)
        ]
        beyond = set().union(*sides)
        leaked[name] = sum(row.group in beyond for row in part)
    return leaked


def _warnings(split: Split, store: "Store") -> list[Problem]:
    """Things to know that are no faults."""
    units: defaultdict[int, set[str]] = defaultdict(set)
    for row in store.rows:
        units[row.label].add(row.group if split.method == GROUPED and row.group else f"{LONE}{row.id}")
    lone = [store.header.classes[index] for index, held in sorted(units.items()) if len(held) == 1]
    found = [(name, leaked, len(split.parts[name])) for name, leaked in split.leaked.items() if leaked]
    where = f"{split.dataset} split"
    warnings = [
        Problem(
            where,
            "group-leak",
            f"{leaked} of {total} samples of {name} ({leaked / total:.1%}) have siblings on the other side",
            "expect scores that are too good; draw with groups",
        )
        for name, leaked, total in found
    ]
    if lone and split.method in METHODS:
        remedy = "collect more, or leave the class out"
        warnings.append(
            Problem(where, "lone-class", f"one sample or group only, kept whole: {', '.join(lone)}", remedy)
        )
    empty = [name for name, ids in split.parts.items() if not ids]
    if empty:
        warnings.append(
            Problem(where, "empty-part", f"no samples in {', '.join(empty)}", "give it a larger fraction")
        )
    if split.excluded:
        reason = f"left out as siblings of the frozen test part: {some(split.excluded, 'id')}"
        warnings.append(Problem(where, "excluded", reason, "draw a new test part to use them"))
    return warnings


def split_table(split: Split) -> str:
    """Classes by parts, with shares and groups, as text."""
    names = list(split.parts)
    total = max(1, sum(len(ids) for ids in split.parts.values()))
    rows = [["", *names]]
    for label in split.counts[names[0]]:
        held = sum(split.counts[name][label] for name in names)
        rows.append([label, *(_cell(split.counts[name][label], held) for name in names)])
    rows.append(["samples", *(_cell(len(split.parts[name]), total) for name in names)])
    rows.append(["groups", *(str(split.groups.get(name, "-")) for name in names)])
    if any(split.leaked.values()):
        rows.append(["leaked", *(_cell(split.leaked[name], len(split.parts[name])) for name in names)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(names) + 1)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows
    )


def _cell(count: int, total: int) -> str:
    return f"{count} {count / total:6.1%}" if total else f"{count}      -"


# --- checking against a store -------------------------------------------------------------------


def require_store(split: Split, store: "Store", *, where: object = "") -> None:
    """Raise IntegrityError if the split was drawn on another store, and say what changed."""
    problem = _other_store(split, store, str(where or f"{split.dataset} split"))
    if problem:
        raise IntegrityError(problem)


def check_split(split: Split, store: "Store", *, where: object = "") -> list[Problem]:
    """Everything that is wrong between a split and a store; an empty list if nothing is.

    Looks for another store, ids, groups and contents (source bytes, volume bytes) on two sides,
    samples in no part, unknown ids, and classes that a part lacks although it could have them.
    """
    place = str(where or f"{split.dataset} split")
    other = _other_store(split, store, place)
    problems = [other] if other else []
    problems += id_problems(place, split.parts) + _unknown(store, split.parts, place)
    problems += _in_no_part(split, store, place)
    homes = {sample: name for name, ids in split.parts.items() for sample in ids}
    rows = [row for row in store.rows if row.id in homes]
    problems += _straddling(rows, homes, place, "group-leak", "group", [row.group for row in rows])
    problems += _straddling(rows, homes, place, "content-leak", "source", [row.source_sha256 for row in rows])
    problems += _straddling(rows, homes, place, "content-leak", "volume", [row.sha256 for row in rows])
    return problems + _missing_classes(split, rows, homes, store.header.classes, place)


def _other_store(split: Split, store: "Store", where: str) -> Problem | None:
    if split.store_digest == store.digest:
        return None
    reason = f"it was drawn on another store; since then {_changes(split, store)}"
    return Problem(where, "other-store", reason, f"{REDRAW}, or use the store that it was drawn on")


def _changes(split: Split, store: "Store") -> str:
    listed = {sample for ids in split.parts.values() for sample in ids} | set(split.excluded)
    there = {row.id for row in store.rows}
    added, removed = sorted(there - listed), sorted(listed - there)
    said = [
        f"{verb} {some(found, 'sample')}" for verb, found in (("added", added), ("removed", removed)) if found
    ]
    if said:
        return "; ".join(said)
    rows = {row.id: row for row in store.rows}
    held = {
        name: _class_counts((rows[sample] for sample in ids), store.header.classes)
        for name, ids in split.parts.items()
    }
    relabelled = any(
        {k: n for k, n in held[name].items() if n} != {k: n for k, n in split.counts[name].items() if n}
        for name in held
    )
    return (
        "labels or classes changed"
        if relabelled
        else "recipe, groups or files changed (ids and labels did not)"
    )


def _unknown(store: "Store", parts: Parts, where: str) -> list[Problem]:
    there = {row.id for row in store.rows}
    unknown = sorted({sample for ids in parts.values() for sample in ids} - there)
    return [Problem(where, "unknown-id", f"the store lacks {some(unknown, 'id')}", REDRAW)] if unknown else []


def _in_no_part(split: Split, store: "Store", where: str) -> list[Problem]:
    listed = {sample for ids in split.parts.values() for sample in ids} | set(split.excluded)
    left = [row.id for row in store.rows if row.id not in listed]
    return [Problem(where, "in-no-part", f"no part has {some(left, 'id')}", REDRAW)] if left else []


def _straddling(
    rows: "Sequence[Row]", homes: Mapping[str, str], where: str, code: str, what: str, keys: Sequence[str]
) -> list[Problem]:
    """One problem for each key that is on two sides."""
    members: defaultdict[str, list[str]] = defaultdict(list)
    for row, key in zip(rows, keys, strict=True):
        members[key].append(row.id)
    problems = []
    for key, ids in sorted(members.items()):
        sides = sorted({homes[sample] for sample in ids})
        if key and len(sides) > 1:
            name = key if what == "group" else f"{key[:12]}…"
            reason = f"the {what} {name} is in {' and '.join(sides)}: {some(ids, 'id')}"
            problems.append(Problem(where, code, reason, f"draw with groups: {REDRAW}"))
    return problems


def _missing_classes(
    split: Split, rows: "Sequence[Row]", homes: Mapping[str, str], classes: Sequence[str], where: str
) -> list[Problem]:
    """Classes that a part lacks although they have the units for it."""
    units: defaultdict[int, set[str]] = defaultdict(set)
    for row in rows:
        units[row.label].add(row.group or f"{LONE}{row.id}")
    found = {(homes[row.id], row.label) for row in rows}
    problems = []
    for name, share in split.fractions.items():
        enough = [
            index
            for index, held in units.items()
            if len(held) > 1 and (len(split.parts) == 2 or len(held) * share >= 1)
        ]
        lacking = [classes[index] for index in sorted(enough) if (name, index) not in found]
        if lacking:
            problems.append(Problem(where, "class-missing", f"{name} has no {', '.join(lacking)}", REDRAW))
    return problems
