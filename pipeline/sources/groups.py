"""Patients of stacks, from the files of SpaceTime-SonoNet."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePosixPath

from pipeline.catalog.schema import Dataset, Groups
from pipeline.errors import Code, Problem, some
from pipeline.frames_tree import group_by_folder, parse_exams, parse_infos
from pipeline.sources.samples import Listing, Sample
from pipeline.sources.text_file import read_text


def with_groups(dataset: Dataset, listing: Listing) -> Listing:
    """The listing with the patient of each stack as its group, where ``dataset.groups`` names one.

    A stack is looked up by its path, its name and its id. Raises ConfigError for files that cannot be read.
    """
    if dataset.groups is None:
        return listing
    patients = _patients(dataset.groups)
    samples = [replace(sample, group=_patient_of(sample, patients)) for sample in listing.samples]
    unknown = [sample.source for sample in samples if not sample.group]
    warnings = list(listing.warnings)
    if unknown:
        reason = f"no patient is known of {some(unknown, 'stack')}"
        remedy = "each of them is a group of its own"
        warnings.append(Problem(str(dataset.groups.exams), Code.NO_PATIENT, reason, remedy))
    return replace(listing, samples=tuple(samples), warnings=tuple(warnings))


def _patient_of(sample: Sample, patients: Mapping[str, str | None]) -> str:
    names = (sample.source, PurePosixPath(sample.source).name, sample.id)
    return next((patient for name in names if (patient := patients.get(name))), "")


def _patients(groups: Groups) -> Mapping[str, str | None]:
    by_video = parse_exams(read_text(groups.exams, key="groups"), where=str(groups.exams))
    by_folder: dict[str, str | None] = dict(by_video)
    for file in groups.infos:
        by_folder |= group_by_folder(parse_infos(read_text(file, key="groups"), where=str(file)), by_video)
    return by_folder
