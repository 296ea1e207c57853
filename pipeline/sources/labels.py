"""Labels and groups of sources, from their paths or from a table."""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import PurePosixPath, PureWindowsPath

from pipeline.catalog.schema import Dataset, PathLabels, TableLabels
from pipeline.errors import ConfigError, Problem
from pipeline.escape import printable
from pipeline.sources.discover import stem_of
from pipeline.sources.quarantine import Quarantined
from pipeline.sources.samples import Listing, Sample
from pipeline.sources.table import FIX_TABLE, TableLine, read_table, unique_lines


def label_by_path(dataset: Dataset, labels: PathLabels, ids: Mapping[str, str]) -> Listing:
    """Samples of the sources whose paths match; the others are unmatched or, of another class, left out."""
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


def label_by_table(dataset: Dataset, labels: TableLabels, ids: Mapping[str, str]) -> Listing:
    """Samples of the sources that the table names. Raises ConfigError with every fault of the table."""
    lines, warnings = unique_lines(read_table(labels))
    by_key = _by_key(ids, dataset.source_type.suffixes)
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


def _no_label(dataset: Dataset, labels: TableLabels, source: str) -> Quarantined:
    reason = f"it has no line in {labels.file}"
    problem = Problem(str(dataset.path / source), "no-label", reason, "add a line, or use --allow-missing")
    return Quarantined(source, problem)


def _by_key(ids: Mapping[str, str], suffixes: tuple[str, ...]) -> Mapping[str, list[str]]:
    """What a table may call a file, its path or its name with or without suffixes → the files meant."""
    named: defaultdict[str, list[str]] = defaultdict(list)
    for source in ids:
        name = PurePosixPath(source).name
        for key in {source, stem_of(source, suffixes), name, stem_of(name, suffixes)}:
            named[key].append(source)
    return named


def _line_problem(line: TableLine, index: Mapping[str, int], named: list[str]) -> Problem | None:
    for text in (line.id, line.label, line.group):
        if printable(text) != text:
            reason = f"`{printable(text)}` holds a control character"
            return Problem(line.where, "bad-name", reason, FIX_TABLE)
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
