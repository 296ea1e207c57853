"""What a dataset looks like before it is built: counts, shapes, orientations, and what is wrong."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.catalog import NiftiDataset, VideoDataset
from pipeline.errors import Problem, SourceError
from pipeline.quarantine import Quarantined
from pipeline.readers import READERS
from pipeline.readers.reading import Facts
from pipeline.samples import Listing, Sample, list_samples
from pipeline.task import check_hash, hash_file


@dataclass(frozen=True)
class Inspection:
    """One dataset, looked at. Shapes are (depth, height, width), smallest and largest of each axis."""

    dataset: str
    listing: Listing
    classes: Mapping[str, int]
    groups: int
    smallest: tuple[int, ...]
    largest: tuple[int, ...]
    kinds: Mapping[str, int]
    bad: tuple[Quarantined, ...]
    doubtful: tuple[Problem, ...]


def check(
    dataset: NiftiDataset | VideoDataset, *, deep: bool = False, allow_missing: bool = False
) -> Inspection:
    """Look at all sources: their headers, or with ``deep`` every byte. Raises ConfigError."""
    listing = list_samples(dataset, allow_missing=allow_missing)
    looks = list(_look(dataset, listing.samples, deep))
    facts = [look for look in looks if not isinstance(look, Quarantined)]
    shapes = [fact["shape"] for _, fact in facts]
    counts = Counter(sample.label for sample in listing.samples)
    return Inspection(
        dataset=dataset.name,
        listing=listing,
        classes={name: counts[index] for index, name in enumerate(dataset.class_names)},
        groups=len({sample.group or sample.id for sample in listing.samples}),
        smallest=tuple(map(min, zip(*shapes, strict=True))),
        largest=tuple(map(max, zip(*shapes, strict=True))),
        kinds=dict(Counter(fact.get("orientation") or fact["codec"] for _, fact in facts).most_common()),
        bad=(*listing.unmatched, *(look for look in looks if isinstance(look, Quarantined))),
        doubtful=tuple(_doubts(facts)),
    )


def _look(
    dataset: NiftiDataset | VideoDataset, samples: tuple[Sample, ...], deep: bool
) -> Iterator[Quarantined | tuple[Sample, Facts]]:
    reader = READERS[dataset.type]
    for sample in samples:
        try:
            facts = reader.examine(sample.path) if deep else reader.inspect(sample.path)
            if deep and sample.sha256:
                check_hash(sample.path, hash_file(sample.path), sample.sha256)
        except SourceError as error:
            yield Quarantined(sample.source, error.problems[0])
        else:
            yield sample, facts


def _doubts(facts: list[tuple[Sample, Facts]]) -> Iterator[Problem]:
    for sample, fact in facts:
        for warning in fact["warnings"]:
            yield Problem(str(sample.path), "doubtful", warning, "check that this is meant")


def as_json(inspection: Inspection) -> dict[str, Any]:
    """What was found, for scripts."""
    return {
        "dataset": inspection.dataset,
        "samples": len(inspection.listing.samples),
        "classes": dict(inspection.classes),
        "groups": inspection.groups,
        "left_out": dict(inspection.listing.left_out),
        "smallest": list(inspection.smallest),
        "largest": list(inspection.largest),
        "kinds": dict(inspection.kinds),
        "bad": [asdict(item.problem) for item in inspection.bad],
        "warnings": [asdict(item) for item in (*inspection.listing.warnings, *inspection.doubtful)],
    }


def table(inspection: Inspection) -> str:
    """What was found, for people."""
    total = len(inspection.listing.samples)
    width = max(len(name) for name in inspection.classes)
    lines = [f"{inspection.dataset}: {total} samples in {inspection.groups} groups"]
    lines += [f"  {name:<{width}}  {count:>6}" for name, count in inspection.classes.items()]
    if inspection.largest:
        smallest, largest = (
            " x ".join(map(str, shape)) for shape in (inspection.smallest, inspection.largest)
        )
        lines.append(f"  depth x height x width   {smallest}  to  {largest}")
    lines.append("  " + ", ".join(f"{count} {kind}" for kind, count in inspection.kinds.items()))
    left_out = inspection.listing.left_out
    if left_out:
        lines.append(f"  left out: {sum(left_out.values())} files of {len(left_out)} other classes")
    lines.append(f"  problems: {len(inspection.bad)}")
    return "\n".join(lines)
