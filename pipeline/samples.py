"""From a dataset to its samples: which files there are, and which label and group each one has.

A sample's id is its file name without suffixes; files that share that name are called by their path
below the folder. All faults of a label table are told at once.
"""

import csv
import io
import os
import re
import stat
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath, PureWindowsPath

from pipeline.catalog import NiftiDataset, PathLabels, TableLabels, VideoDataset
from pipeline.errors import ConfigError, Problem, ResourceError
from pipeline.quarantine import Quarantined
from pipeline.readers import READERS

MAX_TABLE_BYTES = 64_000_000
FIX_TABLE = "correct the table"


@dataclass(frozen=True)
class Sample:
    """One source with its id, its label (an index into the classes) and its group ("": none).

    ``sha256`` is what its bytes must hash to ("": anything).
    """

    id: str
    label: int
    group: str
    source: str
    path: Path
    sha256: str = ""


@dataclass(frozen=True)
class Listing:
    """Samples sorted by id; sources or labels without a partner; labels that are no class; warnings."""

    samples: tuple[Sample, ...]
    unmatched: tuple[Quarantined, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)
    warnings: tuple[Problem, ...] = ()


@dataclass(frozen=True)
class _Label:
    """One line of a label table."""

    where: str
    id: str
    label: str
    group: str
    sha256: str


def list_samples(dataset: NiftiDataset | VideoDataset, *, allow_missing: bool = False) -> Listing:
    """List a dataset's samples.

    Raises ConfigError, with all faults, for a folder or table that cannot be read, ids that are
    ambiguous, labels that are not among the classes or all the same, and, unless ``allow_missing``,
    for files without a label and labels without a file.
    """
    _check_folder(dataset)
    sources = find_sources(dataset.path, READERS[dataset.type].suffixes)
    sources, nameless = part_by_name(dataset.path, sources)
    ids = sample_ids(sources, READERS[dataset.type].suffixes)
    problems = list(_ambiguous(dataset.path, ids))
    if problems:
        raise ConfigError(*problems)
    if isinstance(dataset.labels, PathLabels):
        listing = _label_by_path(dataset, dataset.labels, ids)
    else:
        listing = _label_by_table(dataset, dataset.labels, ids)
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


def find_sources(folder: Path, suffixes: tuple[str, ...]) -> list[str]:
    """Paths below a folder, with `/`, of everything whose name ends so in any letter case; sorted.

    Names that start with a dot are left out. Linked folders are followed, each folder once.
    """
    found, seen = [], set()
    for root, folders, files in os.walk(folder, onerror=_refuse_folder, followlinks=True):
        status = Path(root).stat()
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        named = [name for name in folders if name.lower().endswith(suffixes)]
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in named)
        names = [name for name in files if name.lower().endswith(suffixes)] + named
        found += [
            Path(root, name).relative_to(folder).as_posix() for name in names if not name.startswith(".")
        ]
    return sorted(found)


def _refuse_folder(error: OSError) -> None:
    raise ResourceError.of(
        error.filename, "unreadable", str(error.strerror), "check its permissions"
    ) from None


def _check_folder(dataset: NiftiDataset | VideoDataset) -> None:
    try:
        is_folder = dataset.path.is_dir()
        reason = "it is not a folder" if dataset.path.exists() else "there is no such folder"
    except OSError as error:
        is_folder, reason = False, str(error.strerror)
    if not is_folder:
        remedy = f"correct `path` of dataset {dataset.name}, or put the sources there"
        raise ConfigError.of(dataset.path, "no-folder", reason, remedy)
    path, store = dataset.path.resolve(), dataset.store.resolve()
    if path == store or path in store.parents:
        reason = f"the store lies inside the folder of sources {dataset.path}"
        raise ConfigError.of(dataset.store, "store-in-sources", reason, "choose a store outside of it")
    if store in path.parents:
        reason = f"the folder of sources {dataset.path} lies inside the store"
        raise ConfigError.of(dataset.store, "sources-in-store", reason, "choose a store beside it")


def part_by_name(folder: Path, sources: list[str]) -> tuple[list[str], list[Quarantined]]:
    """Part the sources whose names are not UTF-8: a table of texts cannot hold them."""
    shown = {source: os.fsencode(source).decode("utf-8", "backslashreplace") for source in sources}
    nameless = [
        Quarantined(text, Problem(f"{folder}/{text}", "bad-name", "its name is not UTF-8", "rename it"))
        for source, text in shown.items()
        if source != text
    ]
    return [source for source, text in shown.items() if source == text], nameless


