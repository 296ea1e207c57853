"""Splits of a store: drawn, given or imported, described, and checked for leaks.

How parts are drawn is in ``draw``; the file, ours and those of others, in ``split_formats``. Statistics
come from the train part alone. Volumes are not read here (``viptt verify`` does that).
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.draw import assign, equal_folds, find_root, whole_shares
from pipeline.errors import ConfigError, IntegrityError, Problem, some
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
            root[find_root(root, place)] = find_root(root, places[0])
    units: defaultdict[int, list[Row]] = defaultdict(list)
    for row in rows:
        units[find_root(root, number[f"volume {row.sha256}"])].append(row)
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
    whole_shares(fractions)
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
    names, _ = whole_shares(fractions)
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
    homes = {sample: name for name, ids in split.parts.items() for sample in ids}
    rows = [row for row in store.rows if row.id in homes]
    warnings += _missing_classes(split, rows, homes, store.header.classes, where)
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
