"""What a split says of itself: counts, weights, leaks and warnings. Statistics come from train alone."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pipeline.errors import Problem, some
from pipeline.split.file import Split, class_weights, train_name
from pipeline.split.terms import ASSIGN_AGAIN, GROUPED, LONE, METHODS, TRAIN, Lists

if TYPE_CHECKING:
    from pipeline.store import Row, Store


def describe(
    store: "Store",
    lists: Lists,
    *,
    method: str,
    seed: int,
    fractions: Mapping[str, float],
    excluded: Sequence[str] = (),
) -> Split:
    """Add to bare lists what can be counted in the store; the splits come in the order of the fractions."""
    rows = {row.id: row for row in store.rows}
    inside = {name: [rows[sample] for sample in lists[name]] for name in fractions}
    counts = {name: class_counts(held, store.header.classes) for name, held in inside.items()}
    split = Split(
        dataset=store.header.dataset,
        store_digest=store.digest,
        method=method,
        seed=int(seed),
        fractions={name: float(share) for name, share in fractions.items()},
        parts={name: tuple(lists[name]) for name in fractions},
        counts=counts,
        class_weights=class_weights(counts[train_name(fractions)]),
        groups={name: len({row.group or f"{LONE}{row.id}" for row in held}) for name, held in inside.items()},
        leaked=_leaked(inside),
        excluded=tuple(sorted(excluded)),
    )
    return replace(split, warnings=tuple(map(str, _warnings(split, store))))


def class_counts(rows: "Iterable[Row]", classes: Sequence[str]) -> dict[str, int]:
    """Samples of each class, classes without samples included."""
    counted = Counter(row.label for row in rows)
    return {name: counted[index] for index, name in enumerate(classes)}


def _leaked(inside: "Mapping[str, Sequence[Row]]") -> dict[str, int]:
    """Samples per split with a sibling in train (or, where none is called train, in any other)."""
    homes = {name: {row.group for row in held if row.group} for name, held in inside.items()}
    leaked = {}
    for name, held in inside.items():
        sides = [
            home for other, home in homes.items() if other != name and (other == TRAIN or TRAIN not in homes)
        ]
        beyond = set().union(*sides)
        leaked[name] = sum(row.group in beyond for row in held)
    return leaked


def _warnings(split: Split, store: "Store") -> list[Problem]:
    """What a user should know of a split, although it is not wrong."""
    where = f"{split.dataset} split"
    homes = {sample: name for name, ids in split.parts.items() for sample in ids}
    rows = [row for row in store.rows if row.id in homes]
    return [
        *_leak_warnings(split, where),
        *_lone_classes(split, store, where),
        *_empty_splits(split, where),
        *missing_classes(split, rows, homes, store.header.classes, where),
        *_excluded_warnings(split, where),
    ]


def _leak_warnings(split: Split, where: str) -> Iterator[Problem]:
    for name, leaked in split.leaked.items():
        if leaked:
            total = len(split.parts[name])
            share = f"{leaked} of {total} samples of {name} ({leaked / total:.1%})"
            reason = f"{share} have siblings on the other side"
            remedy = "expect scores that are too good; keep groups together"
            yield Problem(where, "group-leak", reason, remedy)


def _lone_classes(split: Split, store: "Store", where: str) -> Iterator[Problem]:
    """Classes of one group, or of one sample, which our own methods cannot divide."""
    units: defaultdict[int, set[str]] = defaultdict(set)
    for row in store.rows:
        units[row.label].add(row.group if split.method == GROUPED and row.group else f"{LONE}{row.id}")
    lone = [store.header.classes[index] for index, held in sorted(units.items()) if len(held) == 1]
    if lone and split.method in METHODS:
        reason = f"one sample or group only, kept whole: {', '.join(lone)}"
        yield Problem(where, "lone-class", reason, "collect more, or leave the class out")


def _empty_splits(split: Split, where: str) -> Iterator[Problem]:
    empty = [name for name, ids in split.parts.items() if not ids]
    if empty:
        yield Problem(where, "empty-part", f"no samples in {', '.join(empty)}", "give it a larger fraction")


def _excluded_warnings(split: Split, where: str) -> Iterator[Problem]:
    if split.excluded:
        reason = f"left out as siblings of the frozen test split: {some(split.excluded, 'id')}"
        yield Problem(where, "excluded", reason, "remove the split file to use them in a new test split")


def split_table(split: Split) -> str:
    """Classes by splits, with shares and groups, as text."""
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


def missing_classes(
    split: Split, rows: "Sequence[Row]", homes: Mapping[str, str], classes: Sequence[str], where: str
) -> list[Problem]:
    """Classes that a split lacks although they have the units for it."""
    units: defaultdict[int, set[str]] = defaultdict(set)
    for row in rows:
        units[row.label].add(row.group or f"{LONE}{row.id}")
    found = {(homes[row.id], row.label) for row in rows}
    remedy = f"{ASSIGN_AGAIN}; where its groups are too large, collect more or give it a larger fraction"
    problems = []
    for name, share in split.fractions.items():
        enough = [
            index
            for index, held in units.items()
            if len(held) > 1 and (len(split.parts) == 2 or len(held) * share >= 1)
        ]
        lacking = [classes[index] for index in sorted(enough) if (name, index) not in found]
        if lacking:
            problems.append(Problem(where, "class-missing", f"{name} has no {', '.join(lacking)}", remedy))
    return problems
