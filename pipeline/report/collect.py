"""Everything that the page tells, as frozen values; the pictures come later.

Counts are of samples. A split is a name such as train; "" stands for samples in none.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.catalog.schema import Dataset
from pipeline.errors import Code, IntegrityError, Problem
from pipeline.freshness import differences
from pipeline.readers import SOURCE_TYPES
from pipeline.report.samples import SampleFigures, comparable, kind_of, sample_figures
from pipeline.sources import Quarantined, read_quarantine
from pipeline.split import Split, check_split, read_split
from pipeline.store import Row, Store
from pipeline.store.throughput import Throughput, read_throughput

NO_SPLIT = "(no split)"
MOST_SIZES = 12
MOST_GROUPS = 12
NAMED = 5


@dataclass(frozen=True)
class Balance:
    """Samples and groups of one class, in all and in each split."""

    label: str
    samples: int
    groups: int
    splits: Mapping[str, int]


@dataclass(frozen=True)
class GroupSize:
    """The samples of one group, by class and by split."""

    group: str
    samples: int
    labels: tuple[str, ...]
    splits: tuple[str, ...]


@dataclass(frozen=True)
class Histogram:
    """The mean histogram of some samples: a share for each bin."""

    name: str
    samples: int
    shares: tuple[float, ...]


@dataclass(frozen=True)
class Spread:
    """How one quantity is spread over the samples: range, median, and counts in equal bins."""

    name: str
    unit: str
    smallest: float
    median: float
    largest: float
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Warned:
    """A kind of warning: its first text, how many samples have it, and the ids of some."""

    text: str
    samples: int
    ids: tuple[str, ...]


@dataclass(frozen=True)
class Twins:
    """Samples whose sources, or volumes, have equal bytes."""

    what: str
    samples: tuple[SampleFigures, ...]


@dataclass(frozen=True)
class Findings:
    """What there is to tell about a store. ``samples`` are all, the oddest first."""

    store: Store
    samples: tuple[SampleFigures, ...]
    splits: tuple[str, ...]
    split_note: str
    balance: tuple[Balance, ...]
    groups: int
    largest_groups: tuple[GroupSize, ...]
    problems: tuple[Problem, ...]
    twins: tuple[Twins, ...]
    limits: tuple[float, float] | None
    by_class: tuple[Histogram, ...]
    by_split: tuple[Histogram, ...]
    spreads: tuple[Spread, ...]
    sizes: tuple[tuple[str, int], ...]
    kinds: tuple[tuple[str, int], ...]
    kind: str
    quarantined: tuple[Quarantined, ...]
    warnings: tuple[Warned, ...]
    stale: tuple[str, ...]
    versions: Mapping[str, str]
    throughput: Throughput | None

    @property
    def odd(self) -> tuple[SampleFigures, ...]:
        """The samples with a reason to look at them, the oddest first."""
        return tuple(sample for sample in self.samples if sample.reasons)


def collect(dataset: Dataset, store: Store) -> Findings:
    """Read split file and quarantine, and count. Volumes are not read."""
    split, note, problems = _read_split(dataset.split.file)
    if split:
        problems = [*problems, *check_split(split, store, where=dataset.split.file)]
    homes = {sample: name for name, ids in split.parts.items() for sample in ids} if split else {}
    source_type = SOURCE_TYPES[store.header.recipe["type"]]
    samples = sample_figures(store.rows, store.header.classes, homes, source_type)
    splits = (*split.parts, *([""] if any(not sample.split for sample in samples) else [])) if split else ()
    compared = comparable(samples)
    return Findings(
        store=store,
        samples=tuple(samples),
        splits=splits,
        split_note=note,
        balance=tuple(_balance(samples, store.header.classes, splits)),
        groups=len({sample.group or sample.id for sample in samples}),
        largest_groups=tuple(_largest_groups(samples)),
        problems=tuple(problems),
        twins=tuple(_twins(samples, store.rows)),
        limits=compared[0].limits if compared else None,
        by_class=tuple(_histograms(compared, store.header.classes, lambda sample: sample.label)),
        by_split=tuple(_histograms(compared, splits, lambda sample: sample.split)),
        spreads=tuple(_spreads(samples)),
        sizes=tuple(_sizes(samples)),
        kinds=tuple(Counter(sample.kind for sample in samples if sample.kind).most_common()),
        kind=source_type.kind,
        quarantined=read_quarantine(dataset.quarantine_file),
        warnings=tuple(_warnings(samples)),
        stale=tuple(differences(dataset.recipe_json, dataset.class_names, store.header)),
        versions=_versions(store),
        throughput=read_throughput(dataset.throughput_file, store.digest),
    )


def _read_split(file: Path) -> tuple[Split | None, str, list[Problem]]:
    if not file.exists():
        return None, f"There is no split file yet; `viptt split` writes {file.name}.", []
    try:
        split = read_split(file)
    except IntegrityError as error:
        return None, f"The split file {file.name} cannot be used.", list(error.problems)
    text = f"{file.name}: method {split.method}, seed {split.seed}."
    return split, text, [Problem(str(file), Code.DOUBTFUL, said, "") for said in split.warnings]


# --- counts -------------------------------------------------------------------------------------


def _balance(
    samples: Sequence[SampleFigures], classes: Sequence[str], splits: Sequence[str]
) -> Iterable[Balance]:
    for label in classes:
        held = [sample for sample in samples if sample.label == label]
        counts = Counter(sample.split for sample in held)
        groups = len({sample.group or sample.id for sample in held})
        yield Balance(label, len(held), groups, {name: counts[name] for name in splits})


def _largest_groups(samples: Sequence[SampleFigures]) -> Iterable[GroupSize]:
    members: defaultdict[str, list[SampleFigures]] = defaultdict(list)
    for sample in samples:
        if sample.group:
            members[sample.group].append(sample)
    for group, held in sorted(members.items(), key=lambda item: (-len(item[1]), item[0]))[:MOST_GROUPS]:
        labels = sorted({sample.label for sample in held})
        splits = sorted({sample.split or NO_SPLIT for sample in held})
        yield GroupSize(group, len(held), tuple(labels), tuple(splits))


def _twins(samples: Sequence[SampleFigures], rows: Sequence[Row]) -> Iterable[Twins]:
    seen = set()
    for what, column in (("the same file", "source_sha256"), ("equal volumes", "sha256")):
        same: defaultdict[str, list[SampleFigures]] = defaultdict(list)
        for sample in samples:
            same[getattr(rows[sample.index], column)].append(sample)
        for digest, held in sorted(same.items()):
            ids = frozenset(sample.id for sample in held)
            # The same file gives the same volume, which is told once; pictures of one stack share its file.
            if digest and len({sample.source for sample in held}) > 1 and ids not in seen:
                seen.add(ids)
                yield Twins(what, tuple(sorted(held, key=lambda sample: sample.id)))


def _warnings(samples: Sequence[SampleFigures]) -> Iterable[Warned]:
    alike: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    for sample in samples:
        for text in (*sample.doubts, *sample.notes):
            alike[kind_of(text)].append((text, sample.id))
    for said in sorted(alike.values(), key=len, reverse=True):
        yield Warned(said[0][0], len(said), tuple(sample for _, sample in said[:NAMED]))


# --- values and shapes --------------------------------------------------------------------------


def _histograms(
    samples: Sequence[SampleFigures], names: Sequence[str], name_of: Callable[[SampleFigures], str]
) -> Iterable[Histogram]:
    for name in names:
        held = [sample.histogram for sample in samples if name_of(sample) == name]
        if held:
            yield Histogram(name or NO_SPLIT, len(held), tuple(np.mean(held, axis=0).tolist()))


def _spreads(samples: Sequence[SampleFigures]) -> Iterable[Spread]:
    shapes = [sample.shape for sample in samples if len(sample.shape) == 3]
    spacings = [sample.spacing for sample in samples if len(sample.spacing) == 3]
    for axis, name in enumerate(("slices or frames", "height", "width")):
        if shapes:
            yield _spread(name, "" if axis == 0 else "pixels", [shape[axis] for shape in shapes])
    for axis, name in enumerate(("slice spacing", "row spacing", "column spacing")):
        if spacings:
            yield _spread(name, "mm", [spacing[axis] for spacing in spacings])


def _spread(name: str, unit: str, values: Sequence[float]) -> Spread:
    counts, _ = np.histogram(values, bins=24)
    return Spread(
        name,
        unit,
        float(min(values)),
        float(np.median(values)),
        float(max(values)),
        tuple(counts.tolist()),
    )


def _sizes(samples: Sequence[SampleFigures]) -> list[tuple[str, int]]:
    sizes = Counter(f"{sample.shape[1]} × {sample.shape[2]}" for sample in samples if len(sample.shape) == 3)
    common = sizes.most_common(MOST_SIZES)
    rest = len(sizes) - len(common)
    left = sum(sizes.values()) - sum(count for _, count in common)
    return [*common, (f"{rest} other sizes", left)] if rest else common


def _versions(store: Store) -> dict[str, str]:
    """What made the rows: for each library its versions; the header's where rows do not say."""
    found: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for row in store.rows:
        made: Mapping[str, Any] = json.loads(row.made_with or "{}") or store.header.created_with
        for name, version in made.items():
            found[name][str(version)] += 1
    return {
        name: ", ".join(
            version if count == len(store.rows) else f"{version} ({count} samples)"
            for version, count in versions.most_common()
        )
        for name, versions in found.items()
    }
