"""Labels of pictures: a text file for each frame, lines of a table, or of COVIDx-CT's lists.

Each picture has a label of its own; a sample that is a whole stack needs one that all of them share.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path, PurePosixPath

from pipeline.catalog.schema import Dataset, ListLabels, PictureLabels, TableLabels
from pipeline.covidx import Slice, parse_list, patient_and_scan, shared_patients, unknown_names
from pipeline.errors import Code, ConfigError, Problem, SourceError, some
from pipeline.frames_tree import frame_numbers, natural_key, series_and_number
from pipeline.nearest import nearest
from pipeline.readers.frames import ordered
from pipeline.readers.reading import Listed
from pipeline.sources.labels import label_by_table
from pipeline.sources.quarantine import Quarantined
from pipeline.sources.samples import Listing, Sample
from pipeline.sources.table import read_table
from pipeline.sources.text_file import read_text

MAX_LABEL_BYTES = 1000
ALLOW = "or use --allow-missing"


# --- a text file for each frame -----------------------------------------------------------------


def label_by_files(dataset: Dataset, labels: PictureLabels, ids: Mapping[str, str]) -> Listing:
    """Samples of the folders of frames, with the label that stands in the text file of each frame."""
    samples: list[Sample] = []
    quarantined: list[Quarantined] = []
    for source, sample in ids.items():
        found, missing = _labels_of_frames(dataset, labels, source)
        quarantined += missing
        if found:
            made = Sample(sample, 0, "", source, dataset.path / source, labels=found)
            _sort(dataset, made, samples, quarantined)
    return Listing(tuple(sorted(samples, key=lambda sample: sample.id)), tuple(quarantined))


def _labels_of_frames(
    dataset: Dataset, labels: PictureLabels, source: str
) -> tuple[dict[str, int], list[Quarantined]]:
    """The label of each frame of a folder by its number; frames without one, and labels without a frame."""
    folder = dataset.path / source
    try:
        order = ordered(folder)
    except SourceError as error:
        return {}, [Quarantined(source, problem) for problem in error.problems]
    texts = _label_folder(labels.files, source)
    found: dict[str, int] = {}
    missing: list[Quarantined] = []
    for number, name in zip(frame_numbers(order), order.names, strict=True):
        label = _read_label(dataset, texts / f"{PurePosixPath(name).stem}.txt")
        if isinstance(label, int):
            found[number] = label
        else:
            missing.append(Quarantined(f"{source}/{name}", label))
    stems = {PurePosixPath(name).stem for name in order.names}
    for text in sorted(texts.glob("*.txt")):
        if text.stem not in stems:
            problem = Problem(str(text), Code.NO_FILE, "there is no frame for it", f"add the frame, {ALLOW}")
            missing.append(Quarantined(f"{source}/{text.stem}", problem))
    return found, missing


def _label_folder(files: Path, source: str) -> Path:
    steps = PurePosixPath(source).parts
    if "videos" in steps:
        steps = tuple("labels" if step == "videos" else step for step in steps)
    return files.joinpath(*steps)


def _read_label(dataset: Dataset, file: Path) -> int | Problem:
    """The index of the class whose value stands in a file, or why there is none."""
    try:
        with file.open("rb") as opened:
            text = opened.read(MAX_LABEL_BYTES).decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        return Problem(str(file), Code.NO_LABEL, str(reason), f"write the class of its frame, {ALLOW}")
    values = list(dataset.classes)
    if text in values:
        return values.index(text)
    close = nearest(text, values)
    remedy = f"did you mean `{close}`?" if close else f"write one of {', '.join(values)}, {ALLOW}"
    return Problem(str(file), Code.UNKNOWN_LABEL, f"`{text[:80]}` is no class", remedy)


# --- lists of slices ----------------------------------------------------------------------------


def list_slices(dataset: Dataset) -> Listing:
    """One sample for each scan of the lists. Raises ConfigError with all faults of all lists."""
    lists = _parsed_lists(dataset)
    scans: defaultdict[str, list[Slice]] = defaultdict(list)
    for item in chain.from_iterable(lists.values()):
        scans[scan_of(item.file)].append(item)
    files = {part: [item.file for item in slices] for part, slices in lists.items()}
    warnings = (*_unknown_forms(dataset, files), *_shared_patients(dataset, files))
    return replace(_listing_of(dataset, scans), warnings=warnings)


def split_of_lists(dataset: Dataset) -> dict[str, tuple[str, ...]]:
    """The ids of each split's list: names without suffix, or those of their scans. Raises ConfigError."""
    whole = dataset.recipe.sample == "stack"
    return {
        part: tuple(
            dict.fromkeys(scan_of(item.file) if whole else PurePosixPath(item.file).stem for item in slices)
        )
        for part, slices in _parsed_lists(dataset).items()
    }


