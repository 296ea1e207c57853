"""COVIDx-CT's lists of slices: text in, records out.

A line is ``filename class xmin ymin xmax ymax``, single spaces between. Boxes are half-open and lie in the
picture's own pixels; whether they fit in it is seen where it is read. A file name says which scan of
which patient it shows, in one form for each of the collections that COVIDx-CT was made of.

Source: H. Gunraj, A. Sabri, D. Koff, A. Wong, "COVID-Net CT-2", Frontiers in Medicine 8, 2022, and its
``docs/dataset.md``.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

from pipeline.errors import ConfigError, Problem

Box = tuple[int, int, int, int]

FORM = "filename class xmin ymin xmax ymax"
LINE = re.compile(r"([^\s/\\]+) (\d{1,9}) (\d{1,9}) (\d{1,9}) (\d{1,9}) (\d{1,9})", re.ASCII)

# What stands before the slice's number, and in it what stands for the patient; the largest collections
# first, since names are tried against one after the other.
SCANS = (
    r"(?P<patient>(?:Normal|CP|NCP)_\d+)_\d+",  # CNCB
    r"(?P<patient>STOIC-\d+)",
    # TCIA; 0383_0 and 0383_1 are two scans of case 0383, though the metadata lists them as two patients
    r"(?P<patient>volume-covid19-A-\d+)(?:_\d+)?_ct",
    r"(?P<patient>COVIDCTMD-(?:P|cap|normal)\d+)",
    r"(?P<patient>LIDC-IDRI-\d+)-[\d.]+",
    r"(?:\d+covid|normal(?:cd)?\d+)_(?P<patient>patient\d+)_SR_\d+",  # COVID-CTset
    r"(?P<patient>coronacases_\d+)",
    r"(?P<patient>radiopaedia_\d+_\d+)_\d+",  # COVID-19-CT-Seg
    r"(?P<patient>radiopaedia-\d+)-\d+-\d+",
    r"(?P<patient>study_\d+)",  # MosMedData
    r"(?P<patient>HUST-Patient\d+)",  # iCTCF
    r"(?P<patient>A\d+)-\S+-\d+",  # Stony Brook
)
NAMES = tuple(re.compile(rf"(?P<scan>{scan})[-_](?:IM)?\d+\.\w+", re.ASCII) for scan in SCANS)


class Slice(NamedTuple):
    """One line: a picture, the index of its class, and the box (xmin, ymin, xmax, ymax) of the body."""

    file: str
    label: int
    box: Box


def parse_list(text: str, *, where: str, classes: int) -> tuple[Slice, ...]:
    """All slices of a list, in its order; ``where`` names it in errors, ``classes`` is how many there are.

    Raises ConfigError with a problem for each faulty line: bad-line (not of this form, or with a path or a
    space in the name), bad-class, bad-box (empty), duplicate-file; or empty-list.
    """
    slices: list[Slice] = []
    problems: list[Problem] = []
    first_lines: dict[str, int] = {}
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), start=1):
        found = LINE.fullmatch(line)
        if found is None:
            problems.append(_bad_line(f"{where}:{number}", line))
            continue
        file, label, xmin, ymin, xmax, ymax = found.groups()
        item = Slice(file, int(label), (int(xmin), int(ymin), int(xmax), int(ymax)))
        slices.append(item)
        first = first_lines.setdefault(file, number)
        if first != number:
            reason = f"{file} stands in line {first} already"
            problems.append(Problem(f"{where}:{number}", "duplicate-file", reason, "keep one line"))
        if item.label >= classes or _empty(item.box):
            problems.extend(_faults(f"{where}:{number}", item, classes))
    if not slices and not problems:
        problems.append(Problem(where, "empty-list", "it has no lines", f"list slices as `{FORM}`"))
    if problems:
        raise ConfigError(*problems)
    return tuple(slices)


def patient_and_scan(file: str) -> tuple[str, str] | None:
    """Patient and scan of a slice's file name, as ids, or None for a name of none of the known forms.

    >>> patient_and_scan("NCP_341_1834_0022.png")
    ('NCP_341', 'NCP_341_1834')
    """
    found = next(filter(None, (name.fullmatch(file) for name in NAMES)), None)
    return (found["patient"], found["scan"]) if found else None


def unknown_names(files: Iterable[str]) -> list[str]:
    """File names of which neither patient nor scan can be told, in the order given."""
    return [file for file in files if patient_and_scan(file) is None]


def shared_patients(parts: Mapping[str, Collection[str]]) -> dict[str, tuple[str, ...]]:
    """Patients of more than one part (train, val, test), with the names of their parts.

    ``parts`` are the file names of each part; names of no known form are left out.
    """
    seen: dict[str, list[str]] = {}
    for part, files in parts.items():
        known = filter(None, map(patient_and_scan, files))
        for patient in dict.fromkeys(patient for patient, _ in known):
            seen.setdefault(patient, []).append(part)
    return {patient: tuple(names) for patient, names in sorted(seen.items()) if len(names) > 1}


def _empty(box: Box) -> bool:
    xmin, ymin, xmax, ymax = box
    return xmin >= xmax or ymin >= ymax


def _bad_line(where: str, line: str) -> Problem:
    fields = line.split()
    if not fields:
        return Problem(where, "bad-line", "the line is empty", "delete it")
    if len(fields) > 6 and all(map(str.isdecimal, fields[-5:])):
        return Problem(where, "bad-line", f"there is a space in the name {line!r}", "rename the picture")
    if "/" in fields[0] or "\\" in fields[0]:
        return Problem(
            where, "bad-line", f"{fields[0]} is a path", "list names, and set `path` to their folder"
        )
    return Problem(where, "bad-line", f"{line!r} is not `{FORM}`, single spaces between", "correct the line")


def _faults(where: str, item: Slice, classes: int) -> Iterator[Problem]:
    """What is wrong with the values of a line."""
    if item.label >= classes:
        reason = f"class {item.label} of {classes}, counted from 0"
        yield Problem(where, "bad-class", reason, "correct the line, or name all classes in the catalog")
    if _empty(item.box):
        yield Problem(where, "bad-box", f"the box {item.box} is empty", "give xmin < xmax and ymin < ymax")
