"""Labels and groups of sources, from their paths or from a table."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath

from pipeline.catalog.patterns import LIMIT_SECONDS, search
from pipeline.catalog.schema import Dataset, PathLabels, TableLabels
from pipeline.errors import Code, ConfigError, Problem
from pipeline.escape import printable
from pipeline.nearest import misspelt, nearest
from pipeline.readers import SOURCE_TYPES
from pipeline.sources.discover import stem_of
from pipeline.sources.quarantine import Quarantined
from pipeline.sources.samples import Listing, Sample
from pipeline.sources.table import FIX_TABLE, TableLine, read_table, unique_lines

# An error by default: a misspelt label must not drop its samples without a word.
LEAVE_OUT = "`labels: {others: leave-out}` leaves lines of other classes out"
# What people have in place of NIfTI, and a free program that converts it.
CONVERTERS = {
    ".dcm": "dcm2niix",
    ".ima": "dcm2niix",
    ".mha": "SimpleITK",
    ".mhd": "SimpleITK",
    ".nrrd": "SimpleITK",
}


# --- from paths ---------------------------------------------------------------------------------


def label_by_path(dataset: Dataset, labels: PathLabels, ids: Mapping[str, str]) -> Listing:
    """Samples of the sources whose paths match; those of other classes are left out, the rest quarantined."""
    index = {value: position for position, value in enumerate(dataset.classes)}
    samples, quarantined, left_out = [], [], Counter[str]()
    for source, sample in ids.items():
        groups = _groups(dataset, labels, source)
        label = groups["label"] if groups else None
        # A named group that took no part in the match is None, one that matched nothing is empty.
        if groups is None or not label:
            remedy = "correct `labels.regex`, move the file, or use --allow-missing"
            reason = "its path does not match `labels.regex`"
            quarantined.append(
                Quarantined(source, Problem(str(dataset.path / source), Code.NO_LABEL, reason, remedy))
            )
        elif label not in index:
            left_out[label] += 1
        else:
            group = groups.get("group") or ""
            samples.append(Sample(sample, index[label], group, source, dataset.path / source))
    return Listing(_sorted(samples), tuple(quarantined), dict(sorted(left_out.items())))


def _groups(dataset: Dataset, labels: PathLabels, source: str) -> Mapping[str, str | None] | None:
    try:
        return search(labels.regex, source)
    except TimeoutError:
        reason = f"`{labels.regex}` takes over {LIMIT_SECONDS:g} s for this path"
        remedy = "correct `labels.regex`: repeat nothing that is itself repeated, as in (a+)+"
        raise ConfigError.of(dataset.path / source, Code.SLOW_REGEX, reason, remedy) from None


def no_match(dataset: Dataset, labels: PathLabels, without: Sequence[Quarantined], total: int) -> Problem:
    """One problem for all the sources ``without`` a match, of ``total``."""
    names = ", ".join(item.source for item in without[:3])
    reason = f"`{labels.regex}` matches {total - len(without)} of {total} files, not e.g. {names}"
    remedy = "correct `labels.regex`, move the files, or use --allow-missing"
    return Problem(str(dataset.path), Code.NO_LABEL, reason, remedy)


# --- from a table -------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Matched:
    """The line of each source, the lines without a source, and the lines that are wrong."""

    lines: Mapping[str, TableLine]
    missing: tuple[TableLine, ...]
    problems: tuple[Problem, ...]


def label_by_table(
    dataset: Dataset,
    labels: TableLabels,
    ids: Mapping[str, str],
    *,
    excluded: Iterable[str] = (),
    others: Iterable[str] = (),
    endings: tuple[str, ...] | None = None,
) -> Listing:
    """Samples of the sources that the table names; lines about ``excluded`` sources are ignored.

    ``others`` are files of other types, to explain why a line has no source; ``endings`` are what names in
    the table may do without, as a rule the type's. Raises ConfigError with every
    fault of the table.
    """
    lines, warnings = unique_lines(read_table(labels))
    matched = _match(lines, _by_name((*ids, *excluded), endings or dataset.source_type.endings))
    wanted = {source: line for source, line in matched.lines.items() if source in ids}
    # A line of another class keeps its source from being one without a label.
    other_lines = [line for line in (*wanted.values(), *matched.missing) if line.label not in dataset.classes]
    missing = [line for line in matched.missing if line.label in dataset.classes]
    quarantined = list(_no_file(dataset, missing, others))
    problems = list(matched.problems)
    if other_lines and labels.others == "refuse":
        problems.append(_unknown_labels(other_lines, dataset))
    if problems:
        # A wrong table is often one of other files, so missing files are shown even where they are allowed.
        raise ConfigError(*problems, *(item.problem for item in quarantined))
    quarantined += [_no_label(dataset, labels, source) for source in ids if source not in wanted]
    left_out = dict(sorted(Counter(line.label for line in other_lines).items()))
    return Listing(_samples(dataset, ids, wanted), tuple(quarantined), left_out, tuple(warnings))


def _samples(dataset: Dataset, ids: Mapping[str, str], lines: Mapping[str, TableLine]) -> tuple[Sample, ...]:
    index = {value: position for position, value in enumerate(dataset.classes)}
    return _sorted(
        Sample(ids[source], index[line.label], line.group, source, dataset.path / source, line.sha256.lower())
        for source, line in lines.items()
        if line.label in index
    )


def _sorted(samples: Iterable[Sample]) -> tuple[Sample, ...]:
    return tuple(sorted(samples, key=lambda sample: sample.id))


def _by_name(sources: Iterable[str], suffixes: tuple[str, ...]) -> Mapping[str, list[str]]:
    """From each name that a table may use, path or file name with or without suffix, to the files it fits."""
    named: defaultdict[str, list[str]] = defaultdict(list)
    for source in sources:
        name = PurePosixPath(source).name
        for key in {source, stem_of(source, suffixes), name, stem_of(name, suffixes)}:
            named[key].append(source)
    return named


def _match(lines: Iterable[TableLine], by_name: Mapping[str, list[str]]) -> _Matched:
    """Find the source of each line. A line of another class has a source as well, which needs no label."""
    found: dict[str, TableLine] = {}
    missing, problems = [], []
    for line in lines:
        named = by_name.get(line.id, [])
        fault = _line_problem(line, named)
        if fault:
            problems.append(fault)
        elif not named:
            missing.append(line)
        elif named[0] in found:
            reason = f"`{line.id}` names the file {named[0]} a second time"
            problems.append(Problem(line.where, Code.DUPLICATE_ID, reason, FIX_TABLE))
        else:
            found[named[0]] = line
    return _Matched(found, tuple(missing), tuple(problems))


def _line_problem(line: TableLine, named: list[str]) -> Problem | None:
    # Tables come from Windows too, where `C:` and a backslash lead out of the folder.
    windows = PureWindowsPath(line.id)
    for text in (line.id, line.label, line.group):
        if printable(text) != text:
            reason = f"`{printable(text)}` holds a control character"
            return Problem(line.where, Code.BAD_NAME, reason, FIX_TABLE)
    if windows.is_absolute() or windows.drive or line.id.startswith(("/", "~")) or ".." in windows.parts:
        reason = f"`{line.id}` points outside the dataset's folder"
        return Problem(line.where, Code.PATH_OUTSIDE_ROOT, reason, "name files below `path`")
    if len(named) > 1:
        reason = f"`{line.id}` may be any of {', '.join(named)}"
        return Problem(line.where, Code.AMBIGUOUS_ID, reason, "write the file's path in the table")
    if not re.fullmatch(r"([0-9a-fA-F]{64})?", line.sha256):
        reason = f"`{line.sha256[:80]}` is not a SHA-256 in 64 hexadecimal digits"
        return Problem(line.where, Code.BAD_SHA256, reason, "give what `sha256sum` prints, or nothing")
    return None


# --- labels that are no class -------------------------------------------------------------------


def _unknown_labels(other_lines: Sequence[TableLine], dataset: Dataset) -> Problem:
    """One problem for all labels that are no class, with the lines of each and the nearest class."""
    lines: defaultdict[str, list[TableLine]] = defaultdict(list)
    for line in sorted(other_lines, key=lambda line: int(line.number)):
        lines[line.label].append(line)
    shown = [_in_lines(label, found) for label, found in list(lines.items())[:5]]
    more = f" and {len(lines) - 5} more labels" if len(lines) > 5 else ""
    verb = "are not among" if len(lines) > 1 else "is not one of"
    reason = f"{', '.join(shown)}{more} {verb} {', '.join(dataset.classes)}"
    # Each suggestion once: several misspellings may be of one class.
    close = [found for found in (_nearest_class(label, dataset) for label in lines) if found]
    meant = f"did you mean {', '.join(f'`{name}`' for name in dict.fromkeys(close))}? " if close else ""
    first = next(iter(lines.values()))[0]
    return Problem(first.where, Code.UNKNOWN_LABEL, reason, f"{meant}{FIX_TABLE}; {LEAVE_OUT}")


def _in_lines(label: str, lines: Sequence[TableLine]) -> str:
    if len(lines) == 1:
        return f"`{label}`"
    numbers = ", ".join(line.number for line in lines[:3])
    return f"`{label}` (in {len(lines)} lines: {numbers}{', …' * (len(lines) > 3)})"


def _nearest_class(label: str, dataset: Dataset) -> str | None:
    """The value of the class that a label was probably meant to be.

    People write the class's name where the table has a number for it, so names are compared as well.
    """
    values = {name: value for value, name in dataset.classes.items()}
    close = nearest(label, [*dataset.classes, *values])
    return values.get(close, close) if close and close not in dataset.classes else close


def misspelt_labels(where: str, left_out: Mapping[str, int], dataset: Dataset) -> Iterator[Problem]:
    """A warning for each label that is left out but is so like a class that it may be a misspelt one."""
    for label, count in left_out.items():
        close = misspelt(label, dataset.classes)
        if close:
            reason = f"`{label}`, left out in {count} places, is like the class `{close}`"
            yield Problem(where, Code.MISSPELT_LABEL, reason, "check that it is another class")


# --- what has no partner ------------------------------------------------------------------------


def _no_file(dataset: Dataset, lines: Iterable[TableLine], others: Iterable[str]) -> Iterator[Quarantined]:
    by_stem = {name: path for path in others for name in _names_without_suffix(path)}
    for line in lines:
        other = by_stem.get(line.id)
        if other is None:
            reason, remedy = f"there is no file for `{line.id}` below {dataset.path}", "add the file"
        else:
            reason = f"`{line.id}` is {other}, which is no file of type {dataset.type}"
            remedy = other_type(PurePosixPath(other).suffix.lower()) or "convert it first"
        problem = Problem(line.where, Code.NO_FILE, reason, f"{remedy}, or use --allow-missing")
        yield Quarantined(line.id, problem)


def _names_without_suffix(path: str) -> set[str]:
    pure = PurePosixPath(path)
    return {path, pure.name, pure.stem, pure.with_suffix("").as_posix()}


def other_type(suffix: str) -> str:
    """What to do with files of a suffix that is none of a dataset's type; empty where nothing is known."""
    for source in SOURCE_TYPES.values():
        if suffix in source.suffixes:
            return f"use `type: {source.name}`"
    return f"convert them first, e.g. with {CONVERTERS[suffix]}" if suffix in CONVERTERS else ""


def _no_label(dataset: Dataset, labels: TableLabels, source: str) -> Quarantined:
    reason = f"it has no line in {labels.file}"
    problem = Problem(str(dataset.path / source), Code.NO_LABEL, reason, "add a line, or use --allow-missing")
    return Quarantined(source, problem)
