"""What a split says of itself: counts, weights, leaks and warnings. Statistics come from train alone."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pipeline.errors import Problem, some
from pipeline.split.file import Split, class_weights, train_part
from pipeline.split.terms import GROUPED, LONE, METHODS, REDRAW, TRAIN, Parts

if TYPE_CHECKING:
    from pipeline.store import Row, Store


def describe(
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
    counts = {name: class_counts(part, store.header.classes) for name, part in inside.items()}
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


def class_counts(rows: "Iterable[Row]", classes: Sequence[str]) -> dict[str, int]:
    """Samples of each class, classes without samples included."""
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
    homes = {sample: name for name, ids in split.parts.items() for sample in ids}
    rows = [row for row in store.rows if row.id in homes]
    warnings += missing_classes(split, rows, homes, store.header.classes, where)
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


def missing_classes(
    split: Split, rows: "Sequence[Row]", homes: Mapping[str, str], classes: Sequence[str], where: str
) -> list[Problem]:
    """Classes that a part lacks although they have the units for it."""
    units: defaultdict[int, set[str]] = defaultdict(set)
    for row in rows:
        units[row.label].add(row.group or f"{LONE}{row.id}")
    found = {(homes[row.id], row.label) for row in rows}
    remedy = (
        f"{REDRAW}; where its groups are too large for that, collect more or give the part a larger fraction"
    )
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
