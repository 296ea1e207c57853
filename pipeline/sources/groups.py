"""Patients of stacks, from the files of SpaceTime-SonoNet."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePosixPath

from pipeline.catalog.schema import Dataset, Groups
from pipeline.errors import Code, ConfigError, Problem, some
from pipeline.frames_tree import Exam, group_by_folder, parse_exams, parse_infos
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


def patients_and_centres(groups: Groups) -> tuple[dict[str, str], tuple[Exam, ...]]:
    """The patient number of each video id, and the videos of all ``infos``, in the order of the files.

    Raises ConfigError for files that cannot be read, and for a video in two of them.
    """
    patients = parse_exams(read_text(groups.exams, key="groups"), where=str(groups.exams))
    exams: dict[str, Exam] = {}
    for file in groups.infos:
        for exam in parse_infos(read_text(file, key="groups"), where=str(file)):
            if exams.setdefault(exam.video, exam) is not exam:
                reason = f"video {exam.video} stands in another file, too"
                raise ConfigError.of(file, Code.DUPLICATE_ID, reason, "keep one of the lines")
    return patients, tuple(exams.values())


def _patient_of(sample: Sample, patients: Mapping[str, str | None]) -> str:
    names = (sample.source, PurePosixPath(sample.source).name, sample.id)
    return next((patient for name in names if (patient := patients.get(name))), "")


def _patients(groups: Groups) -> Mapping[str, str | None]:
    by_video, exams = patients_and_centres(groups)
    return {**by_video, **group_by_folder(exams, by_video)}
