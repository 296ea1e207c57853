"""Splits of a store: assigned by a method, given by somebody else, imported, or made of folds."""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import ConfigError, IntegrityError, some
from pipeline.split.assignment import assign, whole_shares
from pipeline.split.check import unknown_ids
from pipeline.split.describe import describe
from pipeline.split.file import Split, class_weights, read_split
from pipeline.split.interchange import format_of, read_lists
from pipeline.split.strict import id_problems
from pipeline.split.terms import GIVEN, GROUPED, LONE, METHODS, PAPER, PLAIN, TEST, TRAIN, VAL, Lists
from pipeline.split.units import find_root

if TYPE_CHECKING:
    from pipeline.store import Row, Store


def make_split(
    store: "Store",
    *,
    fractions: Mapping[str, float],
    seed: int = 0,
    method: str | None = None,
    grouped: bool = True,
    frozen: Split | None = None,
) -> Split:
    """Assign the samples of a store to splits.

    Samples with the same bytes (of source or volume) are kept together like a group. ``grouped=False``
    ignores the groups, and the split says what leaks. The ``test`` split of ``frozen`` is kept as it is
    and the others are made of the rest; siblings of its samples that came later are excluded.
    """
    method = method or (GROUPED if grouped and any(row.group for row in store.rows) else PLAIN)
    if method not in METHODS:
        reason = f"the method {method!r} is not known"
        raise ConfigError.of(store.header.dataset, "split-method", reason, f"use one of {', '.join(METHODS)}")
    units = _bound(store.rows, grouped=method == GROUPED)
    kept = _frozen_test(store, frozen)
    # A sibling of a test sample that came later would leak from any other split.
    tied = {units[sample] for sample in kept}
    rows = [row for row in store.rows if units[row.id] not in tied]
    excluded = [row.id for row in store.rows if units[row.id] in tied and row.id not in kept]
    if not kept:
        lists = _assigned(rows, units, method, fractions, seed)
        return describe(store, lists, method=method, seed=seed, fractions=fractions)
    fractions, shares = _fractions_beside(fractions, len(kept) / len(store.rows))
    beside: Lists = {**_assigned(rows, units, method, shares, seed), TEST: kept}
    return describe(store, beside, method=method, seed=seed, fractions=fractions, excluded=excluded)


def given_split(
    store: "Store", lists: Lists, *, method: str = GIVEN, seed: int = 0, excluded: Sequence[str] = ()
) -> Split:
    """Take lists that somebody else made, in their order; the fractions are what they turn out to be.

    Raises IntegrityError for ids that the store lacks, or that are in two splits.
    """
    total = sum(map(len, lists.values()))
    if not total:
        raise IntegrityError.of(
            store.header.dataset, "split-empty", "no split holds a sample", "give the lists of ids"
        )
    fractions = {name: len(ids) / total for name, ids in lists.items()}
    problems = id_problems(store.header.dataset, lists) + unknown_ids(store, lists, store.header.dataset)
    if problems:
        raise IntegrityError(*problems)
    return describe(store, lists, method=method, seed=seed, fractions=fractions, excluded=excluded)


def import_split(path: Path | str, store: "Store", *, fold: int | None = None) -> Split:
    """Take the lists from any file that ``interchange`` reads, or from our own after an edit by hand."""
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
        raise ConfigError.of(split.dataset, "no-such-fold", reason, "make folds with `viptt split --folds K`")
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


def _bound(rows: "Sequence[Row]", *, grouped: bool) -> dict[str, str]:
    """Sample → the unit it must stay in: its group, and all samples with the same bytes."""
    number: dict[str, int] = {}
    root: list[int] = []
    for row in rows:
        # Equal bytes are bound like a group even where nobody says that they belong together.
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
        remedy = "bring them back, or remove the split file to get a new test split"
        reason = f"the frozen test split has {some(gone, 'id')} that the store lacks"
        raise IntegrityError.of(store.header.dataset, "frozen-test-gone", reason, remedy)
    return kept


def _fractions_beside(
    fractions: Mapping[str, float], test: float
) -> tuple[dict[str, float], dict[str, float]]:
    """Fractions to record beside a frozen test split, and those by which the rest is divided."""
    whole_shares(fractions)
    others = {name: share for name, share in fractions.items() if name != TEST}
    if len(others) < len(fractions):
        return dict(fractions), {name: share / (1 - fractions[TEST]) for name, share in others.items()}
    return {name: share * (1 - test) for name, share in others.items()} | {TEST: test}, others


def _assigned(
    rows: "Sequence[Row]", units: Mapping[str, str], method: str, fractions: Mapping[str, float], seed: int
) -> dict[str, list[str]]:
    ids, labels = [row.id for row in rows], [row.label for row in rows]
    if method == PAPER:
        return _assigned_as_in_paper(ids, labels, fractions, seed)
    groups = [None if units[row.id].startswith(LONE) else units[row.id] for row in rows]
    return assign(ids, labels, groups, fractions=fractions, seed=seed)


def _assigned_as_in_paper(
    ids: list[str], labels: list[int], fractions: Mapping[str, float], seed: int
) -> dict[str, list[str]]:
    """scikit-learn's stratified split of the sorted ids, as ViPTT-Net's notebook made it."""
    try:
        from sklearn.model_selection import train_test_split
    except ImportError:
        remedy = "run `pip install 'viptt[train]'`"
        raise ConfigError.of("split", "no-scikit-learn", f"{PAPER} needs scikit-learn", remedy) from None
    names, _ = whole_shares(fractions)
    if len(names) != 2:
        raise ConfigError.of(
            "split", "fractions", f"{PAPER} makes two splits", "name two, such as train and val"
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
