"""Assigning samples to splits: stratified by class, grouped, and reproducible by anybody.

How ``assign`` works. A *unit* is what must stay together: a group, or a sample that has none.

1. Every unit gets a rank, SHA-256 of the seed and its name. Nothing else is random, so Python, NumPy,
   machine and the order of files play no split, and a new sample leaves the ranks of old ones alone.
2. Every class gets a whole number of samples per split, floor or ceiling of the exact one, the totals
   of the splits as near as that allows (controlled rounding; Cox, JASA 82, 1987).
3. Class by class, the rarest first (Sechidis et al., ECML PKDD 2011), the units fill the splits in rank
   order: a unit goes where its middle falls. Shares are cut cumulatively, so a class misses its exact
   count by at most its largest unit, whatever the number of splits (units of one class).
4. Only where a class is off by more than the slack are units moved or swapped; where that is all the
   same, so that the class is in every split. The slack, 0.2 % of all samples or 1 % of the class, buys
   stability: following every single sample would move whole groups each time that a file is added. Up
   to 12 units have no slack: all placings are tried.
5. A split that is left without any sample gets the unit that costs least, if it keeps to that bound.

A class with a single unit goes to the largest split. All counting is in whole numbers: a deviation
``count - exact`` is kept times the common denominator of the shares, so no rounding can differ.

Needs nothing but the standard library. Does not read or write anything.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from numbers import Integral, Real
from typing import Any

from pipeline.errors import ConfigError, some
from pipeline.split.quotas import fill, quotas
from pipeline.split.refine import occupy, repair
from pipeline.split.units import Unit, components, make_aims, make_units

Labels = Sequence[str] | Sequence[int]


def assign(
    ids: Sequence[str],
    labels: Labels,
    groups: Sequence[str | None] | None = None,
    *,
    fractions: Mapping[str, float],
    seed: int = 0,
) -> dict[str, list[str]]:
    """Assign ids to disjoint splits, stratified by label, no group in two of them; each split is sorted.

    Without groups every class is within 1 of ``fraction * samples`` in every split. A group that is
    None or "" means that the sample has none. The result depends on the set of (id, label, group),
    the fractions and the seed alone. Raises ConfigError for arguments that make no sense.

    Examples:
        >>> assign(["a", "b", "c", "d"], [0, 0, 1, 1], fractions={"train": 0.5, "val": 0.5})
        {'train': ['b', 'd'], 'val': ['a', 'c']}
    """
    names, shares = whole_shares(fractions)
    _check_samples(ids, labels, groups, seed)
    classes = {label: index for index, label in enumerate(sorted({str(label) for label in labels}))}
    units = make_units(
        ids, [classes[str(label)] for label in labels], [None] * len(ids) if groups is None else groups, seed
    )
    assigned: dict[str, list[str]] = {name: [] for name in fractions}
    for unit, split in zip(units, _place(units, len(classes), shares), strict=True):
        assigned[names[split]].extend(unit.ids)
    return {name: sorted(ids) for name, ids in assigned.items()}


def equal_folds(folds: int) -> dict[str, float]:
    """Fractions of ``folds`` equal splits: fold-0, fold-1, …"""
    if folds < 2:
        raise ConfigError.of("split", "folds", f"{folds} folds cannot be made", "ask for 2 or more")
    return {f"fold-{index}": 1 / folds for index in range(folds)}


def whole_shares(fractions: Mapping[str, float]) -> tuple[list[str], list[int]]:
    """Names, largest share first, and their shares as whole numbers: 0.8, 0.2 → [4, 1]."""
    exact = {name: _share(name, value) for name, value in fractions.items()}
    total = sum(exact.values(), Fraction(0))
    if len(exact) < 2 or abs(total - 1) > Fraction(1, 10**9):
        reason = f"the fractions of {len(exact)} splits sum to {float(total):.10g}"
        raise ConfigError.of("split", "fractions", reason, "name two or more splits whose fractions sum to 1")
    names = sorted(exact, key=lambda name: (-exact[name], name))
    denominator = math.lcm(*(exact[name].denominator for name in names))
    whole = [int(exact[name] * denominator) for name in names]
    return names, [share // math.gcd(*whole) for share in whole]


def _share(name: str, value: object) -> Fraction:
    """The decimal number that the user wrote, not its binary neighbour."""
    number = isinstance(value, Real | Decimal) and not isinstance(value, bool)
    if not (number and math.isfinite(float(value)) and value > 0 and isinstance(name, str) and name):  # type: ignore[arg-type,operator]
        reason = f"the fraction of split {name!r} is {value!r}"
        raise ConfigError.of("split", "fractions", reason, "give every split a name and a number above 0")
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


def _place(units: list[Unit], classes: int, shares: list[int]) -> list[int]:
    """Part of every unit."""
    plan = make_aims(units, classes, shares)
    rows = quotas(plan.sizes, shares)
    where = [0] * len(units)
    for component in components(units, plan):
        fill(units, component, plan, rows, where)
        if any(plan.largest[index] > 1 for index in component.classes):
            repair(units, component, plan, where)
    occupy(units, plan, where)
    return where
