"""From a dataset to its samples: which sources there are, and which label and group each one has.

A sample's id is its file name without suffixes; files that share that name are called by their path
below the folder. All faults of a label table are told at once.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.catalog.schema import Dataset, PathLabels, PictureLabels, TableLabels
from pipeline.errors import Code, ConfigError, Problem
from pipeline.sources.discover import (
    ambiguous_ids,
    check_folder,
    check_names,
    choose,
    count_suffixes,
    find_files,
    find_stacks,
    sample_ids,
)
from pipeline.sources.groups import with_groups
from pipeline.sources.labels import label_by_path, label_by_table, misspelt_labels, no_match, other_type
from pipeline.sources.picture_labels import label_by_files, label_pictures_by_table, list_slices
from pipeline.sources.samples import Listing


def list_samples(dataset: Dataset, *, allow_missing: bool = False) -> Listing:
    """List a dataset's samples.

    Raises ConfigError, with all faults, for a folder or table that cannot be read, ids that are
    ambiguous, labels that are no class or all the same, and, unless ``allow_missing``,
    for names that cannot be used, files without a label and labels without a file.
    """
    check_folder(dataset)
    listing, total = _list(dataset)
    if listing.quarantined and not allow_missing:
        raise ConfigError(*_quarantine_problems(dataset, listing, total))
    if not listing.samples:
        raise ConfigError(_no_samples(dataset, listing, total))
    labels = {label for sample in listing.samples for label in (sample.labels or {"": sample.label}).values()}
    # Almost always a wrong column or class map, and it would be found only after hours of building.
    if len(labels) == 1:
        reason = f"all {len(listing.samples)} samples are {dataset.class_names[labels.pop()]}"
        remedy = "nothing can be learned from one class: check `labels` and `classes`, or add another"
        raise ConfigError.of(dataset.path, Code.ONE_CLASS, reason, remedy)
    return listing


def _list(dataset: Dataset) -> tuple[Listing, int]:
    """What there is, and the number of sources that should have a label."""
    if dataset.source_type.from_lists:
        listing = list_slices(dataset)
        return listing, len(listing.samples) + len(listing.quarantined)
    source = dataset.source_type
    found = (find_stacks if source.folder else find_files)(dataset.path, source.suffixes)
    # Names come first: globs, ids and labels may rely on text that can be printed and stored.
    sources, badly_named = check_names(dataset.path, list(found.sources))
    sources, excluded = choose(sources, dataset)
    ids = sample_ids(sources, source.endings)
    problems = list(ambiguous_ids(dataset.path, ids))
    if problems:
        raise ConfigError(*problems)
    listing = with_groups(dataset, _labelled(dataset, ids, excluded, found.others))
    # A table often lies beside the scans, texts beside the frames; they are used, so not counted as ignored.
    others = [path for path in found.others if not _is_read(dataset, dataset.path / path)]
    table = next(iter(dataset.read_files.values()), dataset.path)
    listing = replace(
        listing,
        quarantined=(*badly_named, *listing.quarantined),
        warnings=(*listing.warnings, *misspelt_labels(str(table), listing.left_out, dataset)),
        ignored=count_suffixes(others),
        excluded=len(excluded),
    )
    return listing, len(ids)


def _labelled(
    dataset: Dataset, ids: Mapping[str, str], excluded: Sequence[str], others: Sequence[str]
) -> Listing:
    """The samples with their labels, from wherever the catalog says that they stand."""
    labels = dataset.labels
    if isinstance(labels, PathLabels):
        return label_by_path(dataset, labels, ids)
    if isinstance(labels, PictureLabels):
        return label_by_files(dataset, labels, ids)
    assert isinstance(labels, TableLabels), "the catalog lets only slices have lists"
    if dataset.source_type.folder and dataset.recipe.sample == "picture":
        listing = label_pictures_by_table(dataset, labels, ids)
        if listing is not None:
            return listing
    return label_by_table(dataset, labels, ids, excluded=excluded, others=others)


def _is_read(dataset: Dataset, path: Path) -> bool:
    """Whether a file that is no source serves to label them."""
    labels = dataset.labels
    if isinstance(labels, PictureLabels) and path.suffix == ".txt":
        return path.is_relative_to(labels.files)
    return path in dataset.read_files.values()


def _quarantine_problems(dataset: Dataset, listing: Listing, total: int) -> Iterator[Problem]:
    """One problem for all paths that do not match, and one for each file or line of a table to correct."""
    others = list(listing.quarantined)
    if isinstance(dataset.labels, PathLabels):
        not_matching = [item for item in others if item.problem.code == Code.NO_LABEL]
        others = [item for item in others if item.problem.code != Code.NO_LABEL]
        if not_matching:
            yield no_match(dataset, dataset.labels, not_matching, total)
    yield from (item.problem for item in others)


def _no_samples(dataset: Dataset, listing: Listing, total: int) -> Problem:
    """Why there is no sample: nothing of this type, nothing with a label, or nothing of these classes."""
    reason = f"no source with a label among {total} files of type {dataset.type}"
    remedy = "check `path`, `labels` and `classes`"
    if listing.left_out:
        labels = ", ".join(list(listing.left_out)[:5])
        reason += f"; the labels there are, such as {labels}, are none of {', '.join(dataset.classes)}"
    if listing.excluded:
        reason += f"; `include` and `exclude` leave out {listing.excluded}"
    # Beside sources of the right type, other files are usually notes and tables.
    if not total and listing.ignored:
        reason += f"; there are {listing.ignored_text}"
        remedy = next(filter(None, map(other_type, listing.ignored)), remedy)
    return Problem(str(dataset.path), Code.NO_SAMPLES, reason, remedy)