def _same_ids(dataset: Dataset, lists: Mapping[str, Sequence[Slice]]) -> Iterator[Problem]:
    """Slices that differ by their suffix only: their ids would be the same."""
    files = {item.file for slices in lists.values() for item in slices}
    stems = Counter(PurePosixPath(file).stem for file in files)
    for stem, count in stems.items():
        if count > 1:
            reason = f"{count} files are called {stem}"
            yield Problem(str(dataset.path), Code.AMBIGUOUS_ID, reason, "rename or remove all but one")


def scan_of(file: str) -> str:
    """The scan that a slice is of, by its file's name, as lists of slices have it."""
    return _patient_and_scan(file)[1]


def _patient_and_scan(file: str) -> tuple[str, str]:
    """Patient and scan of a slice; of a name of unknown form, both are what stands before its number."""
    series = series_and_number(file)[0].partition("*")[0].rstrip("-_")
    return patient_and_scan(file) or (series, series)


def _parsed_lists(dataset: Dataset) -> dict[str, tuple[Slice, ...]]:
    """The slices of each list. Raises ConfigError with all faults of all lists."""
    assert isinstance(dataset.labels, ListLabels), "the catalog lets only slices have lists"
    lists: dict[str, tuple[Slice, ...]] = {}
    problems: list[Problem] = []
    first_list: dict[str, Path] = {}
    for part, file in dataset.labels.lists.items():
        try:
            slices = parse_list(read_text(file, key="labels"), where=str(file), classes=len(dataset.classes))
        except ConfigError as error:
            problems += error.problems
            continue
        twice = [item.file for item in slices if first_list.setdefault(item.file, file) != file]
        if twice:
            reason = f"{some(twice, 'slice')} also in {first_list[twice[0]].name}"
            problems.append(Problem(str(file), Code.LIST_OVERLAP, reason, "keep each slice in one list"))
        lists[part] = slices
    problems += _same_ids(dataset, lists)
    if problems:
        raise ConfigError(*problems)
    return lists


def _listing_of(dataset: Dataset, scans: Mapping[str, list[Slice]]) -> Listing:
    samples: list[Sample] = []
    quarantined: list[Quarantined] = []
    there = {entry.name for entry in dataset.path.iterdir()}
    for scan, slices in sorted(scans.items()):
        slices.sort(key=lambda item: natural_key(item.file))
        absent = [item.file for item in slices if item.file not in there]
        quarantined += [Quarantined(name, _no_picture(dataset, name)) for name in absent]
        kept = [item for item in slices if item.file in there]
        if kept:
            labels = {PurePosixPath(item.file).stem: item.label for item in kept}
            listed = tuple(Listed(item.file, item.box) for item in kept)
            patient, _ = _patient_and_scan(kept[0].file)
            made = Sample(scan, 0, patient, scan, dataset.path, "", listed, labels)
            _sort(dataset, made, samples, quarantined)
    return Listing(tuple(samples), tuple(quarantined))


