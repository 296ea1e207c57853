"""What a build is going to do, known before any source is read."""

import hashlib
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.build.options import Options
from pipeline.build.reuse import Earlier, published_results
from pipeline.build.versions import versions
from pipeline.catalog.schema import Dataset
from pipeline.errors import Code
from pipeline.files import canonical_json
from pipeline.sources import Listing, Sample, list_samples, read_quarantine
from pipeline.store import Header, Store
from pipeline.store.publish import published


@dataclass(frozen=True)
class Plan:
    """What a build is going to do, known before any source is read."""

    dataset: Dataset
    listing: Listing
    samples: tuple[Sample, ...]
    header: Header

    @property
    def source_bytes(self) -> int:
        """Bytes of all sources, on disk."""
        return sum(self.dataset.source_type.size(sample.origin) for sample in self.samples)

    @property
    def store_bytes(self) -> int | None:
        """Bytes of the volumes of the store, if no source is bad; None where only reading tells."""
        counts = [len(sample.listed) for sample in self.samples] if self.header.pictures else None
        if counts is None:
            return self.header.volume_bytes * len(self.samples)
        return self.header.volume_bytes * sum(counts) if all(counts) else None


def make_plan(dataset: Dataset, options: Options) -> Plan:
    """List the samples and describe the store. Raises ConfigError.

    ``options.limit`` takes the first samples by id, and those that a published store holds already: a
    store never shrinks by a limit.
    """
    listing = list_samples(dataset, allow_missing=options.allow_missing)
    header = Header(dataset.name, dataset.recipe_json, dataset.class_names, versions())
    return Plan(dataset, listing, _limited(dataset, listing.samples, options.limit), header)


def _limited(dataset: Dataset, samples: tuple[Sample, ...], limit: int | None) -> tuple[Sample, ...]:
    if limit is None:
        return samples
    previous, _ = published(dataset.store.resolve())
    there = {row.stack or row.source for row in previous.rows} if previous else set()
    return tuple(
        sample
        for position, sample in enumerate(samples)
        if position < limit or not there.isdisjoint((sample.source, sample.id))
    )


def plan_json(plan: Plan) -> dict[str, Any]:
    """A plan, for scripts."""
    return {
        "dataset": plan.dataset.name,
        "store": str(plan.dataset.store),
        "samples": len(plan.samples),
        "source_bytes": plan.source_bytes,
        "store_bytes": plan.store_bytes,
        "left_out": dict(plan.listing.left_out),
    }


def recipe_hash(recipe: Mapping[str, Any]) -> str:
    """SHA-256 of a recipe's canonical text: half of what decides whether a volume can be used again."""
    return hashlib.sha256(canonical_json(recipe)).hexdigest()


def earlier_results(plan: Plan, previous: Store | None) -> Mapping[str, Sequence[Earlier]]:
    """What the published store and its quarantine say of each source of a plan."""
    if previous is None:
        return {}
    # Another version may read what this one refused.
    same = previous.header.created_with == versions()
    quarantined = read_quarantine(plan.dataset.quarantine_file) if same else ()
    found = published_results(previous, recipe_hash(previous.header.recipe), quarantined)
    unlabelled = {item.source for item in plan.listing.quarantined}
    # The rows of pictures name their stack, all others their source.
    return {
        sample.source: [
            earlier
            for name in dict.fromkeys(
                (sample.source, sample.id) if previous.header.pictures else [sample.source]
            )
            for earlier in found.get(name, [])
            if _lacks_the_same_labels(earlier, unlabelled)
        ]
        for sample in plan.samples
    }


def _lacks_the_same_labels(earlier: Earlier, unlabelled: Container[str]) -> bool:
    """Whether every picture that had no label, and so no volume, has none now."""
    return all(
        picture.source in unlabelled
        for picture in earlier.entry.pictures
        if picture.problem is not None and picture.problem.code in (Code.NO_LABEL, Code.UNKNOWN_LABEL)
    )
