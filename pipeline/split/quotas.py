"""Whole numbers of samples per class and split by controlled rounding, and units laid along them."""

from collections import defaultdict
from itertools import accumulate, permutations

from pipeline.split.units import Aims, Component, Unit


def quotas(sizes: list[int], shares: list[int]) -> list[list[int]]:
    """Whole samples per class and split: floor or ceiling of the exact number, totals near theirs."""
    rows = [_round_row(size, shares) for size in sizes]
    pairs = list(permutations(range(len(shares)), 2))
    while any(_level(rows, sizes, shares, pair) for pair in pairs):
        pass
    return rows


def _round_row(size: int, shares: list[int]) -> list[int]:
    """Floors, then one more for the splits that have none yet, then for those with the largest remainders."""
    if size == 1:
        return [1] + [0] * (len(shares) - 1)
    scale = sum(shares)
    row = [size * share // scale for share in shares]
    order = sorted(
        range(len(shares)), key=lambda split: (row[split] > 0, -(size * shares[split] % scale), split)
    )
    for split in order[: size - sum(row)]:
        row[split] += 1
    return row


def _level(rows: list[list[int]], sizes: list[int], shares: list[int], pair: tuple[int, int]) -> bool:
    """Turn the roundings that lose least, so that two splits' totals come nearer; say if any turned."""
    scale, total = sum(shares), sum(sizes)
    over, under = (sum(row[split] for row in rows) * scale - total * shares[split] for split in pair)
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


def fill(
    units: list[Unit], component: Component, plan: Aims, quotas: list[list[int]], where: list[int]
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


def _aims(plan: Aims, quotas: list[list[int]], index: int) -> list[int]:
    """Quotas for lone samples; for groups the exact numbers, for which the bound of step 3 holds."""
    if plan.units[index] == 1:
        return [plan.sizes[index] * plan.scale] + [0] * (len(plan.shares) - 1)
    if plan.largest[index] == 1:
        return [quota * plan.scale for quota in quotas[index]]
    return plan.exact(index)


def _cut(
    units: list[Unit], order: list[int], index: int, cuts: list[int], scale: int, where: list[int]
) -> None:
    """Give every unit the first split whose cut lies beyond the unit's middle (doubled, to stay whole)."""
    done = split = 0
    for position in order:
        count = dict(units[position].counts)[index]
        while split < len(cuts) - 1 and (2 * done + count) * scale > 2 * cuts[split]:
            split += 1
        where[position] = split
        done += count