def sample_ids(sources: list[str], suffixes: tuple[str, ...]) -> dict[str, str]:
    """Source → id: its name without suffix, or the whole source where several have that name."""
    stems = {source: _stem(PurePosixPath(source).name, suffixes) for source in sources}
    shared = Counter(stems.values())
    return {source: stem if shared[stem] == 1 else source for source, stem in stems.items()}


def _stem(name: str, suffixes: tuple[str, ...]) -> str:
    suffix = next((suffix for suffix in suffixes if name.lower().endswith(suffix)), "")
    return name[: len(name) - len(suffix)] or name


def _ambiguous(folder: Path, ids: Mapping[str, str]) -> Iterator[Problem]:
    """Ids that differ only by letter case or Unicode form: not every file system can tell them apart."""
    same = defaultdict(list)
    for source, sample in ids.items():
        same[unicodedata.normalize("NFC", sample).casefold()].append(source)
    for sources in same.values():
        if len(sources) > 1:
            reason = f"the ids of {', '.join(sources)} differ only by letter case or Unicode form"
            yield Problem(str(folder / sources[0]), "ambiguous-id", reason, "rename or remove all but one")


# --- labels from paths --------------------------------------------------------------------------


def _label_by_path(
    dataset: NiftiDataset | VideoDataset, labels: PathLabels, ids: Mapping[str, str]
) -> Listing:
    index = {value: position for position, value in enumerate(dataset.classes)}
    samples, unmatched, left_out = [], [], Counter[str]()
    for source, sample in ids.items():
        match = re.search(labels.regex, source)
        if match is None or not match["label"]:
            remedy = "correct `labels.regex`, move the file, or use --allow-missing"
            problem = Problem(str(dataset.path / source), "no-label", "its path does not match", remedy)
            unmatched.append(Quarantined(source, problem))
        elif match["label"] not in index:
            left_out[match["label"]] += 1
        else:
            group = match.groupdict().get("group") or ""
            samples.append(Sample(sample, index[match["label"]], group, source, dataset.path / source))
    return Listing(_sorted(samples), tuple(unmatched), dict(sorted(left_out.items())))


def _sorted(samples: list[Sample]) -> tuple[Sample, ...]:
    return tuple(sorted(samples, key=lambda sample: sample.id))


# --- labels from a table ------------------------------------------------------------------------


def _label_by_table(
    dataset: NiftiDataset | VideoDataset, labels: TableLabels, ids: Mapping[str, str]
) -> Listing:
    lines, warnings = _unique(_read_table(labels))
    by_key = _by_key(ids, READERS[dataset.type].suffixes)
    index = {value: position for position, value in enumerate(dataset.classes)}
    problems, unmatched, samples, used = [], [], [], set()
    for line in lines:
        named = by_key.get(line.id, [])
        source = named[0] if named else None
        fault = _line_problem(line, index, named)
        if fault:
            problems.append(fault)
        elif source is None:
            reason = f"there is no file for `{line.id}` below {dataset.path}"
            problem = Problem(line.where, "no-file", reason, "add the file, or use --allow-missing")
            unmatched.append(Quarantined(line.id, problem))
        elif source in used:
            reason = f"`{line.id}` names the file {source} a second time"
            problems.append(Problem(line.where, "duplicate-id", reason, FIX_TABLE))
        else:
            used.add(source)
            path, label = dataset.path / source, index[line.label]
            samples.append(Sample(ids[source], label, line.group, source, path, line.sha256.lower()))
    if problems:
        raise ConfigError(*problems, *(item.problem for item in unmatched))
    unmatched += [_no_label(dataset, labels, source) for source in ids if source not in used]
    return Listing(_sorted(samples), tuple(unmatched), {}, tuple(warnings))


def _no_label(dataset: NiftiDataset | VideoDataset, labels: TableLabels, source: str) -> Quarantined:
    reason = f"it has no line in {labels.file}"
    problem = Problem(str(dataset.path / source), "no-label", reason, "add a line, or use --allow-missing")
    return Quarantined(source, problem)


def _by_key(ids: Mapping[str, str], suffixes: tuple[str, ...]) -> Mapping[str, list[str]]:
    """What a table may call a file, its path or its name with or without suffixes → the files meant."""
    named: defaultdict[str, list[str]] = defaultdict(list)
    for source in ids:
        name = PurePosixPath(source).name
        for key in {source, _stem(source, suffixes), name, _stem(name, suffixes)}:
            named[key].append(source)
    return named