def _shared_patients(dataset: Dataset, files: Mapping[str, Sequence[str]]) -> Iterator[Problem]:
    shared = list(shared_patients(files))
    if shared:
        reason = f"{some(shared, 'patient')} in several lists: as they are given, the splits leak"
        yield Problem(str(dataset.path), Code.GROUP_LEAK, reason, "list each patient once")


def _unknown_forms(dataset: Dataset, files: Mapping[str, Sequence[str]]) -> Iterator[Problem]:
    unknown = unknown_names(chain.from_iterable(files.values()))
    if unknown:
        reason = f"{some(unknown, 'name')}: of none of COVIDx-CT's forms; what stands before the number is"
        reason += " taken for the scan, and for the patient"
        yield Problem(str(dataset.path), Code.UNKNOWN_SCAN, reason, "check that no patient is in two splits")


def _no_picture(dataset: Dataset, name: str) -> Problem:
    reason = "a list names it, and there is no such file"
    return Problem(str(dataset.path / name), Code.NO_FILE, reason, f"add it, {ALLOW}")


# --- a table with a line for each picture -------------------------------------------------------


def label_pictures_by_table(dataset: Dataset, labels: TableLabels, ids: Mapping[str, str]) -> Listing | None:
    """Samples of the folders of frames where the table names frames; None where it names folders.

    Raises ConfigError as ``label_by_table`` does.
    """
    lines = {line.id for line in read_table(labels)}
    if lines & set(_names_of(ids)):
        return None
    pictures: dict[str, str] = {}
    for source, sample in ids.items():
        order = ordered(dataset.path / source)
        numbers = zip(frame_numbers(order), order.names, strict=True)
        pictures |= {f"{source}/{name}": f"{sample}/{number}" for number, name in numbers}
    listing = label_by_table(dataset, labels, pictures, endings=dataset.source_type.suffixes)
    samples: list[Sample] = []
    quarantined = list(listing.quarantined)
    by_stack: defaultdict[str, list[Sample]] = defaultdict(list)
    for picture in listing.samples:
        by_stack[picture.source.rpartition("/")[0]].append(picture)
    for source, found in by_stack.items():
        name = ids[source]
        own = {picture.id.removeprefix(f"{name}/"): picture.label for picture in found}
        made = Sample(name, 0, _one_group(labels, found), source, dataset.path / source, labels=own)
        _sort(dataset, made, samples, quarantined)
    samples.sort(key=lambda sample: sample.id)
    return replace(listing, samples=tuple(samples), quarantined=tuple(quarantined))


def _names_of(ids: Mapping[str, str]) -> Iterator[str]:
    for source in ids:
        yield source
        yield PurePosixPath(source).name


def _one_group(labels: TableLabels, pictures: Sequence[Sample]) -> str:
    """The group that all pictures of a stack share. Raises ConfigError if they have several."""
    groups = sorted({picture.group for picture in pictures})
    if len(groups) > 1:
        stack = pictures[0].source.rpartition("/")[0]
        reason = f"the pictures of {stack} have several groups: {', '.join(groups)}"
        raise ConfigError.of(labels.file, Code.CONTRADICTION, reason, "give a stack one group")
    return groups[0]


# --- all of them --------------------------------------------------------------------------------


def _sort(dataset: Dataset, made: Sample, samples: list[Sample], quarantined: list[Quarantined]) -> None:
    """Put a source whose pictures have labels where it belongs: a whole stack needs one label."""
    different = sorted(set((made.labels or {}).values()))
    if dataset.recipe.sample == "picture":
        samples.append(replace(made, label=different[0]))
    elif len(different) == 1:
        samples.append(replace(made, label=different[0], labels=None))
    else:
        names = ", ".join(dataset.class_names[label] for label in different)
        reason = f"its pictures are of several classes: {names}"
        remedy = "use `sample: picture`, or cut the stack where the class changes"
        quarantined.append(
            Quarantined(made.source, Problem(str(made.path), Code.MIXED_LABELS, reason, remedy))
        )
