"""Compare a split with a store: leaks between splits, unknown ids, another store. Volumes are not read."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pipeline.errors import IntegrityError, Problem, some
from pipeline.split.describe import class_counts, missing_classes
from pipeline.split.file import Split
from pipeline.split.strict import id_problems
from pipeline.split.terms import ASSIGN_AGAIN, Lists

if TYPE_CHECKING:
    from pipeline.store import Row, Store


def require_store(split: Split, store: "Store", *, where: object = "") -> None:
    """Raise IntegrityError if the split was assigned on another store, and say what changed."""
    problem = _other_store(split, store, str(where or f"{split.dataset} split"))
    if problem:
        raise IntegrityError(problem)


def check_split(split: Split, store: "Store", *, where: object = "") -> list[Problem]:
    """Everything that is wrong between a split and a store; an empty list if nothing is.

    Looks for another store, ids, groups and contents (source bytes, volume bytes) on two sides,
    samples in no split, unknown ids, and classes that a split lacks although it could have them.
    """
    place = str(where or f"{split.dataset} split")
    other = _other_store(split, store, place)
    problems = [other] if other else []
    problems += id_problems(place, split.parts) + unknown_ids(store, split.parts, place)
    problems += _in_no_split(split, store, place)
    homes = {sample: name for name, ids in split.parts.items() for sample in ids}
    rows = [row for row in store.rows if row.id in homes]
    problems += _straddling(rows, homes, place, "group-leak", "group", [row.group for row in rows])
    problems += _straddling(rows, homes, place, "content-leak", "source", [row.source_sha256 for row in rows])
    problems += _straddling(rows, homes, place, "content-leak", "volume", [row.sha256 for row in rows])
    return problems + missing_classes(split, rows, homes, store.header.classes, place)


def _other_store(split: Split, store: "Store", where: str) -> Problem | None:
    if split.store_digest == store.digest:
        return None
    reason = f"it was assigned on another store; since then {_changes(split, store)}"
    return Problem(where, "other-store", reason, f"{ASSIGN_AGAIN}, or use the store that it was assigned on")


def _changes(split: Split, store: "Store") -> str:
    listed = {sample for ids in split.parts.values() for sample in ids} | set(split.excluded)
    # Names of samples first: they are what a user recognises; labels and recipe come after them.
    there = {row.id for row in store.rows}
    added, removed = sorted(there - listed), sorted(listed - there)
    said = [
        f"{verb} {some(found, 'sample')}" for verb, found in (("added", added), ("removed", removed)) if found
    ]
    if said:
        return "; ".join(said)
    rows = {row.id: row for row in store.rows}
    held = {
        name: class_counts((rows[sample] for sample in ids), store.header.classes)
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


def unknown_ids(store: "Store", lists: Lists, where: str) -> list[Problem]:
    """A problem that names the ids which the store lacks, if there are any."""
    there = {row.id for row in store.rows}
    unknown = sorted({sample for ids in lists.values() for sample in ids} - there)
    return (
        [Problem(where, "unknown-id", f"the store lacks {some(unknown, 'id')}", ASSIGN_AGAIN)]
        if unknown
        else []
    )


def _in_no_split(split: Split, store: "Store", where: str) -> list[Problem]:
    listed = {sample for ids in split.parts.values() for sample in ids} | set(split.excluded)
    left = [row.id for row in store.rows if row.id not in listed]
    return [Problem(where, "in-no-part", f"no split has {some(left, 'id')}", ASSIGN_AGAIN)] if left else []


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
            problems.append(Problem(where, code, reason, f"keep groups together: {ASSIGN_AGAIN}"))
    return problems