def _line_problem(line: _Label, index: Mapping[str, int], named: list[str]) -> Problem | None:
    windows = PureWindowsPath(line.id)
    outside = (
        windows.is_absolute() or windows.drive or line.id.startswith(("/", "~")) or ".." in windows.parts
    )
    if outside:
        reason = f"`{line.id}` points outside the dataset's folder"
        return Problem(line.where, "path-outside-root", reason, "name files below `path`")
    if len(named) > 1:
        reason = f"`{line.id}` may be any of {', '.join(named)}"
        return Problem(line.where, "ambiguous-id", reason, "write the file's path in the table")
    if line.label not in index:
        known = ", ".join(index)
        return Problem(line.where, "unknown-label", f"`{line.label}` is not one of {known}", FIX_TABLE)
    if not re.fullmatch(r"([0-9a-fA-F]{64})?", line.sha256):
        reason = f"`{line.sha256[:80]}` is not a SHA-256 in 64 hexadecimal digits"
        return Problem(line.where, "bad-sha256", reason, "give what `sha256sum` prints, or nothing")
    return None


def _unique(lines: list[_Label]) -> tuple[list[_Label], list[Problem]]:
    """Drop lines that say again what an earlier one said; refuse those that contradict it."""
    first: dict[str, _Label] = {}
    problems, warnings = [], []
    for line in lines:
        earlier = first.setdefault(line.id, line)
        if earlier is line:
            continue
        if replace(line, where=earlier.where) == earlier:
            warnings.append(
                Problem(line.where, "duplicate-id", f"`{line.id}` stands twice", "remove one line")
            )
        else:
            reason = f"`{line.id}` has another label, group or hash in {earlier.where}"
            problems.append(Problem(line.where, "contradiction", reason, "keep the right line"))
    if problems:
        raise ConfigError(*problems)
    return list(first.values()), warnings


def _read_table(labels: TableLabels) -> list[_Label]:
    text = _table_text(labels.file)
    rows = list(_csv_rows(labels.file, text))
    wanted = [labels.id, labels.label, labels.group, labels.sha256]
    _, header = rows[0] if rows else (1, [])
    _check_header(labels.file, header, [name for name in wanted if name])
    if len(rows) == 1:
        raise ConfigError.of(labels.file, "empty-table", "it has a header but no lines", FIX_TABLE)
    ragged = [str(number) for number, cells in rows if len(cells) != len(header)]
    if ragged:
        reason = f"line {', '.join(ragged)}: not {len(header)} columns as in the header"
        raise ConfigError.of(labels.file, "ragged-table", reason, FIX_TABLE)
    columns = [header.index(name) if name else len(header) for name in wanted]
    table = [(number, [*cells, ""]) for number, cells in rows[1:]]
    return [
        _Label(f"{labels.file}:{number}", *(cells[column] for column in columns)) for number, cells in table
    ]


def _table_text(file: Path) -> str:
    try:
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError.of(file, "no-table", "it is not a file", "correct `labels.file`")
        data = file.read_bytes() if status.st_size <= MAX_TABLE_BYTES else None
    except OSError as error:
        raise ConfigError.of(file, "no-table", str(error.strerror), "correct `labels.file`") from None
    if data is None:
        raise ConfigError.of(
            file, "too-large", f"over {MAX_TABLE_BYTES} bytes", "give a table of labels only"
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        where = _where(file, data, error.start)
        raise ConfigError.of(
            where, "not-utf-8", f"byte {error.start} is not UTF-8", "save it as UTF-8"
        ) from None
    if "\0" in text:
        where = _where(file, data, data.index(0))
        raise ConfigError.of(where, "nul-byte", "it holds a NUL byte", "save it as plain text, UTF-8")
    if "\r" in text.replace("\r\n", ""):
        raise ConfigError.of(
            file, "line-ends", "its lines end with CR alone", "save it with LF or CRLF line ends"
        )
    return text


def _where(file: Path, data: bytes, offset: int) -> str:
    newlines = data[:offset].count(b"\n")
    return f"{file}:{newlines + 1}"


def _csv_rows(file: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """Rows that are not blank, each with the number of its first line."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    while True:
        number = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            remedy = "balance the quotes; give a table of labels only"
            raise ConfigError.of(f"{file}:{number}", "not-csv", str(error), remedy) from None
        if cells is None:
            return
        if cells:
            yield number, cells


def _check_header(file: Path, header: list[str], wanted: list[str]) -> None:
    if not header:
        raise ConfigError.of(file, "empty-table", "the file is empty", FIX_TABLE)
    twice = [name for name, count in Counter(header).items() if count > 1]
    if twice:
        raise ConfigError.of(f"{file}:1", "duplicate-column", f"`{twice[0]}` stands twice", FIX_TABLE)
    missing = [name for name in wanted if name not in header]
    if missing:
        found = f"{len(header)} column{'s' * (len(header) > 1)}: {', '.join(map(repr, header))}"
        reason = f"no column {', '.join(map(repr, missing))} (found {found})"
        raise ConfigError.of(
            f"{file}:1", "no-column", reason, "separate columns by commas, or correct `labels`"
        )
