"""What a dataset looks like before it is built: counts, shapes, orientations, and what is wrong."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pipeline.build.collect import source_warnings
from pipeline.build.execute import run_jobs
from pipeline.build.options import Options
from pipeline.build.worker import check_hash, source_problem
from pipeline.catalog.schema import Dataset
from pipeline.errors import ConfigError, Problem, ResourceError
from pipeline.readers import SOURCE_TYPES
from pipeline.readers.reading import Facts, Listed, Source, Statistics
from pipeline.sources import Listing, Quarantined, Sample, list_samples


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


@dataclass(frozen=True)
class Examined:
    """What a source looks like, or what is wrong with it."""

    source: str
    path: Path
    facts: Facts
    statistics: Statistics
    problem: Problem | None = None
    source_bytes: int = 0


@dataclass(frozen=True)
class Examination:
    """A source to look at: its header, or with ``deep`` every byte."""

    source: str
    path: Path
    type: str
    deep: bool
    wanted_sha256: str
    trace: Path
    listed: tuple[Listed, ...] = ()

    @property
    def origin(self) -> Source:
        """What is to be read."""
        return Source(self.path, self.listed)

    def lost(self, problem: Problem) -> Examined:
        """The result for a source that ended its worker."""
        return Examined(self.source, self.path, {}, {}, problem)


Report = Callable[[Examined], object]


def check(
    dataset: Dataset, options: Options, *, deep: bool = False, report: Report = lambda examined: None
) -> Inspection:
    """Look at all sources: their headers, or with ``deep`` every byte, in workers. Raises ConfigError."""
    listing = list_samples(dataset, allow_missing=options.allow_missing)
    found = list(_examine_all(dataset, listing.samples, options, deep, report))
    good = [examined for examined in found if examined.problem is None]
    shapes = [examined.facts["shape"] for examined in good]
    counts = Counter(label for sample in listing.samples for label in _labels(sample))
    source = dataset.source_type
    return Inspection(
        dataset=dataset.name,
        listing=listing,
        classes={name: counts[index] for index, name in enumerate(dataset.class_names)},
        groups=len({sample.group or sample.id for sample in listing.samples}),
        smallest=tuple(map(min, zip(*shapes, strict=True))),
        largest=tuple(map(max, zip(*shapes, strict=True))),
        kinds=dict(Counter(examined.facts[source.kind] for examined in good).most_common()),
        bad=(
            *listing.quarantined,
            *(Quarantined(examined.source, examined.problem) for examined in found if examined.problem),
        ),
        doubtful=tuple(
            warning
            for examined in good
            for warning in source_warnings(examined.path, source, examined.facts, examined.statistics)
        ),
    )


def _labels(sample: Sample) -> Iterable[int]:
    """The label of a stack, or those of its pictures where each has its own."""
    return sample.labels.values() if sample.labels else [sample.label]


def _examine_all(
    dataset: Dataset, samples: tuple[Sample, ...], options: Options, deep: bool, report: Report
) -> list[Examined]:
    """One result per sample, in their order."""
    with TemporaryDirectory(prefix="viptt-") as folder:
        jobs = [
            Examination(
                sample.source,
                sample.path,
                dataset.type,
                deep,
                sample.sha256,
                Path(folder, f"{number}.trace"),
                sample.listed,
            )
            for number, sample in enumerate(samples)
        ]
        # Headers are read in a millisecond each: no worker is worth its start.
        how = options if deep else replace(options, scheduler="sync")
        found = {}
        for examined in run_jobs(jobs, how, examine):
            found[examined.source] = examined
            report(examined)
    return [found[sample.source] for sample in samples]


def examine(job: Examination) -> Examined:
    """Read a source as far as the job says; a bad one is a result like any other.

    Raises ResourceError, and ConfigError if a decoder is missing: then no source can be read.
    """
    source = SOURCE_TYPES[job.type]
    try:
        if not job.deep:
            return Examined(job.source, job.path, source.inspect(job.origin), {})
        if job.wanted_sha256:
            check_hash(job.path, source.hash(job.origin), job.wanted_sha256)
        reading = source.examine(job.origin)
        size = source.size(job.origin)
        return Examined(job.source, job.path, reading.facts, reading.statistics, source_bytes=size)
    except (ConfigError, ResourceError, KeyboardInterrupt):
        raise
    except Exception as error:  # noqa: BLE001 - a bad source costs only itself, whatever its decoder raises
        return job.lost(source_problem(job.path, error))


def as_json(inspection: Inspection) -> dict[str, Any]:
    """What was found, for scripts."""
    return {
        "dataset": inspection.dataset,
        "samples": len(inspection.listing.samples),
        "classes": dict(inspection.classes),
        "groups": inspection.groups,
        "left_out": dict(inspection.listing.left_out),
        "excluded": inspection.listing.excluded,
        "ignored": dict(inspection.listing.ignored),
        "smallest": list(inspection.smallest),
        "largest": list(inspection.largest),
        "kinds": dict(inspection.kinds),
        "bad": [asdict(item.problem) for item in inspection.bad],
        "warnings": [asdict(item) for item in (*inspection.listing.warnings, *inspection.doubtful)],
    }


def table(inspection: Inspection) -> str:
    """What was found, for people."""
    total = len(inspection.listing.samples)
    pictures = sum(len(sample.labels or ()) for sample in inspection.listing.samples)
    width = max(len(name) for name in inspection.classes)
    counted = f"{pictures} pictures in {total} stacks" if pictures else f"{total} samples"
    lines = [f"{inspection.dataset}: {counted} in {inspection.groups} groups"]
    lines += [f"  {name:<{width}}  {count:>6}" for name, count in inspection.classes.items()]
    if inspection.largest:
        smallest, largest = (
            " x ".join(map(str, shape)) for shape in (inspection.smallest, inspection.largest)
        )
        lines.append(f"  depth x height x width   {smallest}  to  {largest}")
    lines.append("  " + ", ".join(f"{count} {kind}" for kind, count in inspection.kinds.items()))
    lines += [f"  {line}" for line in inspection.listing.not_used()]
    lines.append(f"  problems: {len(inspection.bad)}, warnings: {len(inspection.doubtful)}")
    return "\n".join(lines)
