"""From a dataset to its samples: which sources there are, and which label and group each one has.

A sample's id is its file name without suffixes; files that share that name are called by their path
below the folder. All faults of a label table are told at once.
"""

from dataclasses import replace

from pipeline.catalog.schema import Dataset, PathLabels
from pipeline.errors import ConfigError
from pipeline.sources.discover import ambiguous_ids, check_folder, find_sources, part_by_name, sample_ids
from pipeline.sources.labels import label_by_path, label_by_table
from pipeline.sources.samples import Listing


def list_samples(dataset: Dataset, *, allow_missing: bool = False) -> Listing:
    """List a dataset's samples.

    Raises ConfigError, with all faults, for a folder or table that cannot be read, ids that are
    ambiguous, labels that are not among the classes or all the same, and, unless ``allow_missing``,
    for files without a label and labels without a file.
    """
    check_folder(dataset)
    sources = find_sources(dataset.path, dataset.source_type.suffixes)
    sources, nameless = part_by_name(dataset.path, sources)
    ids = sample_ids(sources, dataset.source_type.suffixes)
    problems = list(ambiguous_ids(dataset.path, ids))
    if problems:
        raise ConfigError(*problems)
    if isinstance(dataset.labels, PathLabels):
        listing = label_by_path(dataset, dataset.labels, ids)
    else:
        listing = label_by_table(dataset, dataset.labels, ids)
    listing = replace(listing, unmatched=(*nameless, *listing.unmatched))
    if listing.unmatched and not allow_missing:
        raise ConfigError(*(item.problem for item in listing.unmatched))
    if not listing.samples:
        reason = f"no source with a label among {len(sources)} files of type {dataset.type}"
        raise ConfigError.of(dataset.path, "no-samples", reason, "check `path`, `labels` and `classes`")
    labels = {sample.label for sample in listing.samples}
    if len(labels) == 1:
        reason = f"all {len(listing.samples)} samples are {dataset.class_names[labels.pop()]}"
        remedy = "nothing can be learned from one class: check `labels` and `classes`, or add another"
        raise ConfigError.of(dataset.path, "one-class", reason, remedy)
    return listing
