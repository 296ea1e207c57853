"""Move and swap units where a class is further from its exact share than the slack allows."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, islice

from pipeline.split.units import EXHAUSTIVE_UNITS, Aims, Component, Unit

SEARCH_NODES = 20_000


SEARCH_TRIALS = 40_000


SWAP_CANDIDATES = 96


CHOICE = 256


Moves = Sequence[tuple[int, int]]  # (unit, split it goes to)


@dataclass
class _Draft:
    """The units of one component, where they are, and how far each class is from exact in each split."""

    units: list[Unit]
    plan: Aims
    where: list[int]
    rows: dict[int, list[int]]

    def cost(self) -> int:
        return sum(self.plan.cost(index, row) for index, row in self.rows.items())

    def add(self, unit: int, split: int, *, sign: int = 1) -> None:
        for index, count in self.units[unit].counts:
            self.rows[index][split] += sign * count * self.plan.scale

    def move(self, moves: Moves) -> Moves:
        """Move units; return the moves that undo it."""
        back = [(unit, self.where[unit]) for unit, _ in moves]
        for unit, split in moves:
            self.add(unit, self.where[unit], sign=-1)
            self.add(unit, split)
            self.where[unit] = split
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


def repair(units: list[Unit], component: Component, plan: Aims, where: list[int]) -> None:
    """Move and swap units where a class is off; try all placings of up to 12 units."""
    draft = _draft(units, component, plan, where)
    free = [unit for unit in component.units if not _pinned(units[unit], plan)]
    _descend(draft, free)
    if len(free) <= EXHAUSTIVE_UNITS and draft.cost():
        _search(draft, free)


def _draft(units: list[Unit], component: Component, plan: Aims, where: list[int]) -> _Draft:
    rows = {index: [-exact for exact in plan.exact(index)] for index in component.classes}
    draft = _Draft(units, plan, where, rows)
    for unit in component.units:
        draft.add(unit, where[unit])
    return draft


def occupy(units: list[Unit], plan: Aims, where: list[int]) -> None:
    """Give every empty split a unit of a split that has several, at the least cost, within the bound."""
    held = Counter(where)
    empty = [split for split in range(len(plan.shares)) if not held[split]]
    if not empty:
        return
    draft = _draft(units, Component(list(range(len(plan.sizes))), list(range(len(units)))), plan, where)
    for split in empty:
        spare = [n for n, unit in enumerate(units) if held[where[n]] > 1 and not _pinned(unit, plan)]
        gains = {unit: draft.gain([(unit, split)]) for unit in spare}
        unit = max(spare, key=gains.__getitem__, default=-1)
        if spare and gains[unit] > -plan.gap_step * plan.step:
            held[where[unit]] -= 1
            draft.move([(unit, split)])


def _pinned(unit: Unit, plan: Aims) -> bool:
    """True for the only unit of a class: the largest split gets it."""
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
        for split in range(len(draft.plan.shares)):
            if split != draft.where[unit]:
                yield [(unit, split)]


def _swaps(draft: _Draft, free: list[int]) -> Iterator[Moves]:
    """Pairs in different splits; units alike in classes, sizes and split stand for each other."""
    kinds = {(draft.where[unit], draft.units[unit].counts): unit for unit in free}
    for one, other in combinations(list(kinds.values())[:SWAP_CANDIDATES], 2):
        if draft.where[one] != draft.where[other]:
            yield [(one, draft.where[other]), (other, draft.where[one])]


def _search(draft: _Draft, free: list[int]) -> None:
    """Find the cheapest placing of the free units by branch and bound, the large units first."""
    order = sorted(free, key=lambda unit: -len(draft.units[unit].ids))
    splits = range(len(draft.plan.shares))
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
        first = draft.units[order[depth]].rank[0]  # where to begin is decided by the rank, too
        for split in splits:
            tried[depth] = (first + split) % len(splits)
            draft.add(order[depth], tried[depth])
            place(depth + 1)
            draft.add(order[depth], tried[depth], sign=-1)

    for unit in order:
        draft.add(unit, draft.where[unit], sign=-1)
    place(0)
    for unit, split in zip(order, placing, strict=True):
        draft.where[unit] = split
        draft.add(unit, split)
